//! gateway.yaml as it is written: one struct a section, one field a key, unknown keys are errors.
//!
//! Nothing is decided here. [`crate::config::compile`] turns a [`Document`] into the rules.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::{Bytes, OneOrMany, Secret, Span, Threads, networks};

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

/// `auth:`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthDocument {
    /// What every token begins with.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]*$"), extend("default" = "mb_"))]
    pub token_prefix: Option<String>,
    /// What is asked of the crc32b of an opaque token.
    #[schemars(extend("default" = "if_present"))]
    pub checksum: Option<ChecksumDocument>,
    /// Asked in this order; the first that knows the token decides.
    pub sources: Vec<SourceDocument>,
    /// The age at which an opaque token ends, counted from created_at; 0 for none.
    #[schemars(extend("default" = 0), example = "4h")]
    pub expiration: Option<Span>,
    /// How long what was found out is believed.
    pub cache: CacheDocument,
    /// How much looking up unknown tokens may cost the stores.
    pub look_ups: LookUpsDocument,
    /// How many unknown tokens an address may present.
    pub failures: FailuresDocument,
}

/// `auth.look_ups:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LookUpsDocument {
    /// Look-ups of tokens that were never seen, a second; above it 503.
    #[schemars(range(min = 1))]
    pub per_second: u32,
    /// Look-ups at the same time; above it 503.
    #[schemars(range(min = 1))]
    pub in_flight: usize,
}

impl Default for LookUpsDocument {
    fn default() -> Self {
        Self { per_second: 200, in_flight: 64 }
    }
}

/// `auth.failures:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FailuresDocument {
    /// Unknown tokens from one address (IPv6 by /64) before its next one is 429 without a look-up; 0 for no bound.
    pub per_minute: u32,
}

impl Default for FailuresDocument {
    fn default() -> Self {
        Self { per_minute: 20 }
    }
}

/// `auth.checksum`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChecksumDocument {
    /// Every opaque token has one.
    Required,
    /// One that is there is right.
    IfPresent,
    /// Not looked at.
    Off,
}

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

/// `auth.cache:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheDocument {
    /// How long a known token is believed without asking again.
    pub ttl: Span,
    /// How long an unknown one stays unknown.
    pub negative_ttl: Span,
    /// How many tokens are kept.
    #[schemars(range(min = 1))]
    pub entries: usize,
    /// How much longer a known token is believed while its store cannot be asked.
    pub stale_cap: Span,
}

impl Default for CacheDocument {
    fn default() -> Self {
        use std::time::Duration;
        Self {
            ttl: Span(Duration::from_secs(30)),
            negative_ttl: Span(Duration::from_secs(5)),
            entries: 100_000,
            stale_cap: Span(Duration::from_secs(120)),
        }
    }
}

/// One of `limits:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitDocument {
    /// How many pass in one window.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub requests: u32,
    /// How long a window is: 1s to 31d, in whole seconds.
    #[schemars(example = "1m")]
    pub per: Span,
    /// Whose requests are counted together.
    #[serde(default)]
    pub by: ByDocument,
    /// How they are counted.
    #[serde(default)]
    pub algorithm: AlgorithmOfLimitDocument,
    /// How many of a `gcra` limit may come at once; `requests` if it is not said.
    #[schemars(range(min = 1))]
    pub burst: Option<u32>,
    /// What happens when the store cannot decide.
    #[serde(default)]
    pub on_store_failure: OnStoreFailureDocument,
    /// Whether it refuses.
    #[serde(default)]
    pub mode: ModeDocument,
}

/// `by:`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ByDocument {
    /// All tokens of a workspace.
    #[default]
    Workspace,
    /// All tokens of a user.
    User,
    /// One token.
    Token,
    /// One address, IPv6 by /64.
    ClientIp,
}

/// `algorithm:` of a limit
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlgorithmOfLimitDocument {
    /// A window from the first hit.
    #[default]
    FixedWindow,
    /// Every hit of the last window.
    SlidingLog,
    /// An even pace with a burst.
    Gcra,
}

/// `mode:`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModeDocument {
    /// It refuses.
    #[default]
    Enforce,
    /// It counts, and tells what it would have refused.
    Shadow,
}

/// `on_store_failure:`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStoreFailureDocument {
    /// Each replica counts its share.
    #[default]
    Local,
    /// Everything passes.
    Allow,
    /// Everything is refused with 503.
    Deny,
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

