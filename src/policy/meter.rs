//! The arithmetic of limits: three ways to count, each as a value that moves with the store's clock.
//!
//! This is the meaning of `algorithm:`. The embedded store calls it, the Redis script repeats it, and both are held to give the same
//! answers to any trace. Everything is whole numbers, so nothing depends on how a language rounds.

use std::collections::VecDeque;
use std::time::Duration;

use crate::policy::time::{UnixMillis, millis};

/// How a limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// A window begins with its first hit, and the full quota is back at its end. At most `2 × requests − 1` pass in any interval as
    /// long as a window.
    #[default]
    FixedWindow,
    /// Every hit is remembered for one window. At most `requests` pass in any interval as long as a window, at 8 bytes a hit.
    SlidingLog,
    /// The generic cell rate algorithm: hits drain at an even pace, and at most `burst` may wait to drain.
    Gcra,
}

/// What a counter is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// How it counts.
    pub algorithm: Algorithm,
    /// How many units pass in one window; at least one.
    pub requests: u32,
    /// How many units may be in use at once: `requests`, or the burst of a [`Algorithm::Gcra`] limit.
    pub capacity: u32,
    /// How long a window is.
    pub window: Duration,
}

/// The state of one counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meter {
    /// [`Algorithm::FixedWindow`].
    Window(FixedWindow),
    /// [`Algorithm::SlidingLog`].
    Log(SlidingLog),
    /// [`Algorithm::Gcra`].
    Bucket(Bucket),
}

/// A fixed window that begins with its first hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FixedWindow {
    /// Units counted since the window began.
    pub count: u32,
    /// When the window ends; a window that has ended counts nothing.
    pub ends: UnixMillis,
}

/// The time of every unit of the last window, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlidingLog(VecDeque<UnixMillis>);

/// What has not drained yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// One unit is the window's length in milliseconds; `requests` of it drain in every millisecond.
    backlog: u64,
    /// When that was so.
    at: UnixMillis,
}

impl Meter {
    /// A counter that has counted nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::FixedWindow => Self::Window(FixedWindow::default()),
            Algorithm::SlidingLog => Self::Log(SlidingLog::default()),
            Algorithm::Gcra => Self::Bucket(Bucket::default()),
        }
    }

    /// Moves the counter to `now`. A clock that went back locks nobody out longer than one window.
    pub fn advance(&mut self, rate: &Rate, now: UnixMillis) {
        match self {
            Self::Window(window) => *window = window.at(now, rate.window),
            Self::Log(log) => log.advance(rate.window, now),
            Self::Bucket(bucket) => bucket.advance(rate, now),
        }
    }

    /// Whether what [`Meter::advance`] makes of it has to be kept, also when nothing is counted: the clock has gone back behind what was
    /// counted, and the end would move on with it; or a log has something to forget.
    pub fn is_out_of_date(&self, rate: &Rate, now: UnixMillis) -> bool {
        match self {
            Self::Window(window) => window.ends > now.plus(rate.window),
            Self::Log(log) => {
                let is_over = |oldest: &UnixMillis| oldest.plus(rate.window) <= now;
                log.0.front().is_some_and(is_over) || log.0.back().is_some_and(|newest| *newest > now)
            }
            Self::Bucket(bucket) => bucket.at > now,
        }
    }

    /// How many units fit. To be asked of a counter that was moved to now, as the rest.
    pub fn room(&self, rate: &Rate) -> u32 {
        match self {
            Self::Window(window) => rate.capacity.saturating_sub(window.count),
            Self::Log(log) => rate.capacity.saturating_sub(log.count()),
            Self::Bucket(bucket) => {
                let free = bucket_size(rate).saturating_sub(bucket.backlog);
                u32::try_from(free / millis(rate.window).max(1)).unwrap_or(u32::MAX)
            }
        }
    }

    /// Counts `units` that fit.
    pub fn add(&mut self, units: u32, rate: &Rate, now: UnixMillis) {
        match self {
            Self::Window(window) => window.count = window.count.saturating_add(units),
            Self::Log(log) => log.0.extend(std::iter::repeat_n(now, units as usize)),
            Self::Bucket(bucket) => bucket.backlog += u64::from(units) * millis(rate.window),
        }
    }

    /// When nothing is counted any more and the full quota is back.
    pub fn full_at(&self, rate: &Rate, now: UnixMillis) -> UnixMillis {
        match self {
            Self::Window(window) => window.ends,
            Self::Log(log) => log.0.back().map_or(now, |newest| newest.plus(rate.window)),
            Self::Bucket(bucket) => UnixMillis(now.0 + bucket.backlog.div_ceil(u64::from(rate.requests.max(1)))),
        }
    }

    /// When `units` fit, if nobody else takes any; `now` where they do already.
    pub fn free_at(&self, units: u32, rate: &Rate, now: UnixMillis) -> UnixMillis {
        if self.room(rate) >= units {
            return now;
        }
        match self {
            Self::Window(window) => window.ends,
            Self::Log(log) => {
                let in_the_way = (log.count() + units).saturating_sub(rate.capacity).max(1) as usize;
                log.0.get(in_the_way - 1).map_or(now.plus(rate.window), |entry| entry.plus(rate.window))
            }
            Self::Bucket(bucket) => {
                let wanted = bucket.backlog + u64::from(units) * millis(rate.window);
                UnixMillis(now.0 + wanted.saturating_sub(bucket_size(rate)).div_ceil(u64::from(rate.requests.max(1))))
            }
        }
    }

    /// Whether it would be the same as a new one at `now`.
    pub fn is_over(&self, rate_window: Duration, now: UnixMillis) -> bool {
        match self {
            Self::Window(window) => now >= window.ends,
            Self::Log(log) => log.0.back().is_none_or(|newest| now >= newest.plus(rate_window)),
            Self::Bucket(bucket) => now >= bucket.at.plus(rate_window),
        }
    }
}

