//! The shared store.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::units::{Secret, Span};

/// `redis:`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("not" = {"required": ["url", "url_file"]}))]
pub struct RedisDocument {
    /// `redis://[user:password@]host:port[/db]`, `redis+sentinel://host:port,host:port/service`, `redis+cluster://host:port,host:port`, or
    /// `rediss…` for TLS; empty for none.
    #[schemars(example = "redis://127.0.0.1:6379")]
    pub url: Option<Secret>,
    /// A file that holds the url.
    pub url_file: Option<PathBuf>,
    /// A file that holds the password, read again before each connect.
    pub password_file: Option<PathBuf>,
    /// For a `rediss://` url.
    pub tls: LinkTlsDocument,
    /// For one decision; then `on_store_failure` decides.
    #[schemars(extend("default" = "25ms"))]
    pub deadline: Option<Span>,
    /// In front of every key.
    #[schemars(regex(pattern = "^[^{}]*$"), extend("default" = "mb:"))]
    pub key_prefix: Option<String>,
}

/// `redis.tls:`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LinkTlsDocument {
    /// Certificates to trust instead of the machine's own, in PEM.
    pub ca: Option<PathBuf>,
    /// The certificate to show, in PEM.
    pub certificate: Option<PathBuf>,
    /// Its key, in PEM.
    pub key: Option<PathBuf>,
}
