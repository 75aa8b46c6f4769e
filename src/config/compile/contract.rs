//! `errors.contract` → how success bodies are watched.

use crate::config::compile::Compiler;
use crate::config::document::{ContractDocument, ErrorsDocument};
use crate::policy::contract::Watch;

impl Compiler<'_> {
    pub(super) fn contract(&mut self, document: &ErrorsDocument) -> Option<Watch> {
        let sample = document.contract_sample;
        if !(sample > 0.0 && sample <= 1.0) {
            self.error(&["errors", "contract_sample"], "errors.contract_sample is above 0 and at most 1").hint =
                Some("0.01 looks at one body in a hundred; `contract: off` looks at none".into());
        }
        let bytes = self.size(&["errors", "contract_bytes"], document.contract_bytes, 1 << 10, 16 << 20);
        match document.contract {
            ContractDocument::Off => None,
            ContractDocument::Watch => Some(Watch { sample, bytes }),
        }
    }
}
