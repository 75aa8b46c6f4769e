//! Listeners and what is on them, and the admin listener.

use std::path::PathBuf;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::networks;

/// One of `listeners:`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerDocument {
    /// `ip:port`: `0.0.0.0:8080`, `[::]:8080`.
    #[schemars(
        regex(pattern = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$"),
        example = "0.0.0.0:8080"
    )]
    pub address: String,
    /// Certificates, for an encrypted one.
    #[serde(default)]
    pub tls: Option<TlsDocument>,
    /// HTTP/2: by ALPN on an encrypted listener, and on a plain one not, unless this says otherwise.
    #[serde(default)]
    pub http2: Option<Http2Document>,
    /// Load balancers in front, whose connections begin with a PROXY protocol header (v1 or v2); nobody else's may.
    #[serde(default, deserialize_with = "networks")]
    #[schemars(with = "Vec<String>", inner(regex(pattern = "^[0-9A-Fa-f:.]+/[0-9]{1,3}$")), example = ["10.0.0.0/8"])]
    pub proxy_protocol: Vec<IpNet>,
}

/// `http2:`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Http2Document {
    /// On a plain listener, with clients that know it beforehand (h2c).
    Cleartext,
    /// Not at all.
    Off,
}

/// `tls:` of a listener
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsDocument {
    /// A file in PEM: the certificate, then its chain.
    pub certificate: PathBuf,
    /// A file in PEM: its key.
    pub key: PathBuf,
    /// More of them, chosen by the host that a client names.
    #[serde(default)]
    pub certificates: Vec<CertificateDocument>,
    /// The oldest version that is spoken.
    #[serde(default)]
    pub min_version: MinVersionDocument,
    /// A file in PEM: who signs the certificates that clients then have to show.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// One of `certificates:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateDocument {
    /// A file in PEM: the certificate, then its chain.
    pub certificate: PathBuf,
    /// A file in PEM: its key.
    pub key: PathBuf,
}

/// `min_version:`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub enum MinVersionDocument {
    /// TLS 1.2
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3
    #[serde(rename = "1.3")]
    Tls13,
}

/// `admin:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminDocument {
    /// `ip:port`, where only those reach it who may.
    #[schemars(
        regex(pattern = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$"),
        example = "127.0.0.1:9090"
    )]
    pub address: String,
}

/// `console:`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsoleDocument {
    /// Whether there is one.
    pub enabled: bool,
    /// Whether it names the busiest workspaces.
    pub workspaces: bool,
}

impl Default for ConsoleDocument {
    fn default() -> Self {
        Self { enabled: true, workspaces: false }
    }
}