/// How much backlog a bucket holds.
fn bucket_size(rate: &Rate) -> u64 {
    u64::from(rate.capacity) * millis(rate.window)
}

impl FixedWindow {
    /// The window as it is at `now`: the running one, or a fresh one that would begin with this hit.
    ///
    /// An end further away than one window (the store's clock went back) is pulled in.
    #[must_use]
    pub fn at(self, now: UnixMillis, window: Duration) -> Self {
        let latest = now.plus(window);
        if now >= self.ends {
            Self { count: 0, ends: latest }
        } else {
            Self { count: self.count, ends: self.ends.min(latest) }
        }
    }

    /// Whether one more request fits.
    pub fn has_room(self, requests: u32) -> bool {
        self.count < requests
    }

    /// The window with one more request in it.
    #[must_use]
    pub fn hit(self) -> Self {
        Self { count: self.count.saturating_add(1), ..self }
    }
}

impl SlidingLog {
    fn count(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// Forgets what is a window old, and pulls in what the clock, gone back, has made the future.
    fn advance(&mut self, window: Duration, now: UnixMillis) {
        while self.0.front().is_some_and(|oldest| oldest.plus(window) <= now) {
            self.0.pop_front();
        }
        self.0.iter_mut().rev().take_while(|entry| **entry > now).for_each(|entry| *entry = now);
    }
}

impl Bucket {
    fn advance(&mut self, rate: &Rate, now: UnixMillis) {
        let drained = millis(now.since(self.at)).saturating_mul(u64::from(rate.requests));
        *self = Self { backlog: self.backlog.saturating_sub(drained), at: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn rate(algorithm: Algorithm, requests: u32) -> Rate {
        Rate { algorithm, requests, capacity: requests, window: MINUTE }
    }

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis(1_000_000 + seconds * 1000)
    }

    #[test]
    fn a_window_begins_with_its_first_hit_and_is_whole_again_at_its_end() {
        let first = FixedWindow::default().at(UnixMillis(1_500), MINUTE).hit();
        assert_eq!(first, FixedWindow { count: 1, ends: UnixMillis(61_500) });
        assert_eq!(first.at(UnixMillis(61_499), MINUTE).count, 1);
        assert_eq!(first.at(UnixMillis(61_500), MINUTE), FixedWindow { count: 0, ends: UnixMillis(121_500) });
    }

    #[test]
    fn a_log_frees_each_unit_one_window_after_it_was_taken() {
        let rate = rate(Algorithm::SlidingLog, 3);
        let mut log = Meter::new(Algorithm::SlidingLog);
        for second in [0, 10, 20] {
            log.advance(&rate, at(second));
            log.add(1, &rate, at(second));
        }
        assert_eq!((log.room(&rate), log.free_at(1, &rate, at(20)), log.full_at(&rate, at(20))), (0, at(60), at(80)));
        assert_eq!(log.free_at(3, &rate, at(20)), at(80));
        log.advance(&rate, at(60));
        assert_eq!((log.room(&rate), log.free_at(2, &rate, at(60))), (1, at(70)));
    }

    #[test]
    fn a_bucket_drains_evenly_and_holds_no_more_than_its_burst() {
        let rate = Rate { capacity: 10, ..rate(Algorithm::Gcra, 60) };
        let mut bucket = Meter::new(Algorithm::Gcra);
        bucket.advance(&rate, at(0));
        bucket.add(10, &rate, at(0));
        assert_eq!(
            (bucket.room(&rate), bucket.free_at(1, &rate, at(0)), bucket.full_at(&rate, at(0))),
            (0, at(1), at(10))
        );
        bucket.advance(&rate, at(3));
        assert_eq!(bucket.room(&rate), 3);
        bucket.advance(&rate, at(100));
        assert_eq!((bucket.room(&rate), bucket.full_at(&rate, at(100))), (10, at(100)));
    }

    #[test]
    fn case_06_a_clock_that_went_back_locks_nobody_out_longer_than_one_window() {
        for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingLog, Algorithm::Gcra] {
            let rate = rate(algorithm, 5);
            let mut meter = Meter::new(algorithm);
            meter.advance(&rate, at(500));
            meter.add(5, &rate, at(500));
            assert!(!meter.is_out_of_date(&rate, at(500)) && meter.is_out_of_date(&rate, at(100)), "{algorithm:?}");
            meter.advance(&rate, at(100));
            assert_eq!(meter.room(&rate), 0, "{algorithm:?}");
            assert!(meter.full_at(&rate, at(100)) <= at(160), "{algorithm:?}");
            meter.advance(&rate, at(160));
            assert_eq!(meter.room(&rate), 5, "{algorithm:?}");
        }
    }

