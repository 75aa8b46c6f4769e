//! `limits:` — how many requests whom.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::config::compile::{Compiler, Named, is_plain_name};
use crate::config::document::{
    AlgorithmOfLimitDocument, ByDocument, LimitDocument, ModeDocument, OnStoreFailureDocument,
};
use crate::policy::limit::{CountedBy, Limit, Mode, OnStoreFailure};
use crate::policy::meter::{Algorithm, Rate};
use crate::policy::time::millis;

/// More than any workspace sends, and still a number that every reader of a header takes.
const MOST_REQUESTS: u32 = 1_000_000_000;
/// Requests times the milliseconds of their window: what `gcra` counts stays exact in the 64-bit floats of Lua.
const MOST_EXACT: u64 = 1 << 53;
/// Every request of a log is kept.
const MOST_LOGGED: u32 = 10_000;
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
            self.error(
                &path("requests"),
                format!("a limit lets 1 to {MOST_REQUESTS} requests pass, not {}", document.requests),
            );
        }
        let window = document.per.0;
        if !(Duration::from_secs(1)..=LONGEST_WINDOW).contains(&window) || window.subsec_nanos() != 0 {
            let message =
                format!("a window is 1s to 31d, in whole seconds, not {}", humantime::format_duration(window));
            self.error(&path("per"), message);
        }
        let (algorithm, requests) = (self.algorithm(name, document), document.requests);
        let capacity = document.burst.unwrap_or(requests);
        Limit {
            name: name.into(),
            rate: Rate { algorithm, requests, capacity, window },
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
            mode: match document.mode {
                ModeDocument::Enforce => Mode::Enforce,
                ModeDocument::Shadow => Mode::Shadow,
            },
            requests_header: HeaderValue::from(document.requests),
        }
    }

    fn algorithm(&mut self, name: &str, document: &LimitDocument) -> Algorithm {
        let path = |key| ["limits", name, key];
        let algorithm = match document.algorithm {
            AlgorithmOfLimitDocument::FixedWindow => Algorithm::FixedWindow,
            AlgorithmOfLimitDocument::SlidingLog => Algorithm::SlidingLog,
            AlgorithmOfLimitDocument::Gcra => Algorithm::Gcra,
        };
        if algorithm == Algorithm::SlidingLog && document.requests > MOST_LOGGED {
            self.error(
                &path("requests"),
                format!("a sliding_log remembers every request: {MOST_LOGGED} at the most"),
            )
            .hint = Some("use `algorithm: gcra`, which remembers two numbers".into());
        }
        let counts_up_to = millis(document.per.0).saturating_mul(document.requests.into());
        if algorithm == Algorithm::Gcra && counts_up_to > MOST_EXACT {
            self.error(&path("requests"), "gcra cannot count so many requests in so long a window").hint =
                Some(format!("at most {} in this one", MOST_EXACT / millis(document.per.0).max(1)));
        }
        match document.burst {
            Some(_) if algorithm != Algorithm::Gcra && !self.is_struck(&path("algorithm")) => {
                self.error(&path("burst"), "only a limit with `algorithm: gcra` has a burst").hint =
                    Some("add `algorithm: gcra`, or take `burst` out".into());
            }
            Some(burst) if burst == 0 || burst > document.requests => {
                self.error(&path("burst"), format!("a burst is 1 to `requests`, which is {}", document.requests));
            }
            _ => {}
        }
        algorithm
    }
}
