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
