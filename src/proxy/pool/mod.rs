//! The living side of an upstream: which of its servers a request may go to.
//!
//! A server is left out while active checks find it unhealthy, while it is ejected for failing answers, or while its name has never
//! resolved. All of that outlives a reload as long as the upstream's value is the same; addresses outlive it in any case.

mod circuit;
mod keepers;
mod server;
pub mod state;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::policy::time::{UnixMillis, millis};
use crate::policy::upstream::{Balance, Upstream, affinity, turns};
use crate::ports::Clock;
use crate::proxy::pool::circuit::{Change, Switch};
pub use crate::proxy::pool::server::Server;
use crate::proxy::transport::Endpoint;
use crate::telemetry::metrics::Metrics;

/// Requests that may be sent again, of those that came: each brings a fifth, and so many are kept.
const RETRY_SHARE: f64 = 0.2;
const MOST_RETRIES_KEPT: f64 = 10.0;

/// An upstream with the state of its servers.
pub struct Pool {
    /// What it was made from.
    pub upstream: Arc<Upstream>,
    servers: Vec<Server>,
    turns: Vec<usize>,
    turn: AtomicUsize,
    /// Somebody has given a place back.
    free: Notify,
    retries_left: Mutex<f64>,
    ejecting: Mutex<()>,
    switch: Switch,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

/// A place at a server, given back when it is dropped.
pub struct Place {
    pool: Arc<Pool>,
    at: usize,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// No server may be used.
    NoneHealthy,
    /// All that may be used have as many requests as they may have.
    AllBusy,
}

impl Place {
    /// Which server it is, among those of the pool.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The server.
    pub fn server(&self) -> Option<&Server> {
        self.pool.servers.get(self.at)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(server) = self.server() {
            server.in_flight.fetch_sub(1, Ordering::AcqRel);
            self.pool.free.notify_one();
        }
    }
}

impl Pool {
    /// A pool and its keepers, which resolve names and check servers until the pool is dropped. Addresses of the same servers are taken
    /// over from `known` pools. Must be called on a tokio runtime.
    pub fn start(
        upstream: Arc<Upstream>,
        known: &[Arc<Self>],
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let servers: Vec<Server> = upstream.servers.iter().map(|server| Server::new(server, &upstream)).collect();
        let weights: Vec<u32> = servers.iter().map(|server| server.weight).collect();
        for server in &servers {
            let twin = known.iter().flat_map(|pool| &pool.servers).find(|other| other.address == server.address);
            if let Some(endpoint) = twin.and_then(Server::endpoint) {
                server.found(Endpoint::clone(&endpoint));
            }
        }
        let pool = Arc::new(Self {
            upstream,
            servers,
            turns: turns(&weights),
            turn: AtomicUsize::new(0),
            free: Notify::new(),
            retries_left: Mutex::new(MOST_RETRIES_KEPT),
            ejecting: Mutex::new(()),
            switch: Switch::default(),
            clock,
            metrics,
        });
        keepers::start(&pool);
        pool
    }

