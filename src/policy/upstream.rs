//! Upstreams as values: where their servers are and how they are to be treated.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

/// One entry of `upstreams:`. Equal values keep their living pool across a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The key in gateway.yaml and the `upstream` label of every metric.
    pub name: Arc<str>,
    /// At least one.
    pub servers: Vec<WeightedServer>,
    /// How one of them is picked for a request.
    pub balance: Balance,
    /// How many requests one server may have at a time; `None` for any number.
    pub in_flight: Option<InFlightBound>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// How many further servers are tried after the first.
    pub retries: u32,
    /// Active checks, where there are any.
    pub health: Option<HealthCheck>,
    /// When a server is left out because its answers fail.
    pub eject: Ejection,
    /// How connections are encrypted; `None` for plain ones.
    pub tls: Option<ServerTls>,
    /// Whether HTTP/2 is spoken.
    pub http2: Http2,
    /// When it is left alone as a whole; `None` for never.
    pub circuit: Option<Circuit>,
}

/// When no request is sent to an upstream for a while, so that one which fails under its load can recover and nobody waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circuit {
    /// Requests in a row, of all servers together, that failed.
    pub failures: u32,
    /// How long they are refused then. After that one is let through, and its success ends it.
    pub duration: Duration,
}

/// How connections to servers are encrypted. Equal while the settings and the files behind them are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The name that a server has to have in its certificate, where it is not the one it is reached by.
    pub server_name: Option<String>,
    /// Who may have signed that; the machine's own authorities if it is not said.
    pub ca: Option<PathBuf>,
    /// The certificate and the key that a server is shown which asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// What was in the files.
    pub fingerprint: [u8; 32],
}

/// Whether HTTP/2 is spoken with servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2 {
    /// It is not.
    Off,
    /// With a server that agrees to it in the handshake (ALPN).
    Negotiated,
    /// Without asking: every server of the upstream speaks it.
    PriorKnowledge,
}

/// One of an upstream's servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedServer {
    /// Where it is.
    pub address: ServerAddress,
    /// Its part of the requests, relative to the others; at least one.
    pub weight: u32,
}

/// How a server is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// One after the other.
    RoundRobin,
    /// Of two at random, the one with fewer requests in flight.
    LeastRequests,
    /// The same server for the same workspace; a client's address on a public route. When servers change, only the workspaces of
    /// those that went or came move (rendezvous hashing).
    Hash,
}

/// How many requests one server may have, and how long one more waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlightBound {
    /// At a time.
    pub requests: usize,
    /// Before it is refused with 503.
    pub wait: Duration,
}

impl WeightedServer {
    /// The greatest weight.
    pub const MOST: u32 = 100;

    /// Reads `host:port` or `host:port?weight=2`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, weight) = match text.split_once('?') {
            Some((address, parameter)) => (address, parameter.strip_prefix("weight=")?.parse().ok()?),
            None => (text, 1),
        };
        let address = ServerAddress::parse(address)?;
        (1..=Self::MOST).contains(&weight).then_some(Self { address, weight })
    }
}

/// The order in which weighted servers take turns: each as often as it weighs, spread out as evenly as possible (the smooth weighted
/// round robin of nginx).
pub fn turns(weights: &[u32]) -> Vec<usize> {
    let total: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
    let mut credit = vec![0_i64; weights.len()];
    let turn = |_| {
        credit.iter_mut().zip(weights).for_each(|(credit, weight)| *credit += i64::from(*weight));
        let (at, best) = credit.iter_mut().enumerate().max_by_key(|(at, credit)| (**credit, std::cmp::Reverse(*at)))?;
        *best -= total;
        Some(at)
    };
    (0..total).filter_map(turn).collect()
}

/// How well a server suits a key: of all, the one with the highest score takes it. Depends on nothing but the two and the weight, so a
/// server that goes takes only its own keys along.
pub fn affinity(key: &str, server: &ServerAddress, weight: u32) -> f64 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(key.as_bytes());
    hash.update(&[0]);
    match server {
        ServerAddress::Tcp { host, port } => {
            hash.update(host.as_bytes());
            hash.update(&port.to_be_bytes());
        }
        ServerAddress::Unix(path) => hash.update(path.as_os_str().as_encoded_bytes()),
    }
    // CRC spreads neighbours too evenly; a multiplication and a shift break its pattern (the finaliser of MurmurHash3).
    let mut mixed = u64::from(hash.finalize()).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    let uniform = ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(weight) / -uniform.ln()
}

/// Where one server is: the form that is shown, dialled and put on metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ServerAddress {
    /// `host:port`
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// `unix:/path`
    Unix(PathBuf),
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl ServerAddress {
    /// Reads `host:port`, `[v6]:port` or `unix:/path`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            // Linux takes 107 octets (unix(7)).
            return (path.starts_with('/') && path.len() <= 107).then(|| Self::Unix(path.into()));
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|&port| port != 0)?;
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().ok().map(|_| v6)?,
            None => is_host(host).then_some(host)?,
        };
        Some(Self::Tcp { host: host.to_owned(), port })
    }

    /// The name or address of its machine; `None` on this one.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Tcp { host, .. } => Some(host),
            Self::Unix(_) => None,
        }
    }

    /// What it is sent as Host. A socket has no name, and is this machine.
    pub fn authority(&self) -> String {
        match self {
            Self::Tcp { .. } => self.to_string(),
            Self::Unix(_) => "localhost".to_owned(),
        }
    }
}

