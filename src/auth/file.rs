//! The `file` source: digests in a YAML file, for development and tests. Read again when it changes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::config::yaml::Node;
use crate::policy::credential::TokenDigest;
use crate::policy::principal::{BrokenRecord, Lifetime, TokenRecord};
use crate::policy::time::{UnixMillis, UnixSeconds};
use crate::ports::{LookUpError, Question, TokenSource, Verdict};

/// Tokens listed in a file.
pub struct FileTokens {
    path: PathBuf,
    max_age: Option<Duration>,
    read: Mutex<Option<(Stamp, Arc<Records>)>>,
}

type Records = HashMap<TokenDigest, Result<TokenRecord, BrokenRecord>>;

/// What changes when a file is written: its time and its length.
type Stamp = (SystemTime, u64);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokensDocument {
    tokens: Vec<TokenDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenDocument {
    digest: String,
    id: serde_json::Value,
    workspace: String,
    user: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    expires_at: Option<String>,
    #[serde(default)]
    created_at: Option<String>,
    #[serde(default)]
    disabled: bool,
}

impl FileTokens {
    /// Looks tokens up in the file at `path`.
    pub fn new(path: PathBuf, max_age: Option<Duration>) -> Self {
        Self { path, max_age, read: Mutex::new(None) }
    }

    fn records(&self) -> Result<Arc<Records>, String> {
        let metadata = std::fs::metadata(&self.path).map_err(|error| error.kind().to_string())?;
        let stamp = (metadata.modified().map_err(|error| error.kind().to_string())?, metadata.len());
        let mut read = self.read.lock();
        match read.as_ref() {
            Some((known, records)) if *known == stamp => Ok(Arc::clone(records)),
            _ => {
                let text = std::fs::read_to_string(&self.path).map_err(|error| error.kind().to_string())?;
                let records = Arc::new(parse(&text)?);
                *read = Some((stamp, Arc::clone(&records)));
                Ok(records)
            }
        }
    }
}

#[async_trait]
impl TokenSource for FileTokens {
    fn name(&self) -> &'static str {
        "file"
    }

    async fn look_up(&self, question: &Question, now: UnixMillis) -> Result<Verdict, LookUpError> {
        let unreadable = |why| LookUpError::Unavailable(format!("{}: {why}", self.path.display()));
        let records = self.records().map_err(unreadable)?;
        Ok(match records.get(&question.digest) {
            Some(record) => record
                .clone()
                .map_err(LookUpError::Broken)?
                .opaque(now, self.max_age)
                .map(Arc::new)
                .map_or_else(Verdict::Refused, Verdict::Valid),
            None => Verdict::Unknown,
        })
    }
}

fn parse(text: &str) -> Result<Records, String> {
    let mut problems = Vec::new();
    let tree = Node::parse(text, &mut problems);
    if let Some(problem) = problems.first() {
        return Err(format!("line {}: {}", problem.place.line, problem.message));
    }
    let document: TokensDocument = serde_json::from_value(tree.map(|tree| tree.to_json()).unwrap_or_default())
        .map_err(|error| error.to_string())?;
    document.tokens.iter().map(entry).collect()
}

/// One token. A digest or a time that is none makes the file unreadable; a record without usable names makes that token's requests fail.
fn entry(token: &TokenDocument) -> Result<(TokenDigest, Result<TokenRecord, BrokenRecord>), String> {
    let digest = TokenDigest::from_hex(&token.digest).ok_or("a digest is 64 hexadecimal digits")?;
    let id = token.id.as_str().map_or_else(|| token.id.to_string(), str::to_owned);
    let life =
        Lifetime { created_at: time(token.created_at.as_deref())?, expires_at: time(token.expires_at.as_deref())? };
    let scopes = token.scopes.iter().map(String::as_str);
    let record = TokenRecord::new(&id, &token.workspace, &token.user, scopes, life);
    Ok((digest, record.map(|record| record.disabled(token.disabled))))
}

fn time(text: Option<&str>) -> Result<Option<UnixSeconds>, String> {
    text.map(|text| {
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| format!("`{text}` is not a time of RFC 3339"))?;
        u64::try_from(time.unix_timestamp()).map(UnixSeconds).map_err(|_| format!("`{text}` is before 1970"))
    })
    .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "mb_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789abcd";

    async fn look_up(source: &FileTokens) -> String {
        let question = Question { digest: TokenDigest::of(TOKEN), presented: TOKEN.into() };
        match source.look_up(&question, UnixMillis(1_700_000_000_000)).await {
            Ok(Verdict::Valid(principal)) => format!("{} {}", principal.workspace(), principal.scopes()),
            Ok(Verdict::Refused(problem)) => format!("{problem:?}"),
            Ok(Verdict::Unknown) => "unknown".into(),
            Err(error) => format!("error: {}", error.to_string().rsplit("tokens.yaml: ").next().unwrap()),
        }
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again_and_a_broken_one_is_an_error_and_not_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.yaml");
        let source = FileTokens::new(path.clone(), None);
        let digest = TokenDigest::of(TOKEN).to_hex();
        assert_eq!(look_up(&source).await, "error: entity not found");
        for (text, expected) in [
            ("tokens: []".to_owned(), "unknown"),
            (format!("tokens: [{{digest: {digest}, id: 7, workspace: w, user: u, scopes: [ai]}}]"), "w ai"),
            (
                format!(
                    "tokens: [{{digest: {digest}, id: 7, workspace: w, user: u, expires_at: \"2020-01-01T00:00:00Z\"}}]"
                ),
                "Expired",
            ),
            (
                format!("tokens: [{{digest: {digest}, id: 7, workspace: w, user: u, disabled: true, scopes: [aa]}}]"),
                "Disabled",
            ),
            (
                "tokens: [{digest: x, id: 1, workspace: w, user: u}]".to_owned(),
                "error: a digest is 64 hexadecimal digits",
            ),
            ("tokens: [".to_owned(), "error: line 2"),
        ] {
            std::fs::write(&path, &text).unwrap();
            assert!(look_up(&source).await.starts_with(expected), "{text}: {}", look_up(&source).await);
        }
    }
}