    fn admit(meter: &mut Meter, rate: &Rate, units: u32, now: UnixMillis) -> bool {
        meter.advance(rate, now);
        let fits = meter.room(rate) >= units;
        if fits {
            meter.add(units, rate, now);
        }
        fits
    }

    proptest! {
        #[test]
        fn what_the_algorithms_promise_holds_for_any_trace(
            requests in 1u32..20, trace in proptest::collection::vec((0u64..20_000, 1u32..4), 1..200)
        ) {
            for (algorithm, most) in [
                (Algorithm::FixedWindow, 2 * requests - 1), (Algorithm::SlidingLog, requests), (Algorithm::Gcra, 2 * requests)
            ] {
                let rate = rate(algorithm, requests);
                let (mut meter, mut now) = (Meter::new(algorithm), at(0));
                let mut admitted: Vec<(UnixMillis, u32)> = Vec::new();
                for (step, units) in &trace {
                    now = UnixMillis(now.0 + step);
                    let units = (*units).min(requests);
                    let before = meter.clone();
                    if admit(&mut meter, &rate, units, now) {
                        admitted.push((now, units));
                    } else {
                        let free_at = meter.free_at(units, &rate, now);
                        prop_assert!(free_at > now && free_at <= now.plus(MINUTE));
                        prop_assert!(!admit(&mut before.clone(), &rate, units, UnixMillis(free_at.0 - 1)), "too late");
                        prop_assert!(admit(&mut before.clone(), &rate, units, free_at), "waiting is enough");
                    }
                    let recent = admitted.iter().filter(|(time, _)| now.since(*time) < MINUTE);
                    prop_assert!(recent.map(|(_, units)| units).sum::<u32>() <= most, "{algorithm:?}");
                    let mut full = meter.clone();
                    let full_at = meter.full_at(&rate, now);
                    full.advance(&rate, full_at);
                    prop_assert_eq!(full.room(&rate), requests);
                    prop_assert!(meter.is_over(MINUTE, full_at.plus(MINUTE)));
                }
            }
        }
    }
}
