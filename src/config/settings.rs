//! A compiled configuration: the policy, and the settings of everything that is not policy.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::units::Secret;
use crate::policy::Policy;
use crate::policy::credential::TokenGrammar;
use crate::policy::signed::{Expected, KeySet};
use crate::tls::TlsSettings;
use crate::trace::Sampling;

/// Everything gateway.yaml says, checked.
#[derive(Debug)]
pub struct Config {
    /// What requests are judged by.
    pub policy: Arc<Policy>,
    /// What cannot change without a restart.
    pub process: ProcessSettings,
    /// What the console shows.
    pub console: ConsoleSettings,
    /// What a client may send.
    pub request: RequestBounds,
    /// The shared store, where there is one.
    pub redis: Option<RedisSettings>,
    /// How tokens are identified.
    pub auth: AuthSettings,
    /// Whose forwarding headers are believed.
    pub trusted_proxies: TrustedProxies,
    /// Whether RateLimit and RateLimit-Policy are sent beside X-RateLimit-*.
    pub ietf_headers: bool,
    /// What is logged, and how.
    pub log: LogSettings,
    /// Where spans are sent, if anywhere.
    pub tracing: Option<TracingSettings>,
    /// How long requests in flight have to finish after SIGTERM.
    pub grace: Duration,
    /// How long connections are still taken after SIGTERM.
    pub delay: Duration,
    /// Where a successor waits for the listeners.
    pub hand_over: Option<PathBuf>,
    /// The SHA-256 of the file.
    pub digest: [u8; 32],
}

/// `console:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsoleSettings {
    /// Whether there is one.
    pub enabled: bool,
    /// Whether it names the busiest workspaces.
    pub workspaces: bool,
}

/// Settings that a reload compares and cannot apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSettings {
    /// Where clients connect.
    pub listeners: Vec<ListenerSettings>,
    /// The admin listener.
    pub admin: SocketAddr,
    /// Worker threads.
    pub threads: usize,
}

/// `observability.log:`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogSettings {
    /// For whom lines are written.
    pub format: LogFormat,
    /// The least level that is written.
    pub level: tracing::Level,
    /// The share of successes that is written.
    pub sample: f64,
}

/// For whom log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Programs: one JSON object a line.
    Json,
    /// People.
    Text,
}

/// `observability.tracing:`
#[derive(Clone, Debug, PartialEq)]
pub struct TracingSettings {
    /// Where spans are posted, the path included.
    pub endpoint: String,
    /// Which requests have spans.
    pub sampling: Sampling,
}

/// One of `listeners:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Where it is.
    pub address: SocketAddr,
    /// How it encrypts; `None` for a plain one.
    pub tls: Option<TlsSettings>,
    /// Whether HTTP/2 is spoken: where it encrypts, with who agrees to it by ALPN, else with who begins with its preface.
    pub http2: bool,
    /// Whose connections begin with a PROXY protocol header.
    pub proxy_protocol: Vec<IpNet>,
}

/// What a client may send before anything else is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestBounds {
    /// Bytes of request line and headers.
    pub header_bytes: usize,
    /// Number of header fields.
    pub headers: usize,
    /// From the first byte to the complete head.
    pub header_timeout: Duration,
    /// Between two reads of a body.
    pub body_timeout: Duration,
    /// Keep-alive without a request.
    pub idle_timeout: Duration,
    /// Open connections.
    pub connections: usize,
    /// Requests at the same time.
    pub in_flight: usize,
}

/// `redis:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisSettings {
    /// For one decision.
    pub deadline: Duration,
    /// How it is reached.
    pub link: LinkSettings,
}

/// What a connection to Redis is made from. Equal values keep their connection across a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkSettings {
    /// Where it is, when the configuration was read.
    pub url: Secret,
    /// Where to read that again before each connect, because passwords rotate.
    pub url_file: Option<PathBuf>,
    /// Where the password is, if not in the url; read again before each connect.
    pub password_file: Option<PathBuf>,
    /// What a `rediss://` url trusts and shows.
    pub tls: LinkTls,
    /// In front of every key of ours.
    pub key_prefix: String,
}

