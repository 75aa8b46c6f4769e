//! The embedded store: counts in this process, exact on one machine.
//!
//! Same meaning and same contract tests as the Redis script. A counter that is over is dropped when its shard is next tidied; one that
//! runs is never dropped, because that would be a fresh quota. Counters of addresses are bounded in number, because anybody can make
//! them; there are no more of the others than callers.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::policy::limit::{Ask, Count, LimitKey, Tally};
use crate::policy::meter::{Meter, Rate};
use crate::policy::time::UnixMillis;

const SHARDS: usize = 64;
/// A shard is not tidied below this many counters.
const SMALL: usize = 1024;
/// A shard that is full of addresses is tidied no more often: it costs a look at each.
const TIDY_AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// Counters of addresses in one shard. A new one beyond that is refused rather than let through uncounted.
const MOST_ADDRESSES: usize = 8_192;

/// Counters in memory.
#[derive(Debug)]
pub struct MemoryStore {
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug)]
struct Shard {
    counters: HashMap<LimitKey, Counter>,
    addresses: usize,
    tidy_at: usize,
    tidied_at: UnixMillis,
}

#[derive(Clone, Debug)]
struct Counter {
    meter: Meter,
    window: Duration,
}

impl Default for MemoryStore {
    fn default() -> Self {
        let shard =
            || Mutex::new(Shard { counters: HashMap::new(), addresses: 0, tidy_at: SMALL, tidied_at: UnixMillis(0) });
        Self { hasher: RandomState::new(), shards: std::iter::repeat_with(shard).take(SHARDS).collect() }
    }
}

/// A counter as it is now, and whether it may be kept.
struct Current {
    meter: Meter,
    is_full: bool,
}

impl Current {
    /// How many requests fit.
    fn room(&self, ask: &Ask) -> u32 {
        if self.is_full { 0 } else { self.meter.room(&ask.limit.rate) / ask.cost.max(1) }
    }

    fn tally(&self, ask: &Ask, taken: u32, now: UnixMillis) -> Tally {
        let rate = &ask.limit.rate;
        if self.is_full {
            let soon = now.plus(Duration::from_secs(1));
            return Tally { taken, remaining: 0, ends: soon, free_at: soon };
        }
        Tally {
            taken,
            remaining: self.meter.room(rate),
            ends: self.meter.full_at(rate, now),
            free_at: self.meter.free_at(ask.cost, rate, now),
        }
    }
}

impl MemoryStore {
    /// Takes as many of `requests` as all enforced limits have room for, at `now`.
    ///
    /// The shards of all counters are locked in the order of their index, so the step is atomic and cannot deadlock.
    pub fn take(&self, asks: &[Ask], requests: u32, now: UnixMillis) -> Count {
        let mut locked = self.lock(asks);
        let mut counters: Vec<Current> =
            asks.iter().filter_map(|ask| Some(self.shard(&mut locked, &ask.key)?.current(ask, now))).collect();
        let enforced = asks.iter().zip(&counters).filter(|(ask, _)| ask.limit.is_enforced());
        let granted = enforced.map(|(ask, counter)| counter.room(ask)).fold(requests, u32::min);
        let tallies = asks.iter().zip(&mut counters).map(|(ask, counter)| {
            let taken = granted.min(counter.room(ask));
            if taken > 0 {
                counter.meter.add(taken * ask.cost, &ask.limit.rate, now);
                if let Some(shard) = self.shard(&mut locked, &ask.key) {
                    shard.keep(ask, counter.meter.clone(), now);
                }
            }
            counter.tally(ask, taken, now)
        });
        Count { granted, now, tallies: tallies.collect() }
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
    fn current(&mut self, ask: &Ask, now: UnixMillis) -> Current {
        let rate: &Rate = &ask.limit.rate;
        let known = self.counters.get_mut(&ask.key).map(|counter| {
            if counter.meter.is_out_of_date(rate, now) {
                counter.meter.advance(rate, now);
            }
            counter.meter.clone()
        });
        let is_full = known.is_none() && ask.key.is_of_an_address() && self.is_full_of_addresses(now);
        let mut meter = known.unwrap_or_else(|| Meter::new(rate.algorithm));
        meter.advance(rate, now);
        Current { meter, is_full }
    }

    fn is_full_of_addresses(&mut self, now: UnixMillis) -> bool {
        if self.addresses >= MOST_ADDRESSES && now.since(self.tidied_at) >= TIDY_AT_MOST_EVERY {
            self.tidy(now);
        }
        self.addresses >= MOST_ADDRESSES
    }

    fn keep(&mut self, ask: &Ask, meter: Meter, now: UnixMillis) {
        if self.counters.len() >= self.tidy_at {
            self.tidy(now);
        }
        let counter = Counter { meter, window: ask.limit.rate.window };
        if self.counters.insert(ask.key.clone(), counter).is_none() && ask.key.is_of_an_address() {
            self.addresses += 1;
        }
    }

    fn tidy(&mut self, now: UnixMillis) {
        self.counters.retain(|_, counter| !counter.meter.is_over(counter.window, now));
        self.addresses = self.counters.keys().filter(|key| key.is_of_an_address()).count();
        self.tidy_at = SMALL.max(2 * self.counters.len());
        self.tidied_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::limit::{CountedBy, Limit, Mode, OnStoreFailure};
    use crate::policy::meter::Algorithm;
    use http::HeaderValue;
    use std::sync::Arc;

    fn ask(key: &str) -> Ask {
        let window = Duration::from_secs(60);
        let limit = Limit {
            name: "l".into(),
            rate: Rate { algorithm: Algorithm::FixedWindow, requests: 1, capacity: 1, window },
            by: CountedBy::ClientIp,
            on_store_failure: OnStoreFailure::Local,
            mode: Mode::Enforce,
            requests_header: HeaderValue::from(1),
        };
        Ask { limit: Arc::new(limit), key: LimitKey::named(key), cost: 1 }
    }

    #[test]
    fn addresses_are_bounded_in_number_and_push_nobody_out() {
        let store = MemoryStore::default();
        assert_eq!(store.take(&[ask("{wcustomer}:l:60")], 1, UnixMillis(1_000)).granted, 1);
        let most = u32::try_from(SHARDS * MOST_ADDRESSES).unwrap();
        let granted =
            (0..most + 100_000).map(|n| store.take(&[ask(&format!("{{ip{n}}}:l:60"))], 1, UnixMillis(1_001)).granted);
        assert!(granted.sum::<u32>() <= most);
        assert_eq!(store.take(&[ask("{wcustomer}:l:60")], 1, UnixMillis(1_002)).granted, 0, "its window still runs");
        assert_eq!(store.take(&[ask("{wanother}:l:60")], 1, UnixMillis(1_002)).granted, 1, "callers always have room");
        assert_eq!(store.take(&[ask("{ipnew}:l:60")], 1, UnixMillis(62_500)).granted, 1, "there is room again");
    }
}
