//! One server: where it is now, whether it may be used, and its connections.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use parking_lot::Mutex;

use crate::policy::time::UnixMillis;
use crate::policy::upstream::{Http2, ServerAddress, Upstream, WeightedServer};
use crate::proxy::backend::Backend;
use crate::proxy::exchange::{ConnectFailure, Conversation};
use crate::proxy::multiplex::Multiplexed;
use crate::proxy::transport::{Encryption, Endpoint, Transport};
use crate::tls::Protocols;

/// How long a server that returns is spared, from a tenth of its part of the requests to all of it.
const SLOW_START: Duration = Duration::from_secs(10);
/// Connections to one server that are kept without a request.
const MOST_KEPT: usize = 512;

/// One server of a pool.
pub struct Server {
    /// As on metrics and in the log.
    pub name: Arc<str>,
    /// The Host that it is sent.
    pub host: HeaderValue,
    pub(super) address: ServerAddress,
    pub(super) weight: u32,
    http2: Http2,
    encryption: Encryption,
    kept_for: Duration,
    endpoint: ArcSwapOption<Endpoint>,
    kept: Mutex<Vec<Kept>>,
    multiplexed: Mutex<Option<Multiplexed>>,
    /// One connection for many is opened by one.
    opening: tokio::sync::Mutex<()>,
    pub(super) in_flight: AtomicUsize,
    pub(super) is_checked_healthy: AtomicBool,
    pub(super) healthy_since: AtomicU64,
    pub(super) failures: AtomicU32,
    pub(super) ejections_in_a_row: AtomicU32,
    pub(super) ejected_until: AtomicU64,
    /// How long it took to answer lately, in microseconds; 0 where it has not.
    pub(super) latency: AtomicU64,
}

/// A connection without a request.
struct Kept {
    backend: Backend,
    until: Instant,
}

impl Server {
    pub(super) fn new(WeightedServer { address, weight }: &WeightedServer, upstream: &Upstream) -> Self {
        let name = address.to_string();
        let protocols: Protocols = if upstream.http2 == Http2::Negotiated { &[b"h2", b"http/1.1"] } else { &[] };
        let server = Self {
            host: HeaderValue::try_from(address.authority()).unwrap_or_else(|_| HeaderValue::from_static("backend")),
            name: name.into(),
            address: address.clone(),
            weight: *weight,
            http2: upstream.http2,
            encryption: Encryption::new(upstream.tls.as_ref(), address, protocols),
            kept_for: upstream.timeouts.idle,
            endpoint: ArcSwapOption::empty(),
            kept: Mutex::default(),
            multiplexed: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            in_flight: AtomicUsize::new(0),
            is_checked_healthy: AtomicBool::new(true),
            healthy_since: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            ejections_in_a_row: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            latency: AtomicU64::new(0),
        };
        match &server.address {
            ServerAddress::Unix(path) => server.found(Endpoint::Unix(path.clone())),
            ServerAddress::Tcp { host, port } => {
                if let Ok(ip) = host.parse::<IpAddr>() {
                    server.found(Endpoint::Tcp(std::net::SocketAddr::new(ip, *port)));
                }
            }
        }
        server
    }

    /// Where it can be reached; `None` while its name does not resolve.
    pub(super) fn endpoint(&self) -> Option<Arc<Endpoint>> {
        self.endpoint.load_full()
    }

    /// Notes where it can be reached. What is connected elsewhere is not used for further requests.
    pub(super) fn found(&self, endpoint: Endpoint) {
        let is_known = self.endpoint.load().as_ref().is_some_and(|known| **known == endpoint);
        if !is_known {
            self.endpoint.store(Some(Arc::new(endpoint)));
            self.kept.lock().clear();
            *self.multiplexed.lock() = None;
        }
    }

    /// Whether it can still be reached there, as far as is known.
    fn is_at(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.endpoint.load().as_ref().is_some_and(|known| Arc::ptr_eq(known, endpoint))
    }

