//! Whether an upstream is left alone as a whole: after many failures in a row nobody waits for it any more, until one request that is
//! let through now and then succeeds.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::policy::time::{UnixMillis, millis};
use crate::policy::upstream::Circuit;

/// How an upstream has fared lately.
#[derive(Debug, Default)]
pub(super) struct Switch {
    failures: AtomicU32,
    /// Until when requests are refused; 0 while they are not.
    open_until: AtomicU64,
}

/// What an outcome changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Requests are refused from now on.
    Opened,
    /// They are sent again.
    Closed,
}

impl Switch {
    /// Whether a request may be sent at `now`; else how long to wait. One that may although others may not is a trial: the next one is
    /// due after as long again, whatever becomes of this.
    pub(super) fn admits(&self, circuit: &Circuit, now: UnixMillis) -> Result<(), Duration> {
        let until = self.open_until.load(Ordering::Acquire);
        if until == 0 {
            return Ok(());
        }
        let next = now.0.saturating_add(millis(circuit.duration));
        let is_trial = now.0 >= until
            && self.open_until.compare_exchange(until, next, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if is_trial { Ok(()) } else { Err(UnixMillis(until).since(now)) }
    }

    /// Notes how a request ended.
    pub(super) fn heard(&self, circuit: &Circuit, failed: bool, now: UnixMillis) -> Option<Change> {
        if !failed {
            self.failures.store(0, Ordering::Relaxed);
            return (self.open_until.swap(0, Ordering::AcqRel) != 0).then_some(Change::Closed);
        }
        let in_a_row = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let until = now.0.saturating_add(millis(circuit.duration));
        let opens = in_a_row >= circuit.failures && self.open_until.swap(until, Ordering::AcqRel) == 0;
        opens.then_some(Change::Opened)
    }

    /// Whether requests are refused.
    pub(super) fn is_open(&self) -> bool {
        self.open_until.load(Ordering::Acquire) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CIRCUIT: Circuit = Circuit { failures: 3, duration: Duration::from_secs(5) };

    #[test]
    fn after_failures_in_a_row_one_request_at_a_time_tries_and_its_success_ends_it() {
        let (switch, at) = (Switch::default(), UnixMillis);
        for outcome in [true, true, false, true, true] {
            assert_eq!(switch.heard(&CIRCUIT, outcome, at(1_000)), None);
            assert!(switch.admits(&CIRCUIT, at(1_000)).is_ok());
        }
        assert_eq!(switch.heard(&CIRCUIT, true, at(1_000)), Some(Change::Opened));
        assert_eq!(switch.admits(&CIRCUIT, at(2_000)), Err(Duration::from_secs(4)));
        assert!(switch.admits(&CIRCUIT, at(6_000)).is_ok(), "a trial");
        assert!(switch.admits(&CIRCUIT, at(6_000)).is_err(), "not two");
        assert_eq!(switch.heard(&CIRCUIT, true, at(6_500)), None);
        assert!(switch.admits(&CIRCUIT, at(11_000)).is_err());
        assert!(switch.admits(&CIRCUIT, at(11_500)).is_ok());
        assert_eq!(switch.heard(&CIRCUIT, false, at(12_000)), Some(Change::Closed));
        assert!(switch.admits(&CIRCUIT, at(12_000)).is_ok() && !switch.is_open());
    }

    #[test]
    fn a_trial_that_nobody_tells_of_is_followed_by_another() {
        let switch = Switch::default();
        for _ in 0..3 {
            switch.heard(&CIRCUIT, true, UnixMillis(1_000));
        }
        assert!(switch.admits(&CIRCUIT, UnixMillis(7_000)).is_ok());
        assert!(switch.admits(&CIRCUIT, UnixMillis(12_000)).is_ok());
    }
}
