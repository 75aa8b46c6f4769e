//! Whatever has a name may have a hostile one, and it stays text.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::admin::console::{Glance, PoolState, Process, Standing, figures, page};
use crate::config::Loaded;
use crate::config::settings::Config;
use crate::policy::Policy;
use crate::policy::limit::Limit;
use crate::policy::refusal::{Blame, Refusal};
use crate::policy::route::{Route, RouteTable};
use crate::policy::upstream::Upstream;
use crate::proxy::history::{Known, Reload, ReloadResult};
use crate::proxy::pool::state::{Condition, ServerState};
use crate::telemetry::busiest::Busy;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::recent::{Busiest, Refused};

const HOSTILE: &str = "</style></script>\"'><script>hostile()</script><img src=x onerror=hostile()>&amp;";

/// A configuration in which everything that has a name has this one.
fn hostile() -> Config {
    let text = "version: 1\nlisteners: [{address: \"127.0.0.1:0\"}]\nupstreams: {u: {servers: [\"127.0.0.1:1\"]}}\nlimits: {l: {requests: 1, per: 1m, by: client_ip}}\nroutes: {r: {path: /r, access: public, limit: l, upstream: u}}\n";
    let mut config = Loaded::from_text("f".into(), text.into(), &|_| None).into_config().unwrap();
    let policy = Arc::clone(&config.policy);
    let limit = Arc::new(Limit { name: HOSTILE.into(), ..Limit::clone(&policy.limits[0]) });
    let route = policy.routes.iter().find(|route| &*route.name == "r").unwrap();
    let route = Route {
        name: HOSTILE.into(),
        pattern: route.pattern.clone(),
        methods: route.methods,
        access: route.access.clone(),
        limits: vec![Arc::clone(&limit)],
        pagination: None,
        ..**route
    };
    let upstream = Arc::new(Upstream { name: HOSTILE.into(), ..Upstream::clone(&policy.upstreams[0]) });
    config.policy = Arc::new(Policy {
        routes: RouteTable::new(vec![Arc::new(route)]),
        limits: vec![limit],
        upstreams: vec![upstream],
        ..empty()
    });
    config
}

fn empty() -> Policy {
    let routes = RouteTable::new(Vec::new());
    let backend_errors = crate::policy::normalise::BackendErrors::Pass;
    Policy { routes, limits: Vec::new(), upstreams: Vec::new(), backend_errors, contract: None, cors: None }
}

#[test]
fn a_hostile_name_is_text_wherever_it_stands() {
    let (config, metrics, now) = (hostile(), Metrics::new().unwrap(), SystemTime::now());
    metrics.build(HOSTILE, HOSTILE);
    metrics.store_up(HOSTILE, false);
    metrics.certificate_ends(HOSTILE, HOSTILE, 0);
    let server = |condition| ServerState {
        name: HOSTILE.into(),
        weight: 2,
        condition,
        in_flight: 0,
        latency: Some(Duration::from_millis(2)),
    };
    let reload = |result| Reload { at: now, result };
    let refusal = Refusal::Internal("fault");
    let busy = Busy { name: HOSTILE.into(), requests: 3, uncertain: 1, refused: 1 };
    let glance = Glance {
        process: &Process::new(HOSTILE.into(), Vec::new(), ([127, 0, 0, 1], 9090).into(), 2),
        pools: vec![PoolState {
            upstream: Arc::clone(&config.policy.upstreams[0]),
            servers: vec![server(Condition::Unhealthy), server(Condition::Ejected(Duration::from_secs(3)))],
        }],
        config: &config,
        replicas: Some(2),
        standing: Standing::NotReady,
        figures: figures::Figures::new(&metrics),
        history: Known {
            in_force_since: now,
            reloads: [reload(ReloadResult::Refused(HOSTILE.into())), reload(ReloadResult::Applied(vec![HOSTILE]))]
                .into(),
            forgotten: 1,
        },
        refused: vec![Refused {
            route: Some(HOSTILE.into()),
            reason: HOSTILE,
            status: refusal.status(),
            blame: Blame::Gateway,
            at: now,
        }],
        busiest: Some(Busiest {
            lasted: Duration::from_secs(60),
            sampled: true,
            by_limit: BTreeMap::from([(HOSTILE.into(), vec![busy])]),
        }),
        up: Duration::from_secs(5),
        now,
    };
    let page = page::page(&glance).into_string();
    assert!(page.matches("&lt;script&gt;hostile()").count() > 15, "{page}");
    for (piece, times) in [("<script>", 1), ("</script>", 1), ("</style>", 1), ("<img", 0), ("\"'>", 0)] {
        assert_eq!(page.matches(piece).count(), times, "{piece} in {page}");
    }
    // Within a quoted attribute nothing but a quote and an ampersand have a meaning.
    assert!(!page.contains("=\"</style>"));
}
