//! Points in time as values: the policy is told the time, it never asks for it.

use std::time::Duration;

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

/// Whole seconds since the Unix epoch, as tokens and the X-RateLimit-Reset header count them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixSeconds(pub u64);

impl UnixMillis {
    /// The same point, rounded down.
    pub fn seconds(self) -> UnixSeconds {
        UnixSeconds(self.0 / 1000)
    }

    /// The first whole second that is not before this point, so that a client which waits for it has waited enough.
    pub fn seconds_rounded_up(self) -> UnixSeconds {
        UnixSeconds(self.0.div_ceil(1000))
    }

    /// This point moved by `duration`, saturating.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// How long it is from `earlier` to here; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl UnixSeconds {
    /// The start of this second.
    pub fn millis(self) -> UnixMillis {
        UnixMillis(self.0.saturating_mul(1000))
    }

    /// This second moved by `duration`, saturating.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_secs()))
    }
}

/// A duration in whole milliseconds, saturating.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
