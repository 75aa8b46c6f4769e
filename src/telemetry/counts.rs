//! Counts of the last minutes, in two stretches, and of how many requests one is counted so that it costs nothing to count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::telemetry::busiest::Sketch;

/// How long a stretch of counting lasts; shown are the one under way and the one before.
const STRETCH: Duration = Duration::from_secs(300);
/// More samples than this in a second, and every second one is left out from then on.
const MOST_SAMPLES: u32 = 256;
/// However many requests there are, one of so many is counted.
const LONGEST_STRIDE: u32 = 1 << 16;
const SECOND: Duration = Duration::from_secs(1);

/// Names by limit.
#[derive(Debug)]
pub(super) struct Counts {
    began: Instant,
    pub(super) now: BTreeMap<Arc<str>, Sketch>,
    pub(super) before: BTreeMap<Arc<str>, Sketch>,
    pub(super) before_began: Instant,
    pub(super) sampled: bool,
    pub(super) pace: Pace,
}

/// How many samples were taken since when.
#[derive(Debug)]
pub(super) struct Pace {
    since: Instant,
    samples: u32,
}

impl Counts {
    /// None, from `now` on.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            now: BTreeMap::new(),
            before: BTreeMap::new(),
            before_began: now,
            sampled: false,
            pace: Pace { since: now, samples: 0 },
        }
    }

    /// Begins another stretch where this one is over.
    pub(super) fn turn(&mut self, now: Instant) {
        match now.saturating_duration_since(self.began) {
            lasted if lasted < STRETCH => {}
            lasted if lasted < 2 * STRETCH => {
                self.before = std::mem::take(&mut self.now);
                self.before_began = self.began;
                self.began = now;
                self.sampled = false;
            }
            _ => *self = Self::new(now),
        }
    }
}

impl Pace {
    /// Notes a sample, and says of how many requests the next one is to be taken.
    pub(super) fn taken(&mut self, stride: u32, now: Instant) -> u32 {
        self.samples += 1;
        if self.samples > MOST_SAMPLES && now.saturating_duration_since(self.since) < SECOND {
            *self = Self { since: now, samples: 0 };
            return stride.saturating_mul(2).min(LONGEST_STRIDE);
        }
        self.looked_at(stride, now)
    }

    /// After a second with few samples more of the requests are taken.
    pub(super) fn looked_at(&mut self, stride: u32, now: Instant) -> u32 {
        let lasted = now.saturating_duration_since(self.since).as_secs_f64();
        if lasted < SECOND.as_secs_f64() {
            return stride;
        }
        let a_second = f64::from(self.samples) / lasted;
        *self = Self { since: now, samples: 0 };
        let mut next = stride;
        while next > 1 && a_second * f64::from(stride / next) < f64::from(MOST_SAMPLES) / 4.0 {
            next /= 2;
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_flood_every_request_is_counted_again() {
        let begin = Instant::now();
        let mut pace = Pace { since: begin, samples: 0 };
        let mut stride = 1;
        for n in 0..10_000 {
            stride = pace.taken(stride, begin + Duration::from_micros(n));
        }
        assert_eq!(stride, LONGEST_STRIDE);
        assert_eq!(pace.looked_at(stride, begin + Duration::from_millis(500)), stride);
        let calmer = pace.looked_at(stride, begin + Duration::from_secs(10));
        assert!(calmer < stride, "{calmer}");
        assert_eq!(pace.looked_at(calmer, begin + Duration::from_secs(20)), 1);
    }

    #[test]
    fn two_stretches_are_shown_and_older_ones_forgotten() {
        let begin = Instant::now();
        let mut counts = Counts::new(begin);
        counts.now.entry("general".into()).or_default().count("a", 1, false);
        counts.turn(begin + STRETCH);
        assert!(counts.now.is_empty() && counts.before.len() == 1 && counts.before_began == begin);
        counts.turn(begin + 2 * STRETCH);
        assert!(counts.before.is_empty());
        counts.now.entry("general".into()).or_default().count("a", 1, false);
        counts.turn(begin + 9 * STRETCH);
        assert!(counts.now.is_empty() && counts.before.is_empty());
    }
}
