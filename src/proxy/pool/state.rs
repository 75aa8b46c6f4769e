//! How servers fare, for whoever looks at it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::policy::time::UnixMillis;
use crate::proxy::pool::{Pool, Server};

/// Of how many answers the recent latency is an average, about.
const RECENT: u64 = 16;

/// A server at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// As on metrics and in the log.
    pub name: String,
    /// Its part of the requests, relative to the others.
    pub weight: u32,
    /// Whether requests are sent to it.
    pub condition: Condition,
    /// Requests it has.
    pub in_flight: usize,
    /// From a request to the head of its answer, on average lately; `None` where it has not answered yet.
    pub latency: Option<Duration>,
}

/// Whether requests are sent to a server, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// They are.
    Used,
    /// Its name has never resolved.
    Unresolved,
    /// Its checks fail.
    Unhealthy,
    /// Its answers failed, and it is left out for so much longer.
    Ejected(Duration),
}

impl Pool {
    /// How each of its servers fares.
    pub fn states(&self) -> Vec<ServerState> {
        let now = self.clock.steady();
        self.servers.iter().map(|server| server.state(now)).collect()
    }
}

impl Server {
    /// Notes how long an answer took to begin.
    pub(in crate::proxy) fn answered_within(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).clamp(1, u64::MAX / RECENT);
        // Two at once may lose one of them, which an average can bear.
        let next = match self.latency.load(Ordering::Relaxed) {
            0 => took,
            known => (known * (RECENT - 1) + took).div_ceil(RECENT),
        };
        self.latency.store(next, Ordering::Relaxed);
    }

    fn state(&self, now: UnixMillis) -> ServerState {
        let latency = self.latency.load(Ordering::Relaxed);
        ServerState {
            name: self.name.to_string(),
            weight: self.weight,
            condition: self.condition(now),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            latency: (latency > 0).then(|| Duration::from_micros(latency)),
        }
    }

    fn condition(&self, now: UnixMillis) -> Condition {
        let ejected_until = UnixMillis(self.ejected_until.load(Ordering::Relaxed));
        match () {
            () if self.endpoint().is_none() => Condition::Unresolved,
            () if !self.is_checked_healthy.load(Ordering::Relaxed) => Condition::Unhealthy,
            () if now < ejected_until => Condition::Ejected(ejected_until.since(now)),
            () => Condition::Used,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::upstream::{Balance, Ejection, Http2, ServerAddress, Timeouts, Upstream, WeightedServer};

    fn server(host: &str) -> Server {
        let second = Duration::from_secs(1);
        let server = WeightedServer { address: ServerAddress::Tcp { host: host.into(), port: 1 }, weight: 2 };
        let upstream = Upstream {
            name: "u".into(),
            servers: vec![server.clone()],
            balance: Balance::RoundRobin,
            in_flight: None,
            timeouts: Timeouts { connect: second, response: second, total: None, idle: second, websocket: second },
            tls: None,
            http2: Http2::Off,
            circuit: None,
            retries: 1,
            health: None,
            eject: Ejection { failures: 2, duration: 30 * second },
        };
        Server::new(&server, &upstream)
    }

    #[test]
    fn the_latency_follows_what_is_recent() {
        let server = server("127.0.0.1");
        assert_eq!(server.state(UnixMillis(0)).latency, None);
        server.answered_within(Duration::from_millis(10));
        assert_eq!(server.state(UnixMillis(0)).latency, Some(Duration::from_millis(10)));
        (0..200).for_each(|_| server.answered_within(Duration::from_millis(2)));
        let latency = server.state(UnixMillis(0)).latency.unwrap();
        assert!((2_000..2_050).contains(&latency.as_micros()), "{latency:?}");
    }

    #[test]
    fn a_server_that_is_left_out_says_why() {
        let condition = |server: &Server| server.state(UnixMillis(1_000)).condition;
        assert_eq!(condition(&server("name.invalid")), Condition::Unresolved);
        let server = server("127.0.0.1");
        assert_eq!(condition(&server), Condition::Used);
        server.ejected_until.store(3_000, Ordering::Relaxed);
        assert_eq!(condition(&server), Condition::Ejected(Duration::from_secs(2)));
        server.is_checked_healthy.store(false, Ordering::Relaxed);
        assert_eq!(condition(&server), Condition::Unhealthy);
    }
}
