//! Success bodies that are not as agreed: each is counted, and for each route and field one line a minute is written.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::policy::contract::Drift;
use crate::telemetry::metrics::Metrics;

/// How many bodies may be copied, or wait to be judged, at a time.
const MOST_COPIES: usize = 64;
/// How long a line holds for its route and field.
const PAUSE: Duration = Duration::from_secs(60);

/// What there is to say about the contract.
pub struct Drifts {
    metrics: Arc<Metrics>,
    places: Arc<Semaphore>,
    told: Mutex<HashMap<(Arc<str>, Drift), Instant>>,
}

impl Drifts {
    /// Counts in `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { metrics, places: Arc::new(Semaphore::new(MOST_COPIES)), told: Mutex::default() })
    }

    /// Room for one more copy, until it is dropped; `None` while there are too many.
    pub fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Tells of a body of `route`.
    pub fn tell(&self, route: &Arc<str>, drift: Drift) {
        self.metrics.drifted(route, drift);
        if self.is_due(route, drift, Instant::now()) {
            tracing::warn!(route = &**route, field = drift.as_str(), "{}", drift.sentence());
        }
    }

    fn is_due(&self, route: &Arc<str>, drift: Drift, now: Instant) -> bool {
        let mut told = self.told.lock();
        // What is forgotten here would be due again, and routes of former configurations go with it.
        told.retain(|_, at| now.saturating_duration_since(*at) < PAUSE);
        let key = (Arc::clone(route), drift);
        !told.contains_key(&key) && told.insert(key, now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_once_a_minute_for_each_route_and_field() {
        let drifts = Drifts::new(Arc::new(Metrics::new().unwrap()));
        let (one, other): (Arc<str>, Arc<str>) = ("one".into(), "other".into());
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(drifts.is_due(&one, Drift::Data, start));
        assert!(drifts.is_due(&one, Drift::Meta, start) && drifts.is_due(&other, Drift::Data, after(1)));
        assert!(!drifts.is_due(&one, Drift::Data, after(59)) && drifts.is_due(&one, Drift::Data, after(60)));
        assert!(!drifts.is_due(&other, Drift::Data, after(60)) && drifts.is_due(&other, Drift::Data, after(61)));
        assert_eq!(drifts.told.lock().len(), 2, "what is over is forgotten");
    }

    #[test]
    fn there_is_room_for_so_many_copies() {
        let drifts = Drifts::new(Arc::new(Metrics::new().unwrap()));
        let mut places: Vec<_> = std::iter::from_fn(|| drifts.place()).collect();
        assert_eq!(places.len(), MOST_COPIES);
        drop(places.pop());
        assert!(drifts.place().is_some());
    }
}
