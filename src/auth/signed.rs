//! The `signed` source: tokens verified here, under keys of the configuration and keys that the issuer publishes.

use std::sync::Arc;

use crate::auth::jwks::PublishedKeys;
use crate::config::settings::JwksSettings;
use crate::policy::principal::Principal;
use crate::policy::refusal::TokenProblem;
use crate::policy::signed::{Expected, KeySet};
use crate::policy::time::UnixMillis;
use crate::ports::{Clock, LookUpError};
use crate::telemetry::metrics::Metrics;

/// One issuer.
pub(super) struct SignedSource {
    expected: Expected,
    keys: KeySet,
    published: Option<Arc<PublishedKeys>>,
}

impl SignedSource {
    /// Verifies under `keys`, and under those published at `jwks`, which are fetched from now on.
    pub(super) fn start(
        expected: Expected,
        keys: KeySet,
        jwks: Option<JwksSettings>,
        clock: &Arc<dyn Clock>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let published =
            jwks.map(|jwks| PublishedKeys::start(jwks, keys.clone(), Arc::clone(clock), Arc::clone(metrics)));
        Self { expected, keys, published }
    }

    /// Waits until published keys have been asked for once.
    pub(super) async fn settle(&self) {
        if let Some(published) = &self.published {
            published.settle().await;
        }
    }

    /// Since when the keys have been what they are; what was verified before that may have been verified under a key that is gone.
    pub(super) fn keys_since(&self) -> UnixMillis {
        self.published.as_ref().map(|published| published.since()).unwrap_or_default()
    }

    /// Verifies a token. One that names an unknown key has the published keys fetched again, as often as that is allowed.
    pub(super) async fn verify(
        &self,
        jwt: &str,
        now: UnixMillis,
    ) -> Result<Result<Principal, TokenProblem>, LookUpError> {
        let Some(published) = &self.published else { return Ok(self.keys.verify(&self.expected, jwt, now)) };
        match published.keys().verify(&self.expected, jwt, now) {
            Err(TokenProblem::UnknownKey) => {
                published.renew().await?;
                Ok(published.keys().verify(&self.expected, jwt, now))
            }
            verified => Ok(verified),
        }
    }
}
