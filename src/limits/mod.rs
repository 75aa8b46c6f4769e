//! take(): asks whoever keeps the counts, and knows what to do when nobody answers.

pub mod memory;
pub mod redis;

use std::sync::Arc;

use crate::limits::memory::MemoryStore;
use crate::limits::redis::RedisStore;
use crate::policy::ClientIp;
use crate::policy::limit::{self, Ask, DecidedBy, Decision, Limit, OnStoreFailure};
use crate::policy::route::{Grant, Route};
use crate::ports::{Clock, LimitStore};
use crate::redis::Link;

/// Decides about the limits of requests.
pub struct Limits {
    shared: Option<Shared>,
    embedded: Arc<MemoryStore>,
    clock: Arc<dyn Clock>,
}

/// The store that all replicas share.
pub struct Shared {
    /// Where it counts.
    pub store: RedisStore,
    /// Who knows how many replicas there are.
    pub link: Arc<Link>,
}

impl Limits {
    /// Counts in `shared`; without it, in `embedded`.
    ///
    /// `embedded` is also where a replica counts its share while the shared store is away, so it outlives reloads.
    pub fn new(shared: Option<Shared>, embedded: Arc<MemoryStore>, clock: Arc<dyn Clock>) -> Self {
        Self { shared, embedded, clock }
    }

    /// Takes one request from all limits of `route`, or from none.
    pub async fn take(&self, route: &Route, grant: &Grant, client: ClientIp) -> Decision {
        let asks = limit::asks(route, grant, client);
        if asks.is_empty() {
            return Decision::UNCOUNTED;
        }
        let Some(shared) = &self.shared else {
            let count = self.embedded.take(&asks, self.clock.steady());
            return Decision::new(&asks, &count, DecidedBy::Store);
        };
        match shared.store.take(&asks).await {
            Ok(count) => Decision::new(&asks, &count, DecidedBy::Store),
            Err(_) => self.without_store(&asks, shared.link.replicas()),
        }
    }

    /// Each limit's own `on_store_failure`: one that denies refuses the request, one that allows drops out, and the rest are
    /// counted here, up to this replica's share of them.
    fn without_store(&self, asks: &[Ask], replicas: u32) -> Decision {
        if asks.iter().any(|ask| ask.limit.on_store_failure == OnStoreFailure::Deny) {
            return Decision { granted: false, quota: None, by: Some(DecidedBy::Local) };
        }
        let local = |ask: &&Ask| ask.limit.on_store_failure == OnStoreFailure::Local;
        let shares: Vec<Ask> = asks.iter().filter(local).map(|ask| share(ask, replicas)).collect();
        if shares.is_empty() {
            return Decision { granted: true, quota: None, by: Some(DecidedBy::Local) };
        }
        let count = self.embedded.take(&shares, self.clock.steady());
        Decision::new(&shares, &count, DecidedBy::Local)
    }
}

/// An ask with this replica's share of the limit: at least one, so that nobody is locked out by arithmetic.
fn share(ask: &Ask, replicas: u32) -> Ask {
    let requests = (ask.limit.requests / replicas.max(1)).max(1);
    let limit = Limit { requests, requests_header: requests.into(), ..Limit::clone(&ask.limit) };
    Ask { limit: Arc::new(limit), key: ask.key.clone() }
}
