//! The series of one route, found once when its configuration comes into force: a request then counts without looking anything up by
//! its name.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use parking_lot::Mutex;
use prometheus::{Histogram, IntCounter};

use crate::policy::limit::{DecidedBy, Decision, Judgement, Limit};
use crate::telemetry::Outcome;
use crate::telemetry::metrics::{Metrics, method};

/// What is counted of a route's requests.
pub struct RouteMeters {
    route: Arc<str>,
    requests: Known<(&'static str, StatusCode), IntCounter>,
    duration: Histogram,
    overhead: Histogram,
    upstream: Option<Histogram>,
    decisions: Known<(Arc<str>, Judgement, DecidedBy), IntCounter>,
}

/// Series that were needed once, by what they are about. There are few, so they are looked through.
struct Known<K, M>(Mutex<Vec<(K, M)>>);

impl<K: PartialEq, M: Clone> Known<K, M> {
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn get(&self, about: K, find: impl FnOnce(&K) -> M) -> M {
        let mut known = self.0.lock();
        if let Some((_, series)) = known.iter().find(|(other, _)| *other == about) {
            return series.clone();
        }
        let series = find(&about);
        known.push((about, series.clone()));
        series
    }
}

impl fmt::Debug for RouteMeters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RouteMeters({})", self.route)
    }
}

impl RouteMeters {
    /// Those of the route that is called `route`, which leads to `upstream`.
    pub fn new(metrics: &Metrics, route: &Arc<str>, upstream: Option<&str>) -> Self {
        Self {
            route: Arc::clone(route),
            requests: Known::new(),
            duration: metrics.duration.with_label_values(&[route]),
            overhead: metrics.overhead.with_label_values(&[route]),
            upstream: upstream.map(|upstream| metrics.upstream_duration.with_label_values(&[upstream])),
            decisions: Known::new(),
        }
    }

    /// Counts a finished request.
    pub(super) fn record(&self, metrics: &Metrics, outcome: &Outcome<'_>) {
        let about = (method(outcome.method), outcome.status);
        let find = |(method, status): &(&str, StatusCode)| {
            metrics.requests.with_label_values(&[&*self.route, method, status.as_str()])
        };
        self.requests.get(about, find).inc();
        self.duration.observe(outcome.duration.as_secs_f64());
        let upstream = outcome.upstream.as_ref().map_or(Duration::ZERO, |upstream| upstream.duration);
        self.overhead.observe(outcome.duration.saturating_sub(upstream).as_secs_f64());
        if let (Some(_), Some(series)) = (&outcome.upstream, &self.upstream) {
            series.observe(upstream.as_secs_f64());
        }
        if let Some(decision) = &outcome.trail.decision {
            self.decided(metrics, decision);
        }
    }

    /// One count for each limit that had a say.
    fn decided(&self, metrics: &Metrics, decision: &Decision) {
        let Some(by) = decision.by else { return };
        for judged in &decision.judged {
            let Limit { name, .. } = &*judged.limit;
            let find = |(name, judgement, by): &(Arc<str>, Judgement, DecidedBy)| {
                metrics.decisions.with_label_values(&[&**name, judgement.as_str(), by.as_str()])
            };
            self.decisions.get((Arc::clone(name), judged.judgement, by), find).inc();
        }
    }
}
