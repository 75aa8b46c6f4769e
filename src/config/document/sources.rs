//! Who knows tokens.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::units::{Secret, Span};

/// One of `auth.sources:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceDocument {
    /// `mb_` + JWT, verified here.
    Signed(SignedDocument),
    /// A hash for each token in Redis, written by the application.
    Redis(RedisSourceDocument),
    /// Laravel's own table, in MySQL, MariaDB or PostgreSQL.
    Sql(SqlSourceDocument),
    /// A service that says of a token whether it is active (RFC 7662).
    Introspection(IntrospectionSourceDocument),
    /// Digests in a file.
    File(FileSourceDocument),
}

/// `signed:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = [{"required": ["keys"]}, {"required": ["jwks"]}]))]
pub struct SignedDocument {
    /// The `iss` of our tokens.
    #[schemars(length(min = 1))]
    pub issuer: String,
    /// The `aud` of our tokens.
    #[schemars(length(min = 1))]
    pub audience: String,
    /// How far clocks may differ.
    #[serde(default)]
    #[schemars(extend("default" = "30s"))]
    pub leeway: Option<Span>,
    /// The keys tokens may be signed with.
    #[serde(default)]
    pub keys: Vec<KeyDocument>,
    /// Where more of them are published.
    #[serde(default)]
    pub jwks: Option<JwksDocument>,
}

/// `jwks:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JwksDocument {
    /// A JWK Set (RFC 7517) by https, or by http from this machine.
    pub url: String,
    /// How often it is read again.
    #[serde(default)]
    #[schemars(extend("default" = "5m"))]
    pub refresh: Option<Span>,
}

/// One of `keys:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["secret"]},
    {"required": ["secret_file"]},
    {"required": ["public_key"]},
    {"required": ["public_key_file"]},
]))]
pub struct KeyDocument {
    /// The `kid` of tokens signed with it.
    pub id: String,
    /// The one algorithm it is used with.
    pub algorithm: AlgorithmDocument,
    /// The secret of HS256, at least 32 bytes.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// A file that holds the secret.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// The public key in PEM.
    #[serde(default)]
    pub public_key: Option<String>,
    /// A file that holds the public key in PEM.
    #[serde(default)]
    pub public_key_file: Option<PathBuf>,
}

/// `algorithm:`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names of RFC 7518 and RFC 8037")]
pub enum AlgorithmDocument {
    HS256,
    RS256,
    ES256,
    EdDSA,
}

/// `redis:` as a token source
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisSourceDocument {
    /// In front of the digest, as it stands (redis.key_prefix is not added).
    pub key_prefix: String,
}

impl Default for RedisSourceDocument {
    fn default() -> Self {
        Self { key_prefix: "mb:token:".to_owned() }
    }
}

/// `sql:` as a token source
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["url"]}, {"required": ["url_file"]}]))]
pub struct SqlSourceDocument {
    /// `mysql://…` or `postgres://…`
    #[serde(default)]
    pub url: Option<Secret>,
    /// A file that holds the url.
    #[serde(default)]
    pub url_file: Option<PathBuf>,
    /// Takes the digest (`?` or `$1`) and returns id, workspace, user, abilities, expires_at, created_at and disabled.
    #[serde(default)]
    pub query: Option<String>,
    /// For one look-up.
    #[serde(default)]
    #[schemars(extend("default" = "500ms"))]
    pub timeout: Option<Span>,
    /// How many connections there are at the most.
    #[serde(default)]
    #[schemars(range(min = 1), extend("default" = 16))]
    pub pool: Option<u32>,
    /// Whether last_used_at is kept up to date, in batches.
    #[serde(default)]
    pub last_used_at: bool,
}

/// `introspection:` as a token source
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["secret"]},
    {"required": ["secret_file"]},
    {"required": ["client_id", "client_secret"]},
    {"required": ["client_id", "client_secret_file"]},
]))]
pub struct IntrospectionSourceDocument {
    /// The endpoint, by https, or by http on this machine.
    pub url: String,
    /// The gateway's name there, for HTTP Basic.
    #[serde(default)]
    pub client_id: Option<String>,
    /// Its password, for HTTP Basic.
    #[serde(default)]
    pub client_secret: Option<Secret>,
    /// A file that holds the password.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// A bearer token, instead of HTTP Basic.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// A file that holds the bearer token.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// For one question.
    #[serde(default)]
    #[schemars(extend("default" = "500ms"))]
    pub timeout: Option<Span>,
}

/// `file:` as a token source
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSourceDocument {
    /// YAML with `tokens:`.
    pub path: PathBuf,
}
