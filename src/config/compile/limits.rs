//! `limits:` — how many requests whom.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::config::compile::{Compiler, Named, is_plain_name};
use crate::config::document::{ByDocument, LimitDocument, OnStoreFailureDocument};
use crate::policy::limit::{CountedBy, Limit, OnStoreFailure};

/// The most that a 64-bit float, which Lua counts in, and a header reader take without trouble.
const MOST_REQUESTS: u32 = 1_000_000_000;
const LONGEST_WINDOW: Duration = Duration::from_secs(31 * 24 * 3600);

impl Compiler<'_> {
    pub(super) fn limits(&mut self, documents: &BTreeMap<String, LimitDocument>) -> Named<Limit> {
        documents.iter().map(|(name, document)| (name.clone(), Arc::new(self.limit(name, document)))).collect()
    }

    fn limit(&mut self, name: &str, document: &LimitDocument) -> Limit {
        let path = |key| ["limits", name, key];
        if name == "none" || !is_plain_name(name) {
            self.error(&["limits", name], format!("a limit cannot be called `{name}`")).hint =
                Some("letters, digits, `-`, `_` and `.`; `none` means no limit".into());
        }
        if !(1..=MOST_REQUESTS).contains(&document.requests) {
            self.error(&path("requests"), format!("a limit lets 1 to {MOST_REQUESTS} requests pass"));
        }
        let window = document.per.0;
        if !(Duration::from_secs(1)..=LONGEST_WINDOW).contains(&window) || window.subsec_nanos() != 0 {
            self.error(&path("per"), "a window is 1s to 31d, in whole seconds");
        }
        Limit {
            name: name.into(),
            requests: document.requests,
            window,
            by: match document.by {
                ByDocument::Workspace => CountedBy::Workspace,
                ByDocument::User => CountedBy::User,
                ByDocument::Token => CountedBy::Token,
                ByDocument::ClientIp => CountedBy::ClientIp,
            },
            on_store_failure: match document.on_store_failure {
                OnStoreFailureDocument::Local => OnStoreFailure::Local,
                OnStoreFailureDocument::Allow => OnStoreFailure::Allow,
                OnStoreFailureDocument::Deny => OnStoreFailure::Deny,
            },
            requests_header: HeaderValue::from(document.requests),
        }
    }
}