/// One of `upstreams:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamDocument {
    /// `host:port` or `unix:/path` each, with `?weight=2` for more than its part.
    #[schemars(length(min = 1), example = ["127.0.0.1:9101", "10.0.0.7:8080?weight=2", "unix:/run/app.sock"])]
    pub servers: Vec<String>,
    /// How connections are encrypted; left out, they are not. Servers are always verified.
    #[serde(default)]
    pub tls: Option<ServerTlsDocument>,
    /// HTTP/2; left out, it is not spoken.
    #[serde(default)]
    pub http2: ServerHttp2Document,
    /// How a server is picked.
    #[serde(default)]
    pub balance: BalanceDocument,
    /// How long to wait.
    #[serde(default)]
    pub timeouts: TimeoutsDocument,
    /// How many requests one server may have at a time; any number if it is not said.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub in_flight: Option<usize>,
    /// How long one more waits before it is refused with 503; needs `in_flight`.
    #[serde(default)]
    #[schemars(extend("default" = "100ms"))]
    pub in_flight_wait: Option<Span>,
    /// How many further servers are tried.
    #[serde(default)]
    #[schemars(range(max = 10), extend("default" = 1))]
    pub retries: Option<u32>,
    /// Active checks.
    #[serde(default)]
    pub health: Option<HealthDocument>,
    /// Passive ejection.
    #[serde(default)]
    pub eject: EjectDocument,
    /// When the upstream as a whole is left alone for a while; left out, never.
    #[serde(default)]
    pub circuit: Option<CircuitDocument>,
}

/// `tls:` of an upstream
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTlsDocument {
    /// A file in PEM: who may have signed the servers' certificates. Left out: whom this machine trusts.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// The name that the servers have in their certificates, where it is not the one they are reached by.
    #[serde(default)]
    pub server_name: Option<String>,
    /// A file in PEM: the certificate that is shown to servers which ask for one.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// A file in PEM: its key.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

/// `http2:` of an upstream
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerHttp2Document {
    /// Not at all.
    #[default]
    Off,
    /// With servers that agree to it in the handshake (ALPN); needs `tls`.
    Negotiated,
    /// Without asking: all servers speak it.
    PriorKnowledge,
}

/// `circuit:`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CircuitDocument {
    /// Requests in a row, of all servers together, that failed.
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// How long requests are refused at once then, before one is let through to try.
    #[serde(rename = "for")]
    pub duration: Span,
}

/// `balance:`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BalanceDocument {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Of two at random, the less busy one.
    LeastRequests,
    /// The same server for the same workspace.
    Hash,
}

/// `timeouts:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutsDocument {
    /// To be connected.
    pub connect: Span,
    /// To the head of the answer, and between two reads of its body.
    pub response: Span,
    /// To the last byte of the answer, all attempts together.
    pub total: Option<Span>,
    /// How long a connection is kept without a request; below what the servers keep it for.
    pub idle: Span,
    /// Between two octets of a WebSocket, in whichever direction.
    pub websocket: Span,
}

impl Default for TimeoutsDocument {
    fn default() -> Self {
        let seconds = |seconds| Span(std::time::Duration::from_secs(seconds));
        // PHP's own server, Node and uvicorn keep a connection for 5 s.
        Self { connect: seconds(1), response: seconds(15), total: None, idle: seconds(4), websocket: seconds(300) }
    }
}

/// `timeouts:` of a route
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteTimeoutsDocument {
    /// To the head of the answer, and between two reads of its body.
    #[serde(default)]
    pub response: Option<Span>,
    /// To the last byte of the answer, all attempts together.
    #[serde(default)]
    pub total: Option<Span>,
}

/// `health:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthDocument {
    /// What is asked for.
    #[schemars(regex(pattern = "^/"), example = "/up")]
    pub path: String,
    /// What a healthy server answers; left out, 200 to 399.
    #[serde(default)]
    #[schemars(range(min = 200, max = 999))]
    pub status: Option<u16>,
    /// Between two checks of one server.
    #[serde(default)]
    #[schemars(extend("default" = "5s"))]
    pub every: Option<Span>,
    /// For one check.
    #[serde(default)]
    #[schemars(extend("default" = "1s"))]
    pub timeout: Option<Span>,
    /// Failures in a row until a server is out.
    #[serde(default)]
    #[schemars(range(min = 1), extend("default" = 3))]
    pub unhealthy_after: Option<u32>,
    /// Successes in a row until it is back.
    #[serde(default)]
    #[schemars(range(min = 1), extend("default" = 2))]
    pub healthy_after: Option<u32>,
}