    /// Waits until every server has an address.
    pub async fn settle(&self) {
        while self.servers.iter().any(|server| server.endpoint().is_none()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A place at a server that may be used and is not among `tried`, as the upstream balances. `key` is what [`Balance::Hash`] goes by.
    /// Where all are busy, waits for a place as long as the upstream says.
    pub async fn place(self: &Arc<Self>, tried: &[usize], key: &str) -> Result<Place, NoPlace> {
        let bound = match (self.try_place(tried, key), self.upstream.in_flight) {
            (Err(NoPlace::AllBusy), Some(bound)) => bound,
            (found, _) => return found,
        };
        let wait = async {
            loop {
                self.free.notified().await;
                match self.try_place(tried, key) {
                    Err(NoPlace::AllBusy) => {}
                    found => return found,
                }
            }
        };
        timeout(bound.wait, wait).await.unwrap_or(Err(NoPlace::AllBusy))
    }

    fn try_place(self: &Arc<Self>, tried: &[usize], key: &str) -> Result<Place, NoPlace> {
        let now = self.clock.steady();
        let may_be_used = |at: &usize| !tried.contains(at) && self.servers.get(*at).is_some_and(|s| s.is_usable(now));
        let most = self.upstream.in_flight.map_or(usize::MAX, |bound| bound.requests);
        let usable: Vec<usize> = (0..self.servers.len()).filter(may_be_used).collect();
        if usable.is_empty() {
            return Err(NoPlace::NoneHealthy);
        }
        let has_room = |at: &usize| self.servers.get(*at).is_some_and(|s| s.in_flight.load(Ordering::Acquire) < most);
        let free: Vec<usize> = usable.into_iter().filter(has_room).collect();
        let at = self.choose(&free, key, now).ok_or(NoPlace::AllBusy)?;
        let place = Place { pool: Arc::clone(self), at };
        let before = place.server().map_or(0, |server| server.in_flight.fetch_add(1, Ordering::AcqRel));
        // Somebody else was faster, and the place is given back.
        if before < most { Ok(place) } else { Err(NoPlace::AllBusy) }
    }

    /// One of `free`, as the upstream balances; `None` of none.
    fn choose(&self, free: &[usize], key: &str, now: UnixMillis) -> Option<usize> {
        let server = |at: usize| self.servers.get(at);
        match self.upstream.balance {
            _ if free.len() <= 1 => free.first().copied(),
            Balance::RoundRobin => {
                let first = self.turn.fetch_add(1, Ordering::Relaxed);
                let from_here = self.turns.iter().cycle().skip(first % self.turns.len().max(1)).take(self.turns.len());
                let mut free_from_here = from_here.copied().filter(|at| free.contains(at));
                let next = free_from_here.next()?;
                let is_spared = server(next).is_some_and(|server| fastrand::f64() >= server.strength(now));
                let other = is_spared.then(|| free_from_here.find(|at| *at != next)).flatten();
                Some(other.unwrap_or(next))
            }
            Balance::LeastRequests => {
                let one = fastrand::usize(..free.len());
                let other = (one + fastrand::usize(1..free.len())) % free.len();
                let load = |at: &usize| server(*at).map_or(f64::MAX, |server| server.load(now));
                [free.get(one)?, free.get(other)?].into_iter().min_by(|a, b| load(a).total_cmp(&load(b))).copied()
            }
            Balance::Hash => {
                let score =
                    |at: &usize| server(*at).map_or(0.0, |server| affinity(key, &server.address, server.weight));
                free.iter().max_by(|a, b| score(a).total_cmp(&score(b))).copied()
            }
        }
    }

    /// Whether a request may be sent to any server at all; else how long to wait before it may.
    pub fn admits(&self) -> Result<(), Duration> {
        match &self.upstream.circuit {
            Some(circuit) => self.switch.admits(circuit, self.clock.steady()),
            None => Ok(()),
        }
    }

    /// Notes that a request came, which brings its share of a retry.
    pub fn arrived(&self) {
        let mut left = self.retries_left.lock();
        *left = (*left + RETRY_SHARE).min(MOST_RETRIES_KEPT);
    }

    /// Whether one more request may be sent again that a server may have seen: of all requests a fifth, so that servers which fail under
    /// their load do not get more of it.
    pub fn may_retry(&self) -> bool {
        let mut left = self.retries_left.lock();
        let may = *left >= 1.0;
        if may {
            *left -= 1.0;
        }
        may
    }

    /// Whether any server may be used.
    pub fn is_usable(&self) -> bool {
        let now = self.clock.steady();
        self.servers.iter().any(|server| server.is_usable(now))
    }

    /// Whether it is left alone as a whole, but for a trial now and then.
    pub fn is_left_alone(&self) -> bool {
        self.switch.is_open()
    }

    /// Notes how a request to `server` ended: a connect error or a 5xx is a failure, and too many in a row eject it.
    pub fn report(&self, server: &Server, failed: bool) {
        self.note(failed);
        if !failed {
            server.failures.store(0, Ordering::Relaxed);
            server.ejections_in_a_row.store(0, Ordering::Relaxed);
            return;
        }
        let in_a_row = server.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if in_a_row >= self.upstream.eject.failures {
            self.eject(server);
        }
    }

    fn note(&self, failed: bool) {
        let Some(circuit) = &self.upstream.circuit else { return };
        let upstream = &*self.upstream.name;
        match self.switch.heard(circuit, failed, self.clock.steady()) {
            Some(Change::Opened) => tracing::warn!(upstream, "requests are refused at once: they fail, all of them"),
            Some(Change::Closed) => tracing::info!(upstream, "requests are sent again"),
            None => return,
        }
        self.metrics.circuit_open(upstream, self.switch.is_open());
    }

    /// Leaves `server` out for a while, unless half of the servers are out already, for whatever reason.
    fn eject(&self, server: &Server) {
        let _one_at_a_time = self.ejecting.lock();
        let now = self.clock.steady();
        let out = self.servers.iter().filter(|other| !other.is_usable(now)).count();
        if !server.is_usable(now) || out >= self.servers.len() / 2 {
            return;
        }
        let times = server.ejections_in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let duration = self.upstream.eject.lasts(times);
        server.failures.store(0, Ordering::Relaxed);
        server.ejected_until.store(now.0.saturating_add(millis(duration)), Ordering::Relaxed);
        self.metrics.ejected(&self.upstream.name);
        self.show(server, now);
        tracing::warn!(
            upstream = &*self.upstream.name,
            server = &*server.name,
            "left out for {duration:?}: its answers fail"
        );
    }

    fn checked(&self, server: &Server, healthy: bool) {
        if server.is_checked_healthy.swap(healthy, Ordering::Relaxed) != healthy {
            server.healthy_since.store(self.clock.steady().0, Ordering::Relaxed);
            self.show(server, self.clock.steady());
            let (upstream, server) = (&*self.upstream.name, &*server.name);
            match healthy {
                true => tracing::info!(upstream, server, "healthy again"),
                false => tracing::warn!(upstream, server, "unhealthy: its checks fail"),
            }
        }
    }

    fn show(&self, server: &Server, now: UnixMillis) {
        self.metrics.server_healthy(&self.upstream.name, &server.name, server.is_usable(now));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for server in &self.servers {
            self.metrics.server_gone(&self.upstream.name, &server.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    use crate::policy::upstream::{Ejection, Http2, InFlightBound, ServerAddress, Timeouts, WeightedServer};

    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> UnixMillis {
            self.steady()
        }
        fn steady(&self) -> UnixMillis {
            UnixMillis(self.0.load(Ordering::Relaxed))
        }
    }

    fn pool(servers: usize) -> (Arc<Pool>, Arc<Hand>) {
        let second = Duration::from_secs(1);
        let server = |n| WeightedServer {
            address: ServerAddress::Tcp { host: "127.0.0.1".into(), port: 1000 + n as u16 },
            weight: 1,
        };
        start(Upstream {
            name: "u".into(),
            servers: (0..servers).map(server).collect(),
            balance: Balance::RoundRobin,
            in_flight: None,
            timeouts: Timeouts { connect: second, response: second, total: None, idle: second, websocket: second },
            tls: None,
            http2: Http2::Off,
            circuit: None,
            retries: 1,
            health: None,
            eject: Ejection { failures: 2, duration: 30 * second },
        })
    }

    fn start(upstream: Upstream) -> (Arc<Pool>, Arc<Hand>) {
        let clock = Arc::new(Hand(AtomicU64::new(1_000)));
        let metrics = Arc::new(Metrics::new().unwrap());
        (Pool::start(Arc::new(upstream), &[], clock.clone(), metrics), clock)
    }

    fn like(pool: &Pool) -> Upstream {
        Upstream::clone(&pool.upstream)
    }

    fn picks(pool: &Arc<Pool>, count: usize) -> Vec<usize> {
        (0..count).map(|_| pool.try_place(&[], "").ok().unwrap().at()).collect()
    }

    #[tokio::test]
    async fn servers_take_turns_and_a_tried_one_is_passed_over() {
        let (pool, _) = pool(3);
        assert_eq!(picks(&pool, 4), [0, 1, 2, 0]);
        assert_eq!(pool.try_place(&[1], "").ok().unwrap().at(), 2);
        assert_eq!(pool.try_place(&[0, 1, 2], "").err(), Some(NoPlace::NoneHealthy));
    }

    #[tokio::test]
    async fn a_heavier_server_takes_more_turns() {
        let mut upstream = like(&pool(2).0);
        upstream.servers[1].weight = 3;
        let (pool, _) = start(upstream);
        assert_eq!(picks(&pool, 8).iter().filter(|at| **at == 1).count(), 6);
    }

    #[tokio::test]
    async fn of_two_servers_the_less_busy_one_is_picked() {
        let (pool, _) = start(Upstream { balance: Balance::LeastRequests, ..like(&pool(2).0) });
        let mut held: Vec<Place> = (0..10).map(|_| pool.try_place(&[], "").ok().unwrap()).collect();
        assert_eq!(held.iter().filter(|place| place.at() == 0).count(), 5, "they are kept even");
        held.retain(|place| place.at() == 1);
        assert!(picks(&pool, 5).iter().all(|at| *at == 0));
    }

    #[tokio::test]
    async fn the_same_key_keeps_its_server_while_that_may_be_used() {
        let (pool, _) = start(Upstream { balance: Balance::Hash, ..like(&pool(3).0) });
        let at = |tried: &[usize], key: &str| pool.try_place(tried, key).ok().unwrap().at();
        let keys: Vec<String> = (0..50).map(|n| format!("w{n}")).collect();
        for key in &keys {
            let home = at(&[], key);
            assert_eq!([at(&[], key), at(&[], key)], [home; 2]);
            assert_eq!(at(&[(home + 1) % 3], key), home);
            assert_ne!(at(&[home], key), home);
        }
        let homes: std::collections::BTreeSet<usize> = keys.iter().map(|key| at(&[], key)).collect();
        assert_eq!(homes.len(), 3);
    }

    #[tokio::test]
    async fn a_full_server_is_passed_over_and_when_all_are_full_one_waits_for_a_place() {
        let bound = InFlightBound { requests: 1, wait: Duration::from_secs(20) };
        let (pool, _) = start(Upstream { in_flight: Some(bound), ..like(&pool(2).0) });
        let (one, other) = (pool.try_place(&[], "").ok().unwrap(), pool.try_place(&[], "").ok().unwrap());
        assert_ne!(one.at(), other.at());
        assert_eq!(pool.try_place(&[], "").err(), Some(NoPlace::AllBusy));
        let waiting = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.place(&[], "").await.map(|place| place.at()) }
        });
        tokio::task::yield_now().await;
        let freed = other.at();
        drop(other);
        assert_eq!(waiting.await.unwrap(), Ok(freed));
        let impatient = InFlightBound { wait: Duration::ZERO, ..bound };
        let (pool, _) = start(Upstream { in_flight: Some(impatient), ..like(&pool) });
        let _held = picks_and_holds(&pool, 2);
        assert_eq!(pool.place(&[], "").await.err(), Some(NoPlace::AllBusy));
    }

    fn picks_and_holds(pool: &Arc<Pool>, count: usize) -> Vec<Place> {
        (0..count).map(|_| pool.try_place(&[], "").ok().unwrap()).collect()
    }

    #[tokio::test]
    async fn of_all_requests_a_fifth_may_be_sent_again() {
        let (pool, _) = pool(1);
        while pool.may_retry() {}
        let granted = (0..1000).filter(|_| {
            pool.arrived();
            pool.may_retry()
        });
        assert!((199..=201).contains(&granted.count()));
    }

    #[tokio::test]
    async fn a_server_that_returns_is_spared_at_first() {
        let (pool, clock) = pool(2);
        let server = &pool.servers[0];
        pool.report(server, true);
        pool.report(server, true);
        clock.0.fetch_add(30_000, Ordering::Relaxed);
        let share = |pool: &Arc<Pool>| picks(pool, 2_000).iter().filter(|at| **at == 0).count();
        assert!((40..400).contains(&share(&pool)), "a tenth of its half");
        clock.0.fetch_add(10_000, Ordering::Relaxed);
        assert_eq!(share(&pool), 1_000);
    }

    #[tokio::test]
    async fn a_server_whose_answers_fail_in_a_row_is_left_out_for_its_time() {
        let (pool, clock) = pool(2);
        let server = &pool.servers[0];
        pool.report(server, true);
        pool.report(server, false);
        pool.report(server, true);
        assert_eq!(picks(&pool, 2), [0, 1]);
        pool.report(server, true);
        assert_eq!(picks(&pool, 3), [1, 1, 1]);
        clock.0.fetch_add(40_000, Ordering::Relaxed);
        assert!(picks(&pool, 2).contains(&0));
    }

    #[tokio::test]
    async fn at_most_half_of_the_servers_are_left_out_and_a_single_one_never() {
        for (servers, left) in [(1, 1), (2, 1), (3, 2)] {
            let (pool, _) = pool(servers);
            for server in &pool.servers {
                pool.report(server, true);
                pool.report(server, true);
            }
            let mut usable = picks(&pool, 6);
            usable.sort_unstable();
            usable.dedup();
            assert_eq!(usable.len(), left, "{servers}");
        }
    }
}
