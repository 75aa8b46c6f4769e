//! Limits: how many requests whom, the window arithmetic, and what the caller is told about it.
//!
//! The arithmetic here is the meaning of a limit; the embedded store calls it and the Redis script repeats it, and both
//! pass the same contract tests. A window begins with its first hit and its end is stored with the count, so every replica
//! names the same Reset and the full quota is back at that second.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::policy::ClientIp;
use crate::policy::refusal::Refusal;
use crate::policy::route::{Grant, Route};
use crate::policy::time::{UnixMillis, UnixSeconds, millis};

/// One entry of `limits:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The key in gateway.yaml and the `limit` label of every metric.
    pub name: Arc<str>,
    /// How many requests pass in one window; at least one.
    pub requests: u32,
    /// How long a window is.
    pub window: Duration,
    /// Whose requests are counted together.
    pub by: CountedBy,
    /// What happens when the store cannot decide.
    pub on_store_failure: OnStoreFailure,
    /// [`Limit::requests`] as a header value, made once.
    pub requests_header: HeaderValue,
}

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedBy {
    /// All tokens of a workspace, so that a fresh token is no fresh quota.
    Workspace,
    /// All tokens of a user.
    User,
    /// One token.
    Token,
    /// One client address, IPv6 by its /64. The only key of a public route.
    ClientIp,
}

/// What happens to a request when the store cannot decide about it in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreFailure {
    /// This replica counts its share by itself.
    Local,
    /// It passes, uncounted and without X-RateLimit headers.
    Allow,
    /// It is refused with 503: it is not known that the limit is used up, so never 429.
    Deny,
}

/// The name of one counter. Never a token: ids, workspace names and addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LimitKey(String);

impl LimitKey {
    /// The counter of `limit` for a request.
    ///
    /// The subject stands in braces, a Redis Cluster hash tag: all counters of a workspace live in one slot, so that several
    /// limits are decided in one atomic step. The window is part of the name because counts of different windows cannot be compared.
    pub fn new(limit: &Limit, grant: &Grant, client: ClientIp) -> Self {
        let seconds = limit.window.as_secs();
        let name = &limit.name;
        Self(match (limit.by, grant.principal()) {
            (CountedBy::Workspace, Some(p)) => format!("{{w{}}}:{name}:{seconds}", p.workspace()),
            (CountedBy::User, Some(p)) => format!("{{w{}}}:u{}:{name}:{seconds}", p.workspace(), p.user()),
            (CountedBy::Token, Some(p)) => format!("{{w{}}}:t{}:{name}:{seconds}", p.workspace(), p.token_id()),
            (CountedBy::ClientIp, _) | (_, None) => format!("{{ip{}}}:{name}:{seconds}", network(client)),
        })
    }

    /// A counter by its name, for the contract tests of stores.
    pub fn named(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The name without the store's own prefix.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An IPv4 address, or the /64 that one IPv6 customer has at the least.
pub fn network(ClientIp(address): ClientIp) -> String {
    match address.to_canonical() {
        std::net::IpAddr::V4(v4) => v4.to_string(),
        std::net::IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::")
        }
    }
}

/// What a store is asked: may this request be counted here?
#[derive(Clone, Debug)]
pub struct Ask {
    /// The limit, as the policy in force has it: a reload applies to a running window at once.
    pub limit: Arc<Limit>,
    /// The counter.
    pub key: LimitKey,
}

/// One counter's state after a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// What is left of the limit in this window.
    pub remaining: u32,
    /// When the window ends.
    pub ends: UnixMillis,
}

/// A store's answer to a request's asks: all were counted, or none was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Whether all limits had room. If not, nothing was counted anywhere.
    pub granted: bool,
    /// The store's clock at the decision.
    pub now: UnixMillis,
    /// One a limit, in the order of the asks.
    pub tallies: Vec<Tally>,
}

/// A fixed window that begins with its first hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FixedWindow {
    /// Requests counted since the window began.
    pub count: u32,
    /// When the window ends; a window that has ended counts nothing.
    pub ends: UnixMillis,
}

impl FixedWindow {
    /// The window as it is at `now`: the running one, or a fresh one that would begin with this hit.
    ///
    /// An end further away than one window (the store's clock went back) is pulled in: nobody is locked out longer than that.
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

    /// What a caller may know of it. A limit lowered below the count leaves nothing, not less than nothing.
    pub fn tally(self, requests: u32) -> Tally {
        Tally { remaining: requests.saturating_sub(self.count), ends: self.ends }
    }
}

/// Who decided about a request's limits; the `by` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecidedBy {
    /// The shared store.
    Store,
    /// This replica alone, because the store did not answer.
    Local,
}

/// What a request was told about its limits: the tightest of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The limit that is shown.
    pub limit: Arc<Limit>,
    /// How many more requests pass in this window.
    pub remaining: u32,
    /// When the full quota is back.
    pub reset: UnixSeconds,
    /// How many seconds to wait until a refused request passes; at least one.
    pub retry_after: u64,
}

/// The outcome of a request's limits.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Whether the request may go on.
    pub granted: bool,
    /// What the X-RateLimit headers say; `None` where nothing was counted.
    pub quota: Option<Quota>,
    /// Who decided; `None` on a route without limits.
    pub by: Option<DecidedBy>,
}

impl Decision {
    /// A route without limits, or one whose limits let everything pass while the store is down.
    pub const UNCOUNTED: Self = Self { granted: true, quota: None, by: None };

