//! The `redis` source: a hash for each token, written by the application.
//!
//! `<key_prefix><sha256 hex>` with `id workspace user scopes` (space-separated) and optionally `expires_at created_at` (Unix
//! seconds) and `disabled` (1). A missing hash is an unknown token.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::policy::principal::{BrokenRecord, Lifetime, TokenRecord};
use crate::policy::time::{UnixMillis, UnixSeconds};
use crate::ports::{LookUpError, Question, TokenSource, Verdict};
use crate::redis::{Link, QueryError};

/// The longest wait for one look-up.
const DEADLINE: Duration = Duration::from_millis(500);

/// Tokens that the application has written to Redis.
pub struct RedisTokens {
    link: Arc<Link>,
    key_prefix: String,
    max_age: Option<Duration>,
}

impl RedisTokens {
    /// Looks tokens up through `link`.
    pub fn new(link: Arc<Link>, key_prefix: String, max_age: Option<Duration>) -> Self {
        Self { link, key_prefix, max_age }
    }
}

#[async_trait]
impl TokenSource for RedisTokens {
    fn name(&self) -> &'static str {
        "redis"
    }

    async fn look_up(&self, question: &Question, now: UnixMillis) -> Result<Verdict, LookUpError> {
        let key = format!("{}{}", self.key_prefix, question.digest.to_hex());
        let mut command = redis::cmd("HGETALL");
        command.arg(&key);
        let answer: Result<HashMap<String, String>, _> = self.link.query("token", &key, &command, DEADLINE).await;
        let fields = answer.map_err(|error| match error {
            QueryError::Failed(error) if is_no_record(&error) => LookUpError::Broken(BrokenRecord("hash")),
            error => LookUpError::Unavailable(format!("Redis: {error}")),
        })?;
        if fields.is_empty() {
            return Ok(Verdict::Unknown);
        }
        let record = record(&fields).map_err(LookUpError::Broken)?;
        Ok(record.opaque(now, self.max_age).map(Arc::new).map_or_else(Verdict::Refused, Verdict::Valid))
    }
}

/// What stands under the key is no hash of texts.
fn is_no_record(error: &redis::RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
        || matches!(error.kind(), redis::ErrorKind::UnexpectedReturnType | redis::ErrorKind::Parse)
}

fn record(fields: &HashMap<String, String>) -> Result<TokenRecord, BrokenRecord> {
    let text = |name| fields.get(name).map(String::as_str).unwrap_or_default();
    let time = |name| match text(name) {
        "" => Ok(None),
        seconds => seconds.parse().map(|seconds| Some(UnixSeconds(seconds))).map_err(|_| BrokenRecord(name)),
    };
    let life = Lifetime { created_at: time("created_at")?, expires_at: time("expires_at")? };
    let is_disabled = !matches!(text("disabled"), "" | "0");
    let scopes = text("scopes").split_ascii_whitespace();
    Ok(TokenRecord::new(text("id"), text("workspace"), text("user"), scopes, life)?.disabled(is_disabled))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &str)]) -> Result<TokenRecord, BrokenRecord> {
        record(&fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn a_hash_is_a_record() {
        let read =
            read(&[("id", "7"), ("workspace", "w"), ("user", "u"), ("scopes", "ai contacts"), ("expires_at", "50")]);
        let life = Lifetime { created_at: None, expires_at: Some(UnixSeconds(50)) };
        assert_eq!(read, TokenRecord::new("7", "w", "u", ["contacts", "ai"], life));
    }

    #[test]
    fn a_hash_that_makes_no_sense_is_broken_and_not_unknown() {
        assert_eq!(read(&[("id", "7")]), Err(BrokenRecord("workspace")));
        let times = [("id", "7"), ("workspace", "w"), ("user", "u"), ("expires_at", "2027-01-01")];
        assert_eq!(read(&times), Err(BrokenRecord("expires_at")));
    }
}
