//! gateway.yaml as it is written: one struct a section, one field a key, unknown keys are errors.
//!
//! Nothing is decided here. [`crate::config::compile`] turns a [`Document`] into the rules.

mod auth;
mod clients;
mod limits;
mod listeners;
mod observability;
mod process;
mod routes;
mod sources;
mod store;
mod upstreams;

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::units::{Threads, networks};

pub use auth::{AuthDocument, CacheDocument, ChecksumDocument, FailuresDocument, LookUpsDocument};
pub use clients::{
    BackendErrorsDocument, ContractDocument, CorsDocument, ErrorsDocument, RateLimitEndpointDocument,
    RateLimitHeadersDocument, RequestDocument,
};
pub use limits::{AlgorithmOfLimitDocument, ByDocument, LimitDocument, ModeDocument, OnStoreFailureDocument};
pub use listeners::{
    AdminDocument, CertificateDocument, ConsoleDocument, Http2Document, ListenerDocument, MinVersionDocument,
    TlsDocument,
};
pub use observability::{
    FormatDocument, LevelDocument, LogDocument, ObservabilityDocument, ParentDocument, TracingDocument,
};
pub use process::{HandOverDocument, ShutdownDocument};
pub use routes::{AccessDocument, PaginationDocument, RouteDocument, RouteTimeoutsDocument};
pub use sources::{
    AlgorithmDocument, FileSourceDocument, IntrospectionSourceDocument, JwksDocument, KeyDocument, RedisSourceDocument,
    SignedDocument, SourceDocument, SqlSourceDocument,
};
pub use store::{LinkTlsDocument, RedisDocument};
pub use upstreams::{
    BalanceDocument, CircuitDocument, EjectDocument, HealthDocument, ServerHttp2Document, ServerTlsDocument,
    TimeoutsDocument, UpstreamDocument,
};

/// The whole file.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["version", "listeners", "routes"]))]
pub struct Document {
    /// The version of this format: 1.
    #[serde(default)]
    #[schemars(extend("const" = 1))]
    pub version: Option<u32>,
    /// Worker threads: `auto` is one a core.
    #[serde(default)]
    pub threads: Threads,
    /// Where clients connect.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub listeners: Vec<ListenerDocument>,
    /// The console, /metrics, /livez and /readyz; never on a public listener.
    #[serde(default)]
    #[schemars(extend("default" = {"address": "127.0.0.1:9090"}))]
    pub admin: Option<AdminDocument>,
    /// What the console shows, at / of the admin listener.
    #[serde(default)]
    pub console: ConsoleDocument,
    /// Every route's path is below it.
    #[serde(default)]
    #[schemars(regex(pattern = "^(/|$)"), extend("default" = ""), example = "/api/v1")]
    pub base_path: Option<String>,
    /// Networks whose X-Forwarded-For and X-Forwarded-Proto are believed.
    #[serde(default, deserialize_with = "networks")]
    #[schemars(with = "Vec<String>", inner(regex(pattern = "^[0-9A-Fa-f:.]+/[0-9]{1,3}$")), example = ["10.0.0.0/8"])]
    pub trusted_proxies: Vec<IpNet>,
    /// What a client may send, before anything else is looked at.
    #[serde(default)]
    pub request: RequestDocument,
    /// The shared store; without a url, counts are kept in memory.
    #[serde(default)]
    pub redis: RedisDocument,
    /// How tokens look and who knows them.
    #[serde(default)]
    pub auth: AuthDocument,
    /// Every scope that a route may ask for.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Name → limit.
    #[serde(default)]
    #[schemars(extend("propertyNames" = {"pattern": "^[A-Za-z0-9._-]{1,64}$", "not": {"const": "none"}}))]
    pub limits: BTreeMap<String, LimitDocument>,
    /// What is told about limits beside X-RateLimit-*.
    #[serde(default)]
    pub rate_limit_headers: RateLimitHeadersDocument,
    /// Where callers ask for their limits.
    #[serde(default)]
    pub rate_limit_endpoint: RateLimitEndpointDocument,
    /// Which pages of other origins may call from a browser; nothing is said about that without it.
    #[serde(default)]
    pub cors: Option<CorsDocument>,
    /// What happens to a backend's own errors.
    #[serde(default)]
    pub errors: ErrorsDocument,
    /// Name → backend service.
    #[serde(default)]
    #[schemars(extend("propertyNames" = {"pattern": "^[A-Za-z0-9._-]{1,64}$"}))]
    pub upstreams: BTreeMap<String, UpstreamDocument>,
    /// Name → route. The most specific path whose methods take the request wins, whatever the order.
    #[serde(default)]
    #[schemars(extend("minProperties" = 1, "propertyNames" = {"pattern": "^[A-Za-z0-9._-]{1,64}$", "not": {"const": "none"}}))]
    pub routes: BTreeMap<String, RouteDocument>,
    /// Log and tracing.
    #[serde(default)]
    pub observability: ObservabilityDocument,
    /// How the process ends.
    #[serde(default)]
    pub shutdown: ShutdownDocument,
    /// Where a successor takes the listeners over.
    #[serde(default)]
    pub hand_over: Option<HandOverDocument>,
}