    /// Reads a store's answer: the limit with the least left is the one that is shown, and of those the one that lasts longest.
    /// A refused request is shown the limit that refuses longest.
    pub fn new(asks: &[Ask], count: &Count, by: DecidedBy) -> Self {
        let shown =
            asks.iter().zip(&count.tallies).min_by_key(|(_, tally)| (tally.remaining, std::cmp::Reverse(tally.ends)));
        let quota = shown.map(|(ask, tally)| Quota {
            limit: Arc::clone(&ask.limit),
            remaining: tally.remaining,
            reset: tally.ends.seconds_rounded_up(),
            retry_after: millis(tally.ends.since(count.now)).div_ceil(1000).max(1),
        });
        Self { granted: count.granted, quota, by: Some(by) }
    }
}

/// The limits a request on `route` takes.
pub fn asks(route: &Route, grant: &Grant, client: ClientIp) -> Vec<Ask> {
    let ask = |limit: &Arc<Limit>| Ask { limit: Arc::clone(limit), key: LimitKey::new(limit, grant, client) };
    route.limits.iter().map(ask).collect()
}

/// Evidence that a request was counted, or needed not be; made by [`Counted::from_decision`] alone.
#[derive(Clone, Debug)]
pub struct Counted(Decision);

impl Counted {
    /// A granted decision, or the refusal that a denied one is.
    pub fn from_decision(decision: Decision) -> Result<Self, Refusal> {
        match decision {
            Decision { granted: true, .. } => Ok(Self(decision)),
            Decision { quota: Some(quota), .. } => Err(Refusal::RateLimited(quota)),
            Decision { quota: None, .. } => Err(Refusal::StoreUnavailable("limits")),
        }
    }

    /// What was decided.
    pub fn decision(&self) -> &Decision {
        &self.0
    }
}

impl fmt::Display for CountedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Workspace => "workspace",
            Self::User => "user",
            Self::Token => "token",
            Self::ClientIp => "client_ip",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(name: &str, requests: u32) -> Arc<Limit> {
        Arc::new(Limit {
            name: name.into(),
            requests,
            window: Duration::from_secs(60),
            by: CountedBy::Workspace,
            on_store_failure: OnStoreFailure::Local,
            requests_header: HeaderValue::from(requests),
        })
    }

    fn ask(name: &str, requests: u32) -> Ask {
        Ask { limit: limit(name, requests), key: LimitKey::named(name) }
    }

    #[test]
    fn a_window_begins_with_its_first_hit_and_is_whole_again_at_its_end() {
        let window = Duration::from_secs(60);
        let first = FixedWindow::default().at(UnixMillis(1_500), window).hit();
        assert_eq!(first, FixedWindow { count: 1, ends: UnixMillis(61_500) });
        assert_eq!(first.at(UnixMillis(61_499), window).count, 1);
        assert_eq!(first.at(UnixMillis(61_500), window), FixedWindow { count: 0, ends: UnixMillis(121_500) });
    }

    #[test]
    fn a_clock_that_went_back_locks_nobody_out_longer_than_one_window() {
        let window = Duration::from_secs(60);
        let far = FixedWindow { count: 60, ends: UnixMillis(500_000) };
        assert_eq!(far.at(UnixMillis(100_000), window).ends, UnixMillis(160_000));
    }

    #[test]
    fn the_tightest_limit_is_shown_and_of_equals_the_one_that_lasts_longest() {
        let tally = |remaining, ends| Tally { remaining, ends: UnixMillis(ends) };
        let shown = |tallies: [Tally; 2]| {
            let count = Count { granted: true, now: UnixMillis(1_000), tallies: tallies.to_vec() };
            Decision::new(&[ask("a", 60), ask("b", 10)], &count, DecidedBy::Store).quota.unwrap().limit.name.to_string()
        };
        assert_eq!(shown([tally(5, 9_000), tally(3, 2_000)]), "b");
        assert_eq!(shown([tally(2, 2_000), tally(3, 9_000)]), "a");
        assert_eq!(shown([tally(3, 2_000), tally(3, 9_000)]), "b");
    }

    #[test]
    fn waiting_as_long_as_retry_after_says_is_enough_and_never_zero() {
        let quota = |now, ends| {
            let tallies = vec![Tally { remaining: 0, ends: UnixMillis(ends) }];
            let count = Count { granted: false, now: UnixMillis(now), tallies };
            Decision::new(&[ask("a", 60)], &count, DecidedBy::Store).quota.unwrap()
        };
        assert_eq!(quota(1_000, 61_001).retry_after, 61);
        assert_eq!(quota(1_000, 61_001).reset, UnixSeconds(62));
        assert_eq!(quota(1_000, 1_000).retry_after, 1);
    }

    #[test]
    fn ipv6_clients_are_counted_by_their_64_bit_network() {
        let of = |text: &str| network(ClientIp(text.parse().unwrap()));
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:2::1"), "2001:db8:1:2::");
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn a_denied_decision_without_a_quota_is_not_a_used_up_limit() {
        let denied = Decision { granted: false, quota: None, by: None };
        assert!(matches!(Counted::from_decision(denied), Err(Refusal::StoreUnavailable(_))));
    }

    proptest! {
        #[test]
        fn no_window_ever_admits_more_than_its_limit(
            requests in 1u32..20, steps in proptest::collection::vec(0u64..30_000, 1..200)
        ) {
            let window = Duration::from_secs(60);
            let (mut state, mut now) = (FixedWindow::default(), UnixMillis(1));
            let mut admitted = std::collections::HashMap::new();
            for step in steps {
                now = UnixMillis(now.0 + step);
                let current = state.at(now, window);
                prop_assert!(current.ends > now && current.ends <= now.plus(window));
                if current.has_room(requests) {
                    state = current.hit();
                    *admitted.entry(state.ends).or_insert(0) += 1;
                    prop_assert_eq!(state.tally(requests).remaining + state.count, requests);
                }
            }
            prop_assert!(admitted.values().all(|&n| n <= requests));
        }
    }
}
