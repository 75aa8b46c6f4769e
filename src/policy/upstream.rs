//! Upstreams as values: where their servers are and how they are to be treated.

use std::sync::Arc;
use std::time::Duration;

/// One entry of `upstreams:`. Equal values keep their living pool across a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The key in gateway.yaml and the `upstream` label of every metric.
    pub name: Arc<str>,
    /// At least one.
    pub servers: Vec<ServerAddress>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// How many further servers are tried after the first.
    pub retries: u32,
    /// Active checks, where there are any.
    pub health: Option<HealthCheck>,
    /// When a server is left out because its answers fail.
    pub eject: Ejection,
}

/// `host:port` of one server: the form that is shown, dialled and put on metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl ServerAddress {
    /// Reads `host:port` or `[v6]:port`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse().ok().filter(|&port| port != 0)?;
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().ok().map(|_| v6)?,
            None => is_host(host).then_some(host)?,
        };
        Some(Self { host: host.to_owned(), port })
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
}

/// An active check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for with GET; 200–399 is healthy.
    pub path: String,
    /// Between two checks of one server.
    pub every: Duration,
    /// For the whole check.
    pub timeout: Duration,
    /// Consecutive failures after which a healthy server counts as unhealthy.
    pub unhealthy_after: u32,
    /// Consecutive successes after which an unhealthy server counts as healthy.
    pub healthy_after: u32,
}

/// Passive ejection: a server whose answers fail is left out for a while, never more than half of the servers at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Consecutive connect errors and 5xx answers.
    pub failures: u32,
    /// How long it is left out.
    pub duration: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for text in ["127.0.0.1:80", "backend:9101", "a-b.example.com:443", "[::1]:80", "php_fpm:9000"] {
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
        ] {
            assert_eq!(ServerAddress::parse(text), None, "{text}");
        }
    }
}
