//! What the store last said of each counter: enough to refuse without asking it again, and to go on without it.
//!
//! A refusal from here is one that the store would give: the counter had no room for a request of that cost when it was asked, and
//! nothing but time makes room. Time is counted from before the question was sent, so it runs out here no later than there.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::Cache;

use crate::policy::limit::{Ask, Count, DecidedBy, Decision, Limit, LimitKey, Tally};
use crate::policy::time::UnixMillis;

/// Counters that are remembered. The others are asked for.
const MOST: usize = 100_000;

/// What is remembered of counters.
pub(super) struct Views(Cache<LimitKey, View>);

/// A counter as the store last told of it.
#[derive(Clone, Debug)]
pub(super) struct View {
    limit: Arc<Limit>,
    cost: u32,
    tally: Tally,
    /// The store's clock.
    now: UnixMillis,
    /// The same moment or a little earlier, on ours.
    asked_at: UnixMillis,
}

impl View {
    /// When, on our clock, a request of its cost fits again.
    fn free_at(&self) -> UnixMillis {
        self.asked_at.plus(self.tally.free_at.since(self.now))
    }

    /// How long, from `steady`, until the full quota is back; `None` if it is.
    pub(super) fn lasts(&self, steady: UnixMillis) -> Option<Duration> {
        let ends = self.asked_at.plus(self.tally.ends.since(self.now));
        (steady < ends).then(|| ends.since(steady))
    }

    /// What was left, and when the full quota is back on the store's clock.
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }
}

impl Views {
    pub(super) fn new() -> Self {
        Self(Cache::new(MOST))
    }

    /// What is remembered of a counter.
    pub(super) fn get(&self, key: &LimitKey) -> Option<View> {
        self.0.get(key)
    }

    /// Remembers an answer to a question that was sent at `asked_at`.
    pub(super) fn learn(&self, asks: &[Ask], count: &Count, asked_at: UnixMillis) {
        for (ask, tally) in asks.iter().zip(&count.tallies) {
            let (limit, cost) = (Arc::clone(&ask.limit), ask.cost);
            self.0.insert(ask.key.clone(), View { limit, cost, tally: *tally, now: count.now, asked_at });
        }
    }

    /// The refusal that the store would give, if that is known. A changed limit is not known.
    pub(super) fn refusal(&self, asks: &[Ask], steady: UnixMillis) -> Option<Decision> {
        let mut refusing: Vec<(Ask, View)> = Vec::new();
        for ask in asks.iter().filter(|ask| ask.limit.is_enforced()) {
            let view = self.0.get(&ask.key);
            let is_exhausted = |view: &View| {
                view.tally.remaining < view.cost
                    && ask.cost >= view.cost
                    && steady < view.free_at()
                    && view.limit == ask.limit
            };
            refusing.extend(view.filter(is_exhausted).map(|view| (ask.clone(), view)));
        }
        let (ask, view) = refusing.into_iter().max_by_key(|(_, view)| view.free_at())?;
        let now =
            UnixMillis(view.tally.free_at.0.saturating_sub(view.free_at().since(steady).as_millis().try_into().ok()?));
        let count = Count { granted: 0, now, tallies: vec![Tally { taken: 0, ..view.tally }] };
        Some(Decision::new(&[ask], &count, DecidedBy::DenyCache))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::memory::MemoryStore;
    use crate::policy::limit::{CountedBy, Mode, OnStoreFailure};
    use crate::policy::meter::{Algorithm, Rate};
    use http::HeaderValue;
    use proptest::prelude::*;

    /// A request: how much later than the one before, its limits, how long the way to the store and back is.
    #[derive(Clone, Debug)]
    struct Step {
        passed: u64,
        asks: Vec<Ask>,
        there: u64,
        back: u64,
    }

    fn ask(at: usize, requests: u32, cost: u32, is_enforced: bool) -> Ask {
        let algorithm = [Algorithm::FixedWindow, Algorithm::SlidingLog, Algorithm::Gcra][at];
        // A bucket that drains at another pace is another promise; the rest keep theirs.
        let requests = if algorithm == Algorithm::Gcra { 5 } else { requests };
        let limit = Limit {
            name: "l".into(),
            rate: Rate { algorithm, requests, capacity: requests, window: Duration::from_secs(10) },
            by: CountedBy::Workspace,
            on_store_failure: OnStoreFailure::Local,
            mode: if is_enforced { Mode::Enforce } else { Mode::Shadow },
            requests_header: HeaderValue::from(requests),
        };
        Ask { limit: Arc::new(limit), key: LimitKey::named(&format!("k{at}")), cost }
    }

    fn step() -> impl Strategy<Value = Step> {
        let asks = prop::collection::btree_map(0usize..3, (4u32..7, 1u32..4, prop::bool::weighted(0.9)), 1..3);
        (prop_oneof![6 => 0u64..400, 1 => 2_000u64..12_000], asks, 0u64..30, 0u64..300).prop_map(
            |(passed, asks, there, back)| {
                let asks = asks
                    .into_iter()
                    .map(|(at, (requests, cost, enforced))| ask(at, requests, cost, enforced))
                    .collect();
                Step { passed, asks, there, back }
            },
        )
    }

    proptest! {
        #[test]
        fn case_10_every_refusal_from_here_is_one_that_the_store_would_give(steps in prop::collection::vec(step(), 1..150), skew in 0u64..100_000) {
            let (views, store, mut now) = (Views::new(), MemoryStore::default(), 1_000_000);
            let mut on_their_way: Vec<(u64, Vec<Ask>, Count, u64)> = Vec::new();
            for Step { passed, asks, there, back } in steps {
                now += passed;
                on_their_way.sort_by_key(|(arrives, ..)| *arrives);
                while on_their_way.first().is_some_and(|(arrives, ..)| *arrives <= now) {
                    let (_, asks, count, asked_at) = on_their_way.remove(0);
                    views.learn(&asks, &count, UnixMillis(asked_at));
                }
                if let Some(refusal) = views.refusal(&asks, UnixMillis(now)) {
                    let count = store.take(&asks, 1, UnixMillis(now + skew));
                    prop_assert_eq!(count.granted, 0);
                    let quota = refusal.quota.unwrap();
                    let known: Vec<u64> = count.tallies.iter().map(|tally| tally.free_at.since(count.now).as_millis() as u64).collect();
                    prop_assert!(known.iter().any(|wait| quota.retry_after <= wait.div_ceil(1000).max(1)), "{quota:?} {known:?}");
                    continue;
                }
                let count = store.take(&asks, 1, UnixMillis(now + there + skew));
                on_their_way.push((now + there + back, asks, count, now));
                now += there;
            }
        }
    }
}
