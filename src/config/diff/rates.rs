//! Which of two limits lets more pass.

use crate::policy::limit::{CountedBy, Limit, Mode, OnStoreFailure};
use crate::policy::meter::{Algorithm, Rate};
use crate::policy::time::millis;

/// A respect in which a limit can be weaker than another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Respect {
    /// More pass: at once, in one window, or in the long run.
    Rate,
    /// Less is counted together.
    By,
    /// More pass while the store cannot decide.
    StoreFailure,
    /// It does not refuse.
    Mode,
}

/// In which respects `new` is weaker than `old`; none, where it refuses whatever the old one did. A limit in shadow refuses nothing, so that
/// nothing is weaker than it.
pub(super) fn weaknesses(old: &Limit, new: &Limit) -> Vec<Respect> {
    if old.mode == Mode::Shadow {
        return Vec::new();
    }
    let all = [
        (Respect::Rate, lets_more_pass(&old.rate, &new.rate)),
        (Respect::By, !is_counted_as_widely(old.by, new.by)),
        (Respect::StoreFailure, caution(new.on_store_failure) < caution(old.on_store_failure)),
        (Respect::Mode, new.mode == Mode::Shadow),
    ];
    all.into_iter().filter_map(|(respect, is_weaker)| is_weaker.then_some(respect)).collect()
}

/// Whether the two mean the same, whatever they are called.
pub(super) fn is_equal(old: &Limit, new: &Limit) -> bool {
    let terms = |limit: &Limit| (limit.rate, limit.by, limit.on_store_failure, limit.mode);
    terms(old) == terms(new)
}

/// Whether there is a time in which `new` lets more pass than `old`.
fn lets_more_pass(old: &Rate, new: &Rate) -> bool {
    let in_the_long_run = |rate: &Rate, other: &Rate| u128::from(rate.requests) * u128::from(millis(other.window));
    let moment = std::time::Duration::ZERO;
    [moment, old.window].iter().any(|span| most_in(new, *span) > most_in(old, *span))
        || in_the_long_run(new, old) > in_the_long_run(old, new)
}

/// The most that passes in any interval of this length.
fn most_in(rate: &Rate, interval: std::time::Duration) -> u128 {
    let (requests, window) = (u128::from(rate.requests), u128::from(millis(rate.window)).max(1));
    let interval = u128::from(millis(interval));
    let windows = interval.div_ceil(window).max(1);
    match rate.algorithm {
        // The end of one window and the beginning of the next can be in one moment.
        Algorithm::FixedWindow => requests.saturating_sub(1) + requests * windows,
        Algorithm::SlidingLog => requests * windows,
        Algorithm::Gcra => u128::from(rate.capacity) + interval * requests / window,
    }
}

/// A workspace has users, and users have tokens; addresses are none of these.
fn is_counted_as_widely(old: CountedBy, new: CountedBy) -> bool {
    match (old, new) {
        (CountedBy::ClientIp, other) | (other, CountedBy::ClientIp) => other == CountedBy::ClientIp,
        (old, new) => width(new) >= width(old),
    }
}

fn width(by: CountedBy) -> u8 {
    match by {
        CountedBy::Workspace => 2,
        CountedBy::User => 1,
        CountedBy::Token | CountedBy::ClientIp => 0,
    }
}

fn caution(failure: OnStoreFailure) -> u8 {
    match failure {
        OnStoreFailure::Deny => 2,
        OnStoreFailure::Local => 1,
        OnStoreFailure::Allow => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rate(algorithm: Algorithm, requests: u32, seconds: u64) -> Rate {
        Rate { algorithm, requests, capacity: requests, window: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_rate_is_raised_when_more_pass_at_once_in_a_window_or_in_the_long_run() {
        use Algorithm::{FixedWindow, Gcra, SlidingLog};
        for (old, new, raised) in [
            ((FixedWindow, 60, 60), (FixedWindow, 60, 60), false),
            ((FixedWindow, 60, 60), (FixedWindow, 61, 60), true),
            ((FixedWindow, 60, 60), (FixedWindow, 59, 60), false),
            ((FixedWindow, 60, 60), (FixedWindow, 60, 61), false),
            ((FixedWindow, 60, 60), (FixedWindow, 60, 59), true),
            ((FixedWindow, 60, 60), (FixedWindow, 3600, 3600), true),
            ((FixedWindow, 60, 60), (FixedWindow, 1, 1), false),
            ((FixedWindow, 60, 60), (SlidingLog, 60, 60), false),
            ((SlidingLog, 60, 60), (FixedWindow, 60, 60), true),
            ((SlidingLog, 60, 60), (Gcra, 60, 60), true),
            ((FixedWindow, 60, 60), (Gcra, 60, 60), true),
            ((Gcra, 60, 60), (SlidingLog, 60, 60), false),
        ] {
            let [old_rate, new_rate] =
                [old, new].map(|(algorithm, requests, seconds)| rate(algorithm, requests, seconds));
            assert_eq!(lets_more_pass(&old_rate, &new_rate), raised, "{old:?} {new:?}");
        }
    }

    #[test]
    fn a_burst_counts_for_what_passes_at_once() {
        let paced = |burst| Rate { capacity: burst, ..rate(Algorithm::Gcra, 60, 60) };
        assert!(lets_more_pass(&paced(5), &paced(6)) && !lets_more_pass(&paced(6), &paced(5)));
    }

    #[test]
    fn what_is_counted_for_a_workspace_is_not_got_around_with_another_token_or_address() {
        use CountedBy::{ClientIp, Token, User, Workspace};
        for (old, new, as_widely) in [
            (Workspace, Workspace, true),
            (Workspace, User, false),
            (User, Workspace, true),
            (Token, User, true),
            (User, Token, false),
            (Workspace, ClientIp, false),
            (ClientIp, Workspace, false),
            (ClientIp, ClientIp, true),
        ] {
            assert_eq!(is_counted_as_widely(old, new), as_widely, "{old} {new}");
        }
    }
}
