//! What is in force: a compiled configuration with its living parts, published as one.
//!
//! A request takes a snapshot when it begins and keeps it to its end, so it never sees half of a reload.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::timeout;

use crate::auth::Identifier;
use crate::auth::revocation::Revocations;
use crate::config::settings::{Config, ConsoleSettings};
use crate::limits::memory::MemoryStore;
use crate::limits::redis::RedisStore;
use crate::limits::{Limits, Shared};
use crate::pipeline::Admission;
use crate::policy::limit::{Ask, Quota};
use crate::policy::route::{Destination, Route};
use crate::policy::upstream::Upstream;
use crate::ports::{Clock, SystemClock};
use crate::proxy::history::History;
use crate::proxy::pool::Pool;
use crate::redis::Link;
use crate::telemetry::meters::RouteMeters;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::recent::{Recent, Watched};

/// How long a new configuration may take to reach its servers and its Redis before it is put in force all the same.
const SETTLING: Duration = Duration::from_secs(1);

/// The parts that outlive every configuration.
pub struct Foundation {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What has happened lately.
    pub recent: Arc<Recent>,
    /// What was reloaded.
    pub history: History,
    clock: Arc<dyn Clock>,
    embedded: Arc<MemoryStore>,
    replica_id: String,
}

/// A configuration and its living parts.
pub struct Snapshot {
    /// What gateway.yaml says.
    pub config: Config,
    pub(super) admission: Admission,
    pools: Vec<Arc<Pool>>,
    meters: Vec<RouteMeters>,
    link: Option<Arc<Link>>,
    revocations: Arc<Revocations>,
}

/// The snapshot in force.
pub struct Live(ArcSwap<Snapshot>);

impl Foundation {
    /// Fresh parts: no counts.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            recent: Arc::default(),
            history: History::default(),
            clock: Arc::new(SystemClock::default()),
            embedded: Arc::default(),
            replica_id: uuid::Uuid::now_v7().to_string(),
        }
    }
}

impl Snapshot {
    /// Brings a configuration to life. What `previous` has and this one wants the same way is taken over: pools with their health,
    /// addresses of servers, the link to Redis, known tokens.
    ///
    /// Waits a moment for what is new to be usable, so that putting it in force is no interruption; what is not usable by then goes on
    /// trying by itself.
    pub async fn build(config: Config, foundation: &Foundation, previous: Option<&Self>) -> Self {
        let (clock, metrics) = (|| Arc::clone(&foundation.clock), || Arc::clone(&foundation.metrics));
        let link = config.redis.as_ref().map(|redis| {
            let same =
                previous.and_then(|previous| previous.link.as_ref()).filter(|link| *link.settings() == redis.link);
            let start = || Link::start(redis.link.clone(), Some(foundation.replica_id.clone()), metrics());
            same.map_or_else(start, Arc::clone)
        });
        let same_link = previous.filter(|previous| is_same(previous.link.as_ref(), link.as_ref()));
        let revocations = match (same_link, &link) {
            (Some(previous), _) => Arc::clone(&previous.revocations),
            (None, Some(link)) => Revocations::follow(link, clock(), metrics()),
            (None, None) => Revocations::none(clock(), metrics()),
        };
        let identifier = match same_link.filter(|previous| previous.config.auth == config.auth) {
            Some(previous) => Arc::clone(&previous.admission.identifier),
            None => Identifier::start(&config.auth, link.as_ref(), Arc::clone(&revocations), clock(), metrics()),
        };
        let pools: Vec<_> =
            config.policy.upstreams.iter().map(|upstream| pool(upstream, foundation, previous)).collect();
        config.policy.upstreams.iter().for_each(|upstream| foundation.metrics.knows_upstream(&upstream.name));
        let settling = async {
            identifier.settle().await;
            for pool in &pools {
                pool.settle().await;
            }
            if let Some(link) = &link {
                link.settle(SETTLING).await;
            }
            revocations.settle().await;
        };
        let _ = timeout(SETTLING, settling).await;
        let shared = link.as_ref().zip(config.redis.as_ref()).map(|(link, redis)| {
            let same = previous.and_then(|previous| previous.admission.limits.shared());
            match same.filter(|shared| shared.is_on(link, redis.deadline)) {
                Some(same) => Arc::clone(same),
                None => Shared::new(RedisStore::new(Arc::clone(link), redis.deadline), clock()),
            }
        });
        let limits = Arc::new(Limits::new(shared, Arc::clone(&foundation.embedded), clock()));
        foundation.recent.watch(watched(config.console));
        let admission = Admission { policy: Arc::clone(&config.policy), identifier, limits };
        let meters = config.policy.routes.iter().map(|route| meters(route, &config, &foundation.metrics)).collect();
        Self { config, admission, pools, meters, link, revocations }
    }

    /// The pool a route leads to.
    pub fn pool(&self, route: &Route) -> Option<&Arc<Pool>> {
        match route.destination {
            Destination::Upstream(at) => self.pools.get(at),
            Destination::RateLimits => None,
        }
    }

    /// The series of a route.
    pub(super) fn meters(&self, route: Option<&Route>) -> Option<&RouteMeters> {
        self.meters.get(route?.number)
    }

    /// Every upstream with the state of its servers.
    pub fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }

    /// Where these counters stand; nothing is taken from them.
    pub async fn standing(&self, asks: &[Ask]) -> Vec<Quota> {
        self.admission.limits.peek(asks).await
    }

    /// How many gateways share the store, as far as it is known; `None` without one.
    pub fn replicas(&self) -> Option<u32> {
        self.link.as_ref().map(|link| link.replicas())
    }

    /// Writes down what is not written down yet, before the process ends.
    pub(super) async fn flush(&self) {
        self.admission.identifier.flush().await;
        if let Some(link) = &self.link {
            link.leave().await;
        }
    }

    /// Whether any upstream that a route leads to has a server that may be used.
    pub fn is_ready(&self) -> bool {
        self.admission.policy.routes.iter().filter_map(|route| self.pool(route)).any(|pool| pool.is_usable())
    }
}

fn meters(route: &Route, config: &Config, metrics: &Metrics) -> RouteMeters {
    let upstream = match route.destination {
        Destination::Upstream(at) => config.policy.upstreams.get(at),
        Destination::RateLimits => None,
    };
    RouteMeters::new(metrics, &route.name, upstream.map(|upstream| &*upstream.name))
}

fn watched(console: ConsoleSettings) -> Watched {
    match console {
        ConsoleSettings { enabled: false, .. } => Watched::Nothing,
        ConsoleSettings { workspaces: false, .. } => Watched::Refusals,
        ConsoleSettings { .. } => Watched::Workspaces,
    }
}

fn is_same(one: Option<&Arc<Link>>, other: Option<&Arc<Link>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}

fn pool(upstream: &Arc<Upstream>, foundation: &Foundation, previous: Option<&Snapshot>) -> Arc<Pool> {
    let known = previous.map(|previous| previous.pools.as_slice()).unwrap_or_default();
    match known.iter().find(|pool| pool.upstream == *upstream) {
        Some(same) => Arc::clone(same),
        None => {
            Pool::start(Arc::clone(upstream), known, Arc::clone(&foundation.clock), Arc::clone(&foundation.metrics))
        }
    }
}

impl Live {
    /// Puts the first snapshot in force.
    pub fn new(snapshot: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(snapshot))
    }

    /// The snapshot in force.
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Puts another one in force, for requests that begin from now on.
    pub(super) fn publish(&self, snapshot: Snapshot) {
        self.0.store(Arc::new(snapshot));
    }
}
