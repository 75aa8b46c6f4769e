//! Stops asking a store that does not answer, and begins again gently when it does.
//!
//! Without it every request would wait its whole deadline for a store that hangs. Requests never find out whether the store is back: a
//! background task does, with the real script. Then a growing part of the requests asks again, so that all replicas together do not
//! fall upon a store that has just come up.

use std::time::Duration;

use parking_lot::Mutex;

use crate::policy::time::{UnixMillis, millis};

/// So many failures in a row open it.
const MOST_IN_A_ROW: u32 = 5;
/// So many questions within a second of which half have failed open it.
const ENOUGH: u32 = 20;
const SECOND: Duration = Duration::from_secs(1);
/// How long it takes from the first tenth of the requests to all of them.
const RAMP: Duration = Duration::from_millis(500);

/// Whether a store may be asked.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    in_a_row: u32,
    second: UnixMillis,
    asked: u32,
    failed: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// Everybody may ask.
    #[default]
    Closed,
    /// Nobody may.
    Open,
    /// Some may, since then.
    Ramping(UnixMillis),
}

impl Breaker {
    /// Whether this request may ask the store. `draw` is a random number from 0 to 1.
    pub(super) fn admits(&self, now: UnixMillis, draw: f64) -> bool {
        match self.0.lock().phase {
            Phase::Closed => true,
            Phase::Open => false,
            Phase::Ramping(since) => draw < 0.1 + 0.9 * now.since(since).as_secs_f64() / RAMP.as_secs_f64(),
        }
    }

    /// Notes how a question went; `true` if that opened it, so that somebody has to find out when the store is back.
    pub(super) fn heard(&self, is_answer: bool, now: UnixMillis) -> bool {
        let mut state = self.0.lock();
        if now.0 >= state.second.0 + millis(SECOND) {
            (state.second, state.asked, state.failed) = (now, 0, 0);
        }
        state.asked += 1;
        if is_answer {
            state.in_a_row = 0;
            if matches!(state.phase, Phase::Ramping(since) if now.since(since) >= RAMP) {
                state.phase = Phase::Closed;
            }
            return false;
        }
        state.in_a_row += 1;
        state.failed += 1;
        let is_too_much = state.in_a_row >= MOST_IN_A_ROW || (state.asked >= ENOUGH && 2 * state.failed >= state.asked);
        let opens = is_too_much && state.phase != Phase::Open;
        if opens {
            state.phase = Phase::Open;
        }
        opens
    }

    /// The store answers again.
    pub(super) fn store_is_back(&self, now: UnixMillis) {
        *self.0.lock() = State { phase: Phase::Ramping(now), ..State::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> UnixMillis {
        UnixMillis(1_000_000 + millis)
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_an_answer_between_them_does_not() {
        let breaker = Breaker::default();
        for n in 0..4 {
            assert!(!breaker.heard(false, at(n * 1000)));
        }
        assert!(!breaker.heard(true, at(4000)));
        for n in 5..9 {
            assert!(!breaker.heard(false, at(n * 1000)));
        }
        assert!(breaker.admits(at(9000), 0.99));
        assert!(breaker.heard(false, at(9000)));
        assert!(!breaker.admits(at(9001), 0.0));
        assert!(!breaker.heard(false, at(9002)), "it is open already");
    }

    #[test]
    fn half_of_many_within_a_second_open_it() {
        let breaker = Breaker::default();
        let opened = (0..30).position(|n| breaker.heard(n % 2 == 0, at(n)));
        assert_eq!(opened, Some(19));
    }

    #[test]
    fn when_the_store_is_back_a_tenth_asks_first_and_then_more_and_more() {
        let breaker = Breaker::default();
        assert!((0..5).any(|_| breaker.heard(false, at(0))));
        breaker.store_is_back(at(1000));
        assert!(breaker.admits(at(1000), 0.05) && !breaker.admits(at(1000), 0.15));
        assert!(breaker.admits(at(1250), 0.5) && !breaker.admits(at(1250), 0.6));
        assert!(breaker.admits(at(1500), 0.999));
        assert!(!breaker.heard(true, at(1600)));
        assert_eq!(breaker.0.lock().phase, Phase::Closed);
    }
}
