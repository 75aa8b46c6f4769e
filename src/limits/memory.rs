//! The embedded store: counts in this process, exact on one machine.
//!
//! Same meaning and same contract tests as the Redis script. A counter whose window has ended is dropped when its shard is next
//! tidied; one whose window runs is never dropped, because that would be a fresh quota.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use parking_lot::{Mutex, MutexGuard};

use crate::policy::limit::{Ask, Count, FixedWindow, LimitKey};
use crate::policy::time::UnixMillis;

const SHARDS: usize = 64;
/// A shard is not tidied below this many counters.
const SMALL: usize = 1024;

/// Counters in memory.
#[derive(Debug)]
pub struct MemoryStore {
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug)]
struct Shard {
    windows: HashMap<LimitKey, FixedWindow>,
    tidy_at: usize,
}

impl Default for MemoryStore {
    fn default() -> Self {
        let shard = || Mutex::new(Shard { windows: HashMap::new(), tidy_at: SMALL });
        Self { hasher: RandomState::new(), shards: std::iter::repeat_with(shard).take(SHARDS).collect() }
    }
}

impl MemoryStore {
    /// Takes one request from every ask, or from none, at `now`.
    ///
    /// The shards of all counters are locked in the order of their index, so the step is atomic and cannot deadlock.
    pub fn take(&self, asks: &[Ask], now: UnixMillis) -> Count {
        let mut locked = self.lock(asks);
        let windows: Vec<FixedWindow> = asks
            .iter()
            .map(|ask| self.shard(&mut locked, &ask.key).map(|shard| shard.window(ask, now)).unwrap_or_default())
            .collect();
        let granted = asks.iter().zip(&windows).all(|(ask, window)| window.has_room(ask.limit.requests));
        let tallies = asks.iter().zip(windows).map(|(ask, window)| {
            let window = if granted { window.hit() } else { window };
            if granted && let Some(shard) = self.shard(&mut locked, &ask.key) {
                shard.keep(ask.key.clone(), window, now);
            }
            window.tally(ask.limit.requests)
        });
        let tallies = tallies.collect();
        Count { granted, now, tallies }
    }

    fn lock(&self, asks: &[Ask]) -> Vec<(usize, MutexGuard<'_, Shard>)> {
        let mut indices: Vec<usize> = asks.iter().map(|ask| self.index(&ask.key)).collect();
        indices.sort_unstable();
        indices.dedup();
        indices.into_iter().filter_map(|index| Some((index, self.shards.get(index)?.lock()))).collect()
    }

    fn shard<'l>(&self, locked: &'l mut [(usize, MutexGuard<'_, Shard>)], key: &LimitKey) -> Option<&'l mut Shard> {
        let wanted = self.index(key);
        locked.iter_mut().find(|(index, _)| *index == wanted).map(|(_, shard)| &mut **shard)
    }

    fn index(&self, key: &LimitKey) -> usize {
        usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or_default()
    }
}

impl Shard {
    fn window(&self, ask: &Ask, now: UnixMillis) -> FixedWindow {
        self.windows.get(&ask.key).copied().unwrap_or_default().at(now, ask.limit.window)
    }

    fn keep(&mut self, key: LimitKey, window: FixedWindow, now: UnixMillis) {
        if self.windows.len() >= self.tidy_at {
            self.windows.retain(|_, window| now < window.ends);
            self.tidy_at = SMALL.max(2 * self.windows.len());
        }
        self.windows.insert(key, window);
    }
}