    /// A conversation with it: on a connection that was kept, on a stream of one that is shared, or on a new connection, made
    /// `within` some time.
    pub(in crate::proxy) async fn open(&self, within: Duration) -> Result<Conversation, ConnectFailure> {
        if self.http2 == Http2::Off {
            return match self.reused() {
                Some(backend) => Ok(Conversation::Http1(Box::new(backend))),
                None => self.connect(within).await,
            };
        }
        if let Some(shared) = self.shared() {
            return Ok(Conversation::Http2(Box::new(shared.open(within).await?)));
        }
        match self.reused() {
            Some(backend) => Ok(Conversation::Http1(Box::new(backend))),
            None => tokio::time::timeout(within, self.open_first(within)).await.unwrap_or(Err(ConnectFailure::Late)),
        }
    }

    /// A new connection, opened by one for all who come meanwhile, where it turns out that it can be shared.
    async fn open_first(&self, within: Duration) -> Result<Conversation, ConnectFailure> {
        let _one_at_a_time = self.opening.lock().await;
        match self.shared() {
            Some(shared) => Ok(Conversation::Http2(Box::new(shared.open(within).await?))),
            None => self.connect(within).await,
        }
    }

    /// A connection of its own, in the protocol that the server speaks.
    pub(super) async fn connect(&self, within: Duration) -> Result<Conversation, ConnectFailure> {
        let endpoint = self.endpoint().ok_or(ConnectFailure::Refused)?;
        let transport = Transport::connect(&endpoint, &self.encryption, within).await?;
        if self.http2 != Http2::PriorKnowledge && !transport.speaks_http2() {
            return Ok(Conversation::Http1(Box::new(Backend::new(transport, endpoint))));
        }
        let shared = Multiplexed::start(transport, within).await?;
        self.share(&shared, &endpoint);
        Ok(Conversation::Http2(Box::new(shared.open(within).await?)))
    }

    fn share(&self, connection: &Multiplexed, endpoint: &Arc<Endpoint>) {
        let mut shared = self.multiplexed.lock();
        if self.is_at(endpoint) {
            *shared = Some(connection.clone());
        }
    }

    fn shared(&self) -> Option<Multiplexed> {
        self.multiplexed.lock().as_ref().filter(|shared| shared.is_usable()).cloned()
    }

    /// The connection that was kept last, if it is still good: those behind it are left to grow old.
    fn reused(&self) -> Option<Backend> {
        loop {
            let kept = self.kept.lock().pop()?;
            if kept.until > Instant::now()
                && let Some(backend) = kept.backend.reused()
            {
                return Some(backend);
            }
        }
    }

    /// Keeps a connection for a further request, if it can have one.
    pub(in crate::proxy) fn keep(&self, backend: Backend) {
        let Some(kept_for) = backend.kept_for(self.kept_for).filter(|kept_for| !kept_for.is_zero()) else { return };
        // Under the lock, so that a move which is noticed meanwhile clears this one too.
        let mut kept = self.kept.lock();
        if kept.len() < MOST_KEPT && self.is_at(backend.endpoint()) {
            kept.push(Kept { backend, until: Instant::now() + kept_for });
        }
    }

    /// Closes connections that were kept long enough.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        let old: Vec<Kept> = self.kept.lock().extract_if(.., |kept| kept.until <= now).collect();
        // Not under the lock.
        drop(old);
    }

    /// Whether requests may be sent to it.
    pub(super) fn is_usable(&self, now: UnixMillis) -> bool {
        self.is_checked_healthy.load(Ordering::Relaxed) && !self.is_ejected(now) && self.endpoint.load().is_some()
    }

    /// How much of its part of the requests it takes: a server that returns is spared at first.
    pub(super) fn strength(&self, now: UnixMillis) -> f64 {
        let back = self.healthy_since.load(Ordering::Relaxed).max(self.ejected_until.load(Ordering::Relaxed));
        match back {
            0 => 1.0,
            back => (now.since(UnixMillis(back)).as_secs_f64() / SLOW_START.as_secs_f64()).clamp(0.1, 1.0),
        }
    }

    /// How busy it would be with one more request, for what it can take.
    pub(super) fn load(&self, now: UnixMillis) -> f64 {
        let requests = u32::try_from(self.in_flight.load(Ordering::Acquire)).unwrap_or(u32::MAX);
        (f64::from(requests) + 1.0) / (f64::from(self.weight) * self.strength(now))
    }

    fn is_ejected(&self, now: UnixMillis) -> bool {
        now.0 < self.ejected_until.load(Ordering::Relaxed)
    }
}