impl LinkSettings {
    /// The same for a server that is not to be shown the password.
    pub fn without_password(&self) -> Self {
        Self { password_file: None, ..self.clone() }
    }
}

/// `redis.tls:`; files that are read before each connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkTls {
    /// Whom to trust; the machine's own roots if it is not said.
    pub ca: Option<PathBuf>,
    /// Who we are.
    pub certificate: Option<PathBuf>,
    /// The key of that certificate.
    pub key: Option<PathBuf>,
}

/// `auth:`
#[derive(Clone, Debug, PartialEq)]
pub struct AuthSettings {
    /// How tokens look.
    pub grammar: TokenGrammar,
    /// Who knows them, in the order in which they are asked.
    pub sources: Vec<SourceSettings>,
    /// The age at which an opaque token ends.
    pub max_age: Option<Duration>,
    /// How long what was found out is believed.
    pub cache: CacheSettings,
    /// How much looking up unknown tokens may cost.
    pub look_ups: LookUpSettings,
}

/// `auth.look_ups:` and `auth.failures:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookUpSettings {
    /// Look-ups of tokens that were never seen, a second.
    pub per_second: u32,
    /// At the same time.
    pub in_flight: usize,
    /// Unknown tokens from one address a minute; `None` for no bound.
    pub failures_per_minute: Option<u32>,
}

/// One of `auth.sources:`
#[derive(Clone, Debug, PartialEq)]
pub enum SourceSettings {
    /// Verified here.
    Signed {
        /// What the claims have to say.
        expected: Expected,
        /// Under which keys.
        keys: KeySet,
        /// Where more keys are published.
        jwks: Option<JwksSettings>,
    },
    /// A hash for each token.
    Redis {
        /// In front of the digest.
        key_prefix: String,
    },
    /// Laravel's own table.
    Sql(SqlSettings),
    /// A service that says whether a token is active.
    Introspection(IntrospectionSettings),
    /// Digests in a file.
    File {
        /// Which one.
        path: PathBuf,
    },
}

/// `jwks:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksSettings {
    /// Where the set is.
    pub url: String,
    /// How often it is read again.
    pub refresh: Duration,
}

/// `sql:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqlSettings {
    /// Which database.
    pub kind: SqlKind,
    /// Where it is, when the configuration was read.
    pub url: Secret,
    /// Where to read that again when it does not answer, because passwords rotate.
    pub url_file: Option<PathBuf>,
    /// Instead of the default query.
    pub query: Option<String>,
    /// For one look-up.
    pub timeout: Duration,
    /// Connections.
    pub pool: u32,
    /// Whether last_used_at is kept up to date.
    pub last_used_at: bool,
}

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlKind {
    /// MySQL or MariaDB.
    MySql,
    /// PostgreSQL.
    Postgres,
}

/// `introspection:`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntrospectionSettings {
    /// The endpoint.
    pub url: String,
    /// How the gateway shows who it is.
    pub credentials: IntrospectionCredentials,
    /// For one question.
    pub timeout: Duration,
}

/// How the gateway shows an introspection endpoint who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IntrospectionCredentials {
    /// HTTP Basic.
    Basic {
        /// The user.
        id: String,
        /// The password.
        secret: Secret,
    },
    /// A bearer token.
    Bearer(Secret),
}

/// `auth.cache:`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheSettings {
    /// How long a known token is believed.
    pub ttl: Duration,
    /// How long an unknown token stays unknown.
    pub negative_ttl: Duration,
    /// How many are kept.
    pub entries: usize,
    /// How much longer a known token is believed while its store cannot be asked.
    pub stale_cap: Duration,
}

/// Networks whose word about a client's address is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(pub Vec<IpNet>);

impl TrustedProxies {
    /// Whether `address` is one of ours.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}
