//! Keys that an issuer publishes (a JWK Set, RFC 7517): fetched in the background, and again for a key that nobody has seen.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::jwk::Jwk;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::auth::remote::{Remote, http_answer, http_client};
use crate::config::settings::JwksSettings;
use crate::policy::signed::{KeySet, VerifyingKey};
use crate::policy::time::UnixMillis;
use crate::ports::{Clock, LookUpError};
use crate::telemetry::metrics::Metrics;

const TIMEOUT: Duration = Duration::from_secs(2);
/// How often unknown keys may have the set fetched out of turn: anybody can name keys that do not exist.
const DEMAND_EVERY: Duration = Duration::from_secs(30);
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The keys of one address, together with those that do not change.
pub(super) struct PublishedKeys {
    settings: JwksSettings,
    fixed: KeySet,
    keys: ArcSwap<KeySet>,
    since: AtomicU64,
    wanted: Notify,
    last: watch::Sender<Option<Fetch>>,
    demanded: Mutex<Option<Demand>>,
    client: reqwest::Client,
    remote: Remote,
    clock: Arc<dyn Clock>,
}

/// Which fetch has ended, and how.
#[derive(Clone, Copy)]
struct Fetch {
    number: u64,
    succeeded: bool,
}

/// When an unknown key last had the set fetched, and which fetch was the last one then.
#[derive(Clone, Copy)]
struct Demand {
    at: UnixMillis,
    after: u64,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<serde_json::Value>,
}

impl PublishedKeys {
    /// Starts fetching, which ends when this is dropped.
    pub(super) fn start(
        settings: JwksSettings,
        fixed: KeySet,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let published = Arc::new(Self {
            settings,
            keys: ArcSwap::from_pointee(fixed.clone()),
            fixed,
            since: AtomicU64::new(0),
            wanted: Notify::new(),
            last: watch::Sender::new(None),
            demanded: Mutex::default(),
            client: http_client(TIMEOUT),
            remote: Remote::new("jwks", "fetch", TIMEOUT, metrics),
            clock,
        });
        tokio::spawn(keep(Arc::downgrade(&published)));
        published
    }

    /// All keys there are.
    pub(super) fn keys(&self) -> Arc<KeySet> {
        self.keys.load_full()
    }

    /// When a key was last taken away.
    pub(super) fn since(&self) -> UnixMillis {
        UnixMillis(self.since.load(Ordering::Acquire))
    }

    /// Waits for the first fetch, however it goes.
    pub(super) async fn settle(&self) {
        // The sender is ours, so it is there.
        let _ = self.last.subscribe().wait_for(Option::is_some).await;
    }

    /// Has the keys fetched again, unless that was done a moment ago. An error while nobody can say which keys there are.
    pub(super) async fn renew(&self) -> Result<(), LookUpError> {
        let mut fetches = self.last.subscribe();
        let last = *fetches.borrow_and_update();
        let fetch = match last {
            Some(fetch) if !fetch.succeeded || !self.is_fetched_after(fetch) => fetch,
            _ => {
                let fetched = timeout(TIMEOUT, fetches.changed()).await;
                fetched.ok().and(*fetches.borrow()).ok_or_else(|| self.unavailable())?
            }
        };
        if fetch.succeeded { Ok(()) } else { Err(self.unavailable()) }
    }

    /// Whether a fetch that somebody demanded after `last` is under way; demands it where that is allowed.
    fn is_fetched_after(&self, last: Fetch) -> bool {
        let now = self.clock.steady();
        let mut demanded = self.demanded.lock();
        if demanded.is_some_and(|demand| now.since(demand.at) < DEMAND_EVERY) {
            return demanded.is_some_and(|demand| demand.after == last.number);
        }
        *demanded = Some(Demand { at: now, after: last.number });
        self.wanted.notify_one();
        true
    }

    fn unavailable(&self) -> LookUpError {
        LookUpError::Unavailable(format!("no keys from {}", self.settings.url))
    }

    async fn fetch(&self) -> Result<(), LookUpError> {
        let question = async { read(&http_answer(self.client.get(&self.settings.url)).await?) };
        let published = self.remote.ask(question).await?;
        let mut keys = self.fixed.0.clone();
        keys.extend(published.into_iter().filter(|key| self.fixed.0.iter().all(|fixed| fixed.id() != key.id())));
        let keys = KeySet(keys);
        let before = self.keys.swap(Arc::new(keys.clone()));
        if before.0.iter().any(|key| !keys.0.contains(key)) {
            self.since.store(self.clock.steady().0 + 1, Ordering::Release);
        }
        Ok(())
    }
}

/// Fetches now, then as often as configured, when a key is wanted, and after a failure soon again.
async fn keep(published: Weak<PublishedKeys>) {
    let (mut failures, mut number) = (0_u32, 0_u64);
    while let Some(strong) = published.upgrade() {
        // What went wrong has been told; what was known stays.
        failures = if strong.fetch().await.is_ok() { 0 } else { failures + 1 };
        number += 1;
        strong.last.send_replace(Some(Fetch { number, succeeded: failures == 0 }));
        let backoff = SHORTEST_PAUSE.saturating_mul(1 << failures.clamp(1, 6) >> 1).min(LONGEST_PAUSE);
        let pause = if failures == 0 { strong.settings.refresh } else { backoff };
        drop(strong);
        wait(&published, pause.mul_f64(0.9 + fastrand::f64() / 5.0)).await;
    }
}

/// Waits for `pause`, or until a key is wanted; looks now and then whether anybody is left.
async fn wait(published: &Weak<PublishedKeys>, pause: Duration) {
    let ends = tokio::time::Instant::now() + pause;
    while let Some(strong) = published.upgrade() {
        let left = ends.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() || timeout(left.min(SHORTEST_PAUSE), strong.wanted.notified()).await.is_ok() {
            return;
        }
    }
}

/// The usable keys of a document; keys for other purposes are passed over, and a document without any is none.
fn read(body: &[u8]) -> Result<Vec<VerifyingKey>, String> {
    let document: Document = serde_json::from_slice(body).map_err(|_| "the answer is no JWK Set".to_owned())?;
    let usable = |jwk: serde_json::Value| VerifyingKey::from_jwk(&serde_json::from_value::<Jwk>(jwk).ok()?);
    let keys: Vec<VerifyingKey> = document.keys.into_iter().filter_map(usable).collect();
    if keys.is_empty() { Err("the JWK Set has no key that could be used".to_owned()) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_document_the_usable_keys_are_read_and_one_without_any_is_refused() {
        let ed = r#"{"kty":"OKP","crv":"Ed25519","kid":"b","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
        let mixed = format!(r#"{{"keys":[{{"kty":"future","kid":"a"}},{ed},7]}}"#);
        assert_eq!(read(mixed.as_bytes()).unwrap().iter().map(VerifyingKey::id).collect::<Vec<_>>(), ["b"]);
        for refused in [r#"{"keys":[]}"#, r#"{"keys":[{"kty":"future"}]}"#, "{}", "<html>"] {
            assert!(read(refused.as_bytes()).is_err(), "{refused}");
        }
    }
}
