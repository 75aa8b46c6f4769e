//! Backend services.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::Span;

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
