//! What looking up tokens that were never seen may cost: so many a second, so many at a time, so many failures from one address.
//!
//! A flood of well-formed random tokens is all misses, which no cache can help against. It is stopped here, before a store, and without
//! a word about which of its tokens might exist; tokens that are known do not come this way.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::config::settings::LookUpSettings;
use crate::policy::ClientIp;
use crate::policy::limit::network;
use crate::policy::meter::FixedWindow;
use crate::policy::refusal::Refusal;
use crate::policy::time::UnixMillis;

const MINUTE: Duration = Duration::from_secs(60);
/// Addresses that are remembered at most. Beyond that, new ones are not counted: the budget still holds.
const MOST_ADDRESSES: usize = 100_000;

/// The budget of look-ups.
pub(super) struct Budget {
    settings: LookUpSettings,
    tokens: Mutex<Bucket>,
    in_flight: Arc<AtomicUsize>,
    failures: Mutex<HashMap<String, FixedWindow>>,
}

/// A token bucket that holds one second's worth.
struct Bucket {
    level: f64,
    filled_at: UnixMillis,
}

/// Leave to look one token up; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Leave(Arc<AtomicUsize>);

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Budget {
    pub(super) fn new(settings: LookUpSettings, now: UnixMillis) -> Self {
        Self {
            settings,
            tokens: Mutex::new(Bucket { level: f64::from(settings.per_second), filled_at: now }),
            in_flight: Arc::default(),
            failures: Mutex::default(),
        }
    }

    /// Leave to look a token up that was never seen; over the budget it is 503, because nobody knows whether the token is valid.
    pub(super) fn leave(&self, now: UnixMillis) -> Result<Leave, Refusal> {
        let over = Refusal::StoreUnavailable("look_ups");
        let leave = Leave(Arc::clone(&self.in_flight));
        if self.in_flight.fetch_add(1, Ordering::AcqRel) >= self.settings.in_flight {
            return Err(over);
        }
        let mut bucket = self.tokens.lock();
        let capacity = f64::from(self.settings.per_second);
        let refilled = now.since(bucket.filled_at).as_secs_f64() * capacity;
        bucket.level = (bucket.level + refilled).min(capacity);
        bucket.filled_at = bucket.filled_at.max(now);
        if bucket.level < 1.0 {
            return Err(over);
        }
        bucket.level -= 1.0;
        Ok(leave)
    }

    /// Refuses an address that has presented too many unknown tokens within a minute.
    pub(super) fn check(&self, client: ClientIp, now: UnixMillis) -> Result<(), Refusal> {
        let Some(most) = self.settings.failures_per_minute else { return Ok(()) };
        let failures = self.failures.lock();
        let window = failures.get(&network(client)).copied().unwrap_or_default().at(now, MINUTE);
        if window.has_room(most) {
            return Ok(());
        }
        Err(Refusal::TooManyFailures(window.ends.since(now).as_secs().max(1)))
    }

    /// Notes that an address presented a token that nobody knows.
    pub(super) fn failed(&self, client: ClientIp, now: UnixMillis) {
        if self.settings.failures_per_minute.is_none() {
            return;
        }
        let mut failures = self.failures.lock();
        if failures.len() >= MOST_ADDRESSES {
            failures.retain(|_, window| now < window.ends);
        }
        let address = network(client);
        if failures.len() < MOST_ADDRESSES || failures.contains_key(&address) {
            let window = failures.entry(address).or_default();
            *window = window.at(now, MINUTE).hit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(per_second: u32, in_flight: usize, failures: u32) -> Budget {
        let settings = LookUpSettings { per_second, in_flight, failures_per_minute: Some(failures) };
        Budget::new(settings, UnixMillis(0))
    }

    #[test]
    fn a_million_unknown_tokens_get_no_more_look_ups_than_the_budget_has() {
        let budget = budget(200, 64, 20);
        // A million within ten seconds.
        let granted = (0..1_000_000u64).filter(|n| budget.leave(UnixMillis(n / 100)).is_ok()).count();
        assert!((2_000..=2_200).contains(&granted), "{granted}");
    }

    #[test]
    fn so_many_at_a_time_and_a_place_is_free_again_when_its_look_up_ends() {
        let budget = budget(1000, 2, 20);
        let (one, two) = (budget.leave(UnixMillis(0)), budget.leave(UnixMillis(0)));
        assert_eq!(budget.leave(UnixMillis(0)).unwrap_err(), Refusal::StoreUnavailable("look_ups"));
        drop(one);
        assert!(budget.leave(UnixMillis(0)).is_ok() && two.is_ok());
    }

    #[test]
    fn an_address_with_too_many_failures_waits_for_its_window_and_others_do_not() {
        let budget = budget(200, 64, 2);
        let (guilty, neighbour) = (ClientIp("192.0.2.1".parse().unwrap()), ClientIp("192.0.2.2".parse().unwrap()));
        for _ in 0..2 {
            assert_eq!(budget.check(guilty, UnixMillis(1_000)), Ok(()));
            budget.failed(guilty, UnixMillis(1_000));
        }
        assert_eq!(budget.check(guilty, UnixMillis(31_000)), Err(Refusal::TooManyFailures(30)));
        assert_eq!(budget.check(neighbour, UnixMillis(31_000)), Ok(()));
        assert_eq!(budget.check(guilty, UnixMillis(61_000)), Ok(()));
    }
}
