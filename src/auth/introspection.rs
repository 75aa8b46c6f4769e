//! The `introspection` source: a service that says of a token whether it is active (RFC 7662).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use crate::auth::remote::{Remote, http_answer, http_client};
use crate::config::settings::{IntrospectionCredentials, IntrospectionSettings};
use crate::policy::principal::{BrokenRecord, Lifetime, TokenRecord};
use crate::policy::time::{UnixMillis, UnixSeconds};
use crate::ports::{LookUpError, Question, TokenSource, Verdict};
use crate::telemetry::metrics::Metrics;

/// A service that knows tokens.
pub struct Introspection {
    settings: IntrospectionSettings,
    max_age: Option<Duration>,
    client: reqwest::Client,
    remote: Remote,
}

/// An answer (section 2.2). `active` is a boolean and nothing else; what is missing in an active one is a broken record.
#[derive(Deserialize)]
struct Answer {
    active: bool,
    #[serde(default)]
    sub: String,
    #[serde(default)]
    workspace: String,
    #[serde(default)]
    scope: String,
    jti: Option<String>,
    exp: Option<u64>,
    iat: Option<u64>,
}

impl Introspection {
    /// Asks the service of `settings`.
    pub fn new(settings: &IntrospectionSettings, max_age: Option<Duration>, metrics: Arc<Metrics>) -> Self {
        let remote = Remote::new("introspection", "token", settings.timeout, metrics);
        Self { settings: settings.clone(), max_age, client: http_client(settings.timeout), remote }
    }

    async fn ask(&self, token: &str) -> Result<Answer, String> {
        let request = self.client.post(&self.settings.url).header("Accept", "application/json");
        let request = match &self.settings.credentials {
            IntrospectionCredentials::Basic { id, secret } => request.basic_auth(id, Some(&secret.0)),
            IntrospectionCredentials::Bearer(secret) => request.bearer_auth(&secret.0),
        };
        let body = http_answer(request.form(&[("token", token), ("token_type_hint", "access_token")])).await?;
        serde_json::from_slice(&body).map_err(|_| "the answer is no introspection response".to_owned())
    }
}

impl Answer {
    /// Without a `jti` the token's id is its digest.
    fn record(&self, question: &Question) -> Result<TokenRecord, BrokenRecord> {
        let id = self.jti.clone().unwrap_or_else(|| question.digest.to_hex());
        let life = Lifetime { created_at: self.iat.map(UnixSeconds), expires_at: self.exp.map(UnixSeconds) };
        TokenRecord::new(&id, &self.workspace, &self.sub, self.scope.split_ascii_whitespace(), life)
    }
}

#[async_trait]
impl TokenSource for Introspection {
    fn name(&self) -> &'static str {
        "introspection"
    }

    async fn look_up(&self, question: &Question, now: UnixMillis) -> Result<Verdict, LookUpError> {
        let answer = self.remote.ask(self.ask(&question.presented)).await?;
        if !answer.active {
            return Ok(Verdict::Unknown);
        }
        let record = answer.record(question).map_err(LookUpError::Broken)?;
        Ok(record.opaque(now, self.max_age).map(Arc::new).map_or_else(Verdict::Refused, Verdict::Valid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::credential::TokenDigest;

    fn read(body: &str) -> Option<Answer> {
        serde_json::from_str(body).ok()
    }

    #[test]
    fn active_is_a_boolean_and_nothing_that_looks_like_one() {
        assert!(read(r#"{"active":true}"#).is_some_and(|answer| answer.active));
        assert!(read(r#"{"active":false,"sub":"x"}"#).is_some_and(|answer| !answer.active));
        for refused in [r#"{"active":"true"}"#, r#"{"active":1}"#, "{}", r#"{"active":null}"#, "true"] {
            assert!(read(refused).is_none(), "{refused}");
        }
        assert!(read(r#"{"active":false,"active":true}"#).is_none(), "what is said twice is not believed");
    }

    #[test]
    fn an_active_answer_without_an_owner_is_broken() {
        let question = Question { digest: TokenDigest::of("t"), presented: "t".into() };
        let record = |body: &str| read(body).unwrap().record(&question);
        assert_eq!(record(r#"{"active":true,"workspace":"w"}"#), Err(BrokenRecord("user")));
        assert_eq!(record(r#"{"active":true,"sub":"u"}"#), Err(BrokenRecord("workspace")));
        assert!(record(r#"{"active":true,"sub":"u","workspace":"w","scope":"ai contacts"}"#).is_ok());
    }
}