/// `eject:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EjectDocument {
    /// Failures in a row until a server is left out.
    #[schemars(range(min = 1))]
    pub failures: u32,
    /// How long it is left out.
    #[serde(rename = "for")]
    pub duration: Span,
}

impl Default for EjectDocument {
    fn default() -> Self {
        Self { failures: 5, duration: Span(std::time::Duration::from_secs(30)) }
    }
}

/// One of `routes:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["scope"]}, {"required": ["access"]}]))]
pub struct RouteDocument {
    /// Below base_path: literal segments, `{name}` for one, a last `**` for the path itself and all below it.
    #[schemars(regex(pattern = "^/"), example = "/contacts/**", example = "/campaigns/{id}/send")]
    pub path: String,
    /// Which methods it takes; GET takes HEAD too. Left out: every method.
    #[serde(default)]
    #[schemars(length(min = 1), extend("items" = {"enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]}))]
    pub methods: Vec<String>,
    /// The scope a token needs.
    #[serde(default)]
    pub scope: Option<String>,
    /// `public` or `token`, instead of a scope.
    #[serde(default)]
    pub access: Option<AccessDocument>,
    /// A name, a list, or `none`; left out it is `general`.
    #[serde(default)]
    #[schemars(extend("default" = "general"), example = &"none")]
    pub limit: Option<OneOrMany>,
    /// How many requests of its limits one request counts as.
    #[schemars(range(min = 1), extend("default" = 1))]
    pub cost: Option<u32>,
    /// Where it leads.
    pub upstream: String,
    /// The list contract of the query string.
    #[serde(default)]
    pub pagination: Option<PaginationDocument>,
    /// The answer may take as long as it likes after its first byte.
    #[serde(default)]
    pub streaming: bool,
    /// Clients may change to a WebSocket.
    #[serde(default)]
    pub websocket: bool,
    /// Instead of those of the upstream.
    #[serde(default)]
    pub timeouts: RouteTimeoutsDocument,
    /// Bytes of body; instead of request.body_bytes.
    #[serde(default)]
    pub body_bytes: Option<Bytes>,
}

/// `access:`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessDocument {
    /// Anybody.
    Public,
    /// Any valid token.
    Token,
}

/// `pagination:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PaginationDocument {
    /// What sort_by may name.
    #[schemars(length(min = 1), inner(regex(pattern = "^[A-Za-z0-9_.-]+$")))]
    pub sort_by: Vec<String>,
}

/// `observability:`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ObservabilityDocument {
    /// One line a request.
    pub log: LogDocument,
    /// Spans.
    pub tracing: TracingDocument,
}

/// `log:`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogDocument {
    /// For programs or for people.
    pub format: FormatDocument,
    /// The least level that is written.
    pub level: LevelDocument,
    /// The share of successes that is written; everything else always is.
    #[schemars(range(min = 0, max = 1), extend("default" = 1))]
    pub sample: Option<f64>,
}

/// `format:`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FormatDocument {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// `level:`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the levels everybody knows")]
pub enum LevelDocument {
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

/// `tracing:`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TracingDocument {
    /// Where spans are sent; empty for nowhere.
    pub otlp: Option<String>,
    /// The share of requests that is traced, of those about which no caller has decided.
    #[schemars(range(min = 0, max = 1), extend("default" = 0.01))]
    pub sample: Option<f64>,
    /// What becomes of a caller's decision.
    pub parent: ParentDocument,
}

/// `parent:`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParentDocument {
    /// It holds.
    #[default]
    Follow,
    /// The share decides.
    Ignore,
}

/// `shutdown:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownDocument {
    /// How long connections are still taken after SIGTERM, while /readyz says 503 already: until balancers have looked.
    pub delay: Span,
    /// How long requests in flight have to finish after that.
    pub grace: Span,
}

impl Default for ShutdownDocument {
    fn default() -> Self {
        Self { delay: Span(std::time::Duration::ZERO), grace: Span(std::time::Duration::from_secs(30)) }
    }
}

/// `hand_over:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HandOverDocument {
    /// A path in a directory of its own.
    pub socket: PathBuf,
}
