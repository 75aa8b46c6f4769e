//! What clients may send, and what they are told.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::{Bytes, Span};

/// `request:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequestDocument {
    /// Bytes of request line and headers.
    pub header_bytes: Bytes,
    /// Number of header fields.
    #[schemars(range(min = 1, max = 256))]
    pub headers: usize,
    /// Bytes of body; a route may set its own.
    pub body_bytes: Bytes,
    /// From the first byte to the complete head.
    pub header_timeout: Span,
    /// Between two reads of a body.
    pub body_timeout: Span,
    /// Keep-alive without a request.
    pub idle_timeout: Span,
    /// Open connections.
    #[schemars(range(min = 1))]
    pub connections: usize,
    /// Requests at the same time; above it 503 at once.
    #[schemars(range(min = 1))]
    pub in_flight: usize,
}

impl Default for RequestDocument {
    fn default() -> Self {
        use std::time::Duration;
        Self {
            header_bytes: Bytes(16 << 10),
            headers: 100,
            body_bytes: Bytes(2 << 20),
            header_timeout: Span(Duration::from_secs(10)),
            body_timeout: Span(Duration::from_secs(30)),
            idle_timeout: Span(Duration::from_secs(60)),
            connections: 10_000,
            in_flight: 4_096,
        }
    }
}

/// `rate_limit_headers:`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimitHeadersDocument {
    /// RateLimit and RateLimit-Policy of draft-ietf-httpapi-ratelimit-headers as well.
    pub ietf: bool,
}

/// `rate_limit_endpoint:`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimitEndpointDocument {
    /// Below `base_path`; empty for none.
    #[schemars(extend("default" = "/rate-limits"))]
    pub path: Option<String>,
}

/// `cors:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["origins"]))]
pub struct CorsDocument {
    /// Exact origins, or `*` alone.
    #[schemars(length(min = 1), example = ["https://app.example.com"])]
    pub origins: Vec<String>,
    /// What their pages may do.
    #[schemars(extend("items" = {"enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]}))]
    pub methods: Vec<String>,
    /// Which fields they may send.
    pub headers: Vec<String>,
    /// Which fields they may read.
    pub expose: Vec<String>,
    /// Whether browsers send cookies and the like.
    pub credentials: bool,
    /// How long a browser may remember what it was told.
    pub max_age: Span,
}

impl Default for CorsDocument {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            origins: Vec::new(),
            methods: names(&["GET", "POST", "PUT", "PATCH", "DELETE"]),
            headers: names(&["Authorization", "Content-Type", "X-Request-Id"]),
            expose: names(&[
                "X-Request-Id",
                "X-RateLimit-Limit",
                "X-RateLimit-Remaining",
                "X-RateLimit-Reset",
                "Retry-After",
            ]),
            credentials: false,
            max_age: Span(std::time::Duration::from_secs(600)),
        }
    }
}

/// `errors:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ErrorsDocument {
    /// What happens to a backend's own error bodies.
    pub backend: BackendErrorsDocument,
    /// At most this much of one is read.
    pub body_bytes: Bytes,
    /// Whether success bodies are looked at.
    pub contract: ContractDocument,
    /// The part of them that is, above 0 and up to 1.
    pub contract_sample: f64,
    /// A longer one is not.
    pub contract_bytes: Bytes,
}

impl Default for ErrorsDocument {
    fn default() -> Self {
        Self {
            backend: BackendErrorsDocument::Normalise,
            body_bytes: Bytes(64 << 10),
            contract: ContractDocument::Off,
            contract_sample: 0.01,
            contract_bytes: Bytes(256 << 10),
        }
    }
}

/// `errors.contract`
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContractDocument {
    /// They pass unseen.
    Off,
    /// A sample of them is judged when it has passed.
    Watch,
}

/// `errors.backend`
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackendErrorsDocument {
    /// They become envelopes.
    Normalise,
    /// They pass untouched.
    Pass,
}