/// A registered name or an IPv4 address: letters, digits, hyphens, dots and the underscore that container names have.
fn is_host(host: &str) -> bool {
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    host.len() <= 253 && host.split('.').all(is_label)
}

/// How long to wait for a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To be connected.
    pub connect: Duration,
    /// From the request being sent to the head of the answer; also between two reads of its body.
    pub response: Duration,
    /// From the first attempt to the last byte of the answer, where the route is not streaming; `None` for no end.
    pub total: Option<Duration>,
    /// How long a connection is kept without a request.
    pub idle: Duration,
    /// Between two octets of a WebSocket.
    pub websocket: Duration,
}

impl Timeouts {
    /// The same with what a route wants otherwise.
    #[must_use]
    pub fn with(self, route: RouteTimeouts) -> Self {
        Self { response: route.response.unwrap_or(self.response), total: route.total.or(self.total), ..self }
    }
}

/// What a route wants otherwise than its upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteTimeouts {
    /// Instead of [`Timeouts::response`].
    pub response: Option<Duration>,
    /// Instead of [`Timeouts::total`].
    pub total: Option<Duration>,
}

/// An active check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for with GET.
    pub path: String,
    /// What a healthy server answers; left out, 200 to 399.
    pub status: Option<StatusCode>,
    /// Between two checks of one server.
    pub every: Duration,
    /// For the whole check.
    pub timeout: Duration,
    /// Consecutive failures after which a healthy server counts as unhealthy.
    pub unhealthy_after: u32,
    /// Consecutive successes after which an unhealthy server counts as healthy.
    pub healthy_after: u32,
}

impl HealthCheck {
    /// Whether a healthy server answers with this status.
    pub fn expects(&self, status: StatusCode) -> bool {
        match self.status {
            Some(expected) => status == expected,
            None => status.is_success() || status.is_redirection(),
        }
    }
}

/// Passive ejection: a server whose answers fail is left out for a while, never more than half of the servers at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Consecutive connect errors and 5xx answers.
    pub failures: u32,
    /// How long it is left out the first time; each time in a row twice as long, up to ten times.
    pub duration: Duration,
}

impl Ejection {
    /// How long a server is left out that is ejected for the `times`th time in a row.
    pub fn lasts(&self, times: u32) -> Duration {
        let grown = self.duration.saturating_mul(1 << times.saturating_sub(1).min(4));
        grown.min(self.duration.saturating_mul(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_weigh_more_than_others() {
        let parse = |text| WeightedServer::parse(text).map(|server| (server.address.to_string(), server.weight));
        assert_eq!(parse("a:1"), Some(("a:1".into(), 1)));
        assert_eq!(parse("[::1]:1?weight=100"), Some(("[::1]:1".into(), 100)));
        for text in ["a:1?weight=0", "a:1?weight=101", "a:1?weight=", "a:1?x=1", "a:1?weight=1&x"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn turns_follow_the_weights_and_are_spread_out() {
        assert_eq!(turns(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(turns(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert!(turns(&[]).is_empty());
    }

    #[test]
    fn keys_spread_by_weight_and_move_only_with_their_server() {
        let servers: Vec<_> = [("a", 1), ("b", 1), ("c", 2)]
            .map(|(host, weight)| (ServerAddress::Tcp { host: host.into(), port: 80 }, weight))
            .into();
        let best = |key: &str, servers: &[(ServerAddress, u32)]| {
            let score = |(server, weight): &(ServerAddress, u32)| affinity(key, server, *weight);
            servers
                .iter()
                .max_by(|a, b| score(a).total_cmp(&score(b)))
                .map(|(server, _)| server.host().unwrap().to_owned())
                .unwrap()
        };
        let keys: Vec<String> = (0..20_000).map(|n| format!("workspace-{n}")).collect();
        let before: Vec<String> = keys.iter().map(|key| best(key, &servers)).collect();
        let share = |name: &str| before.iter().filter(|host| *host == name).count();
        assert!(
            (4_500..5_500).contains(&share("a")) && (9_300..10_700).contains(&share("c")),
            "{} {}",
            share("a"),
            share("c")
        );
        for (key, before) in keys.iter().zip(&before).filter(|(_, before)| *before != "b") {
            assert_eq!(best(key, &[servers[0].clone(), servers[2].clone()]), **before);
        }
    }

    #[test]
    fn a_server_that_fails_again_and_again_is_left_out_for_longer() {
        let ejection = Ejection { failures: 5, duration: Duration::from_secs(30) };
        let lasts: Vec<u64> = (1..=6).map(|times| ejection.lasts(times).as_secs()).collect();
        assert_eq!(lasts, [30, 60, 120, 240, 300, 300]);
    }

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for text in
            ["127.0.0.1:80", "backend:9101", "a-b.example.com:443", "[::1]:80", "php_fpm:9000", "unix:/run/a.sock"]
        {
            assert_eq!(ServerAddress::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "backend",
            "backend:",
            "backend:0",
            "backend:99999",
            ":80",
            "::1:80",
            "[x]:80",
            "a b:80",
            "a..b:80",
            "http://a:80",
            "unix:a.sock",
            "unix:",
        ] {
            assert_eq!(ServerAddress::parse(text), None, "{text}");
        }
    }
}
