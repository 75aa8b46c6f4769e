//! Limits: how many requests whom, and what the caller is told about it.
//!
//! The arithmetic is in [`crate::policy::meter`]. All limits of a request are decided in one step of a store: each that is enforced has
//! room and is counted, or the request is refused and counted nowhere. A limit in shadow is counted as far as it has room, and only
//! tells what it would have refused.

use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::policy::ClientIp;
use crate::policy::meter::{Algorithm, Rate};
use crate::policy::principal::Principal;
use crate::policy::refusal::Refusal;
use crate::policy::route::{Grant, Route};
use crate::policy::time::{UnixMillis, UnixSeconds, millis};

/// One entry of `limits:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The key in gateway.yaml and the `limit` label of every metric.
    pub name: Arc<str>,
    /// How many requests pass, and how that is counted.
    pub rate: Rate,
    /// Whose requests are counted together.
    pub by: CountedBy,
    /// What happens when the store cannot decide.
    pub on_store_failure: OnStoreFailure,
    /// Whether it refuses, or only tells.
    pub mode: Mode,
    /// [`Rate::requests`] as a header value, made once.
    pub requests_header: HeaderValue,
}

/// Whether a limit refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    Enforce,
    /// It counts, and tells in metrics and the log what it would have refused.
    Shadow,
}

impl Limit {
    /// Whether it refuses.
    pub fn is_enforced(&self) -> bool {
        self.mode == Mode::Enforce
    }
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

/// The names of a caller that counters are made of.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'s> {
    /// The workspace.
    pub workspace: &'s str,
    /// The user.
    pub user: &'s str,
    /// The token's public id.
    pub token_id: &'s str,
}

/// The name of one counter. Never a token: ids, workspace names and addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LimitKey(Arc<str>);

impl LimitKey {
    /// The counter of `limit` for a caller.
    ///
    /// The subject stands in braces, a Redis Cluster hash tag: all counters of a workspace live in one slot, so that several
    /// limits are decided in one atomic step. Window and algorithm are part of the name because their counts cannot be compared.
    pub fn new(limit: &Limit, grant: &Grant, client: ClientIp) -> Self {
        let subject = |caller: &Arc<Principal>| {
            let subject = Subject { workspace: caller.workspace(), user: caller.user(), token_id: caller.token_id() };
            Self::of(limit, Some(subject), client)
        };
        grant.principal().map_or_else(|| Self::of(limit, None, client), subject)
    }

    /// The counter of `limit` for whom these names are; without them, for the address.
    pub fn of(limit: &Limit, subject: Option<Subject<'_>>, client: ClientIp) -> Self {
        let (seconds, name) = (limit.rate.window.as_secs(), &limit.name);
        let algorithm = match limit.rate.algorithm {
            Algorithm::FixedWindow => "",
            Algorithm::SlidingLog => ":log",
            Algorithm::Gcra => ":gcra",
        };
        let mut key = String::with_capacity(64);
        // Writing to a String cannot fail.
        let _ = match (limit.by, subject) {
            (CountedBy::Workspace, Some(s)) => write!(key, "{{w{}}}", Plain(s.workspace)),
            (CountedBy::User, Some(s)) => write!(key, "{{w{}}}:u{}", Plain(s.workspace), Plain(s.user)),
            (CountedBy::Token, Some(s)) => write!(key, "{{w{}}}:t{}", Plain(s.workspace), Plain(s.token_id)),
            (CountedBy::ClientIp, _) | (_, None) => write!(key, "{{ip{}}}", network(client)),
        };
        let _ = write!(key, ":{name}:{seconds}{algorithm}");
        Self(key.into())
    }

    /// A counter by its name, for the contract tests of stores.
    pub fn named(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether anybody can make counters like this one, without a token.
    pub fn is_of_an_address(&self) -> bool {
        self.0.starts_with("{ip")
    }
}

/// An id within a key: what has a meaning there is escaped, so that no two callers share a counter.
struct Plain<'i>(&'i str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_meaning = |c: char| matches!(c, '{' | '}' | ':' | '%');
        if !self.0.contains(has_meaning) {
            return f.write_str(self.0);
        }
        self.0.chars().try_for_each(|c| match has_meaning(c) {
            true => write!(f, "%{:02X}", u32::from(c)),
            false => write!(f, "{c}"),
        })
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

/// What a store is asked: do so many requests of this cost fit here?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The limit, as the policy in force has it: a reload applies to a running window at once.
    pub limit: Arc<Limit>,
    /// The counter.
    pub key: LimitKey,
    /// How many units one request takes.
    pub cost: u32,
}

impl Hash for Ask {
    /// Equal asks have equal keys, and there is no more to tell keys apart by.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key.hash(state);
    }
}

/// All that a request asks, in the order of its route. Requests with equal asks can be counted together.
pub type Asks = Arc<[Ask]>;

/// The asks of a request on `route`.
pub fn asks(route: &Route, grant: &Grant, client: ClientIp) -> Asks {
    let ask = |limit: &Arc<Limit>| Ask {
        limit: Arc::clone(limit),
        key: LimitKey::new(limit, grant, client),
        cost: route.cost,
    };
    route.limits.iter().map(ask).collect()
}

/// One counter's state after a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How many of the requests were counted here.
    pub taken: u32,
    /// How many units are left.
    pub remaining: u32,
    /// When the full quota is back.
    pub ends: UnixMillis,
    /// When one more request fits, if nobody else takes any.
    pub free_at: UnixMillis,
}

/// A store's answer about some requests with the same asks, first come, first served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// How many of them pass. What is refused was counted nowhere.
    pub granted: u32,
    /// The store's clock at the decision.
    pub now: UnixMillis,
    /// One a limit, in the order of the asks.
    pub tallies: Vec<Tally>,
}

impl Count {
    /// What this means for one of the requests; the first is number 0.
    #[must_use]
    pub fn of(&self, number: u32, asks: &[Ask]) -> Self {
        let tallies = asks.iter().zip(&self.tallies).map(|(ask, tally)| {
            let taken = u32::from(number < tally.taken);
            let taken_later = tally.taken.saturating_sub(number + 1);
            Tally { taken, remaining: tally.remaining + taken_later * ask.cost, ..*tally }
        });
        Self { granted: u32::from(number < self.granted), now: self.now, tallies: tallies.collect() }
    }
}

/// Who decided about a limit; the `by` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecidedBy {
    /// The store.
    Store,
    /// This replica, which the store had told that nothing is left.
    DenyCache,
    /// This replica alone, because the store did not answer.
    Local,
}

impl DecidedBy {
    /// The `by` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::DenyCache => "deny_cache",
            Self::Local => "local",
        }
    }
}

/// What became of a request at one of its limits; the `decision` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Judgement {
    /// It passed.
    Allowed,
    /// It was refused.
    Limited,
    /// It would have been refused, were the limit enforced.
    ShadowLimited,
}

impl Judgement {
    /// The `decision` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Limited => "limited",
            Self::ShadowLimited => "shadow_limited",
        }
    }
}

/// A judgement and its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The limit.
    pub limit: Arc<Limit>,
    /// What became of the request.
    pub judgement: Judgement,
}

/// What a request is told about its limits: the tightest of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The limit that is shown.
    pub limit: Arc<Limit>,
    /// What the limit is: its requests, or this replica's share of them.
    pub requests: u32,
    /// How many more pass.
    pub remaining: u32,
    /// When the full quota is back.
    pub reset: UnixSeconds,
    /// How many seconds to wait: after a refusal until the request passes, else until the full quota is back. At least one.
    pub retry_after: u64,
}

/// The outcome of a request's limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub granted: bool,
    /// What the X-RateLimit headers say; `None` where nothing was counted.
    pub quota: Option<Quota>,
    /// What became of it at each limit that had a say.
    pub judged: Vec<Judged>,
    /// Who decided; `None` on a route without limits.
    pub by: Option<DecidedBy>,
}

/// What a store's answer about one request says to its caller.
///
/// The limit with the least left is the one that is shown, and of those the one that lasts longest. A refused request is shown the limit
/// that refuses longest.
pub fn quota(asks: &[Ask], count: &Count) -> Option<Quota> {
    let enforced = || asks.iter().zip(&count.tallies).filter(|(ask, _)| ask.limit.is_enforced());
    let refusing = enforced().filter(|(ask, tally)| count.granted == 0 && tally.remaining < ask.cost);
    let (ask, tally, waits_for) = match refusing.max_by_key(|(_, tally)| tally.free_at) {
        Some((ask, tally)) => (ask, tally, tally.free_at),
        None => {
            let (ask, tally) = enforced().min_by_key(|(_, tally)| (tally.remaining, std::cmp::Reverse(tally.ends)))?;
            (ask, tally, tally.ends)
        }
    };
    Some(Quota {
        limit: Arc::clone(&ask.limit),
        requests: ask.limit.rate.requests,
        remaining: tally.remaining,
        reset: tally.ends.seconds_rounded_up(),
        retry_after: whole_seconds(waits_for.since(count.now)),
    })
}

/// Where a counter stands, when nothing was taken from it. What nobody has used is whole now.
pub fn standing(ask: &Ask, count: &Count) -> Option<Quota> {
    let quota = quota(std::slice::from_ref(ask), count)?;
    let is_whole = quota.remaining == ask.limit.rate.capacity;
    let reset = if is_whole { count.now.seconds_rounded_up() } else { quota.reset };
    Some(Quota { reset, ..quota })
}

impl Decision {
    /// A route without limits.
    pub const UNCOUNTED: Self = Self { granted: true, quota: None, judged: Vec::new(), by: None };

    /// Reads a store's answer about one request.
    pub fn new(asks: &[Ask], count: &Count, by: DecidedBy) -> Self {
        let granted = count.granted > 0;
        let judged = asks.iter().zip(&count.tallies).filter_map(|(ask, tally)| {
            let has_room = tally.taken > 0;
            let judgement = match (granted, ask.limit.is_enforced()) {
                (true, true) => Judgement::Allowed,
                (true, false) if has_room => Judgement::Allowed,
                (true, false) => Judgement::ShadowLimited,
                (false, true) if tally.remaining < ask.cost => Judgement::Limited,
                (false, _) => return None,
            };
            Some(Judged { limit: Arc::clone(&ask.limit), judgement })
        });
        Self { granted, quota: quota(asks, count), judged: judged.collect(), by: Some(by) }
    }

    /// The first limit in shadow that would have refused the request.
    pub fn shadow_limited(&self) -> Option<&Arc<Limit>> {
        let judged = self.judged.iter().find(|judged| judged.judgement == Judgement::ShadowLimited);
        judged.map(|judged| &judged.limit)
    }
}

/// Rounded up, so that who waits that long has waited enough; at least one.
pub fn whole_seconds(wait: Duration) -> u64 {
    millis(wait).div_ceil(1000).max(1)
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
    use crate::policy::principal::{Lifetime, TokenRecord};
    use crate::policy::route::Access;
    use proptest::prelude::*;

    fn limit(name: &str, requests: u32, mode: Mode) -> Arc<Limit> {
        let window = Duration::from_secs(60);
        Arc::new(Limit {
            name: name.into(),
            rate: Rate { algorithm: Algorithm::FixedWindow, requests, capacity: requests, window },
            by: CountedBy::Workspace,
            on_store_failure: OnStoreFailure::Local,
            mode,
            requests_header: HeaderValue::from(requests),
        })
    }

    fn ask(name: &str, mode: Mode) -> Ask {
        Ask { limit: limit(name, 60, mode), key: LimitKey::named(name), cost: 1 }
    }

    fn tally(taken: u32, remaining: u32, ends: u64) -> Tally {
        let free_at = if remaining == 0 { ends } else { 1_000 };
        Tally { taken, remaining, ends: UnixMillis(ends), free_at: UnixMillis(free_at) }
    }

    fn count(granted: u32, tallies: &[Tally]) -> Count {
        Count { granted, now: UnixMillis(1_000), tallies: tallies.to_vec() }
    }

    #[test]
    fn the_tightest_limit_is_shown_and_of_equals_the_one_that_lasts_longest() {
        let asks = [ask("a", Mode::Enforce), ask("b", Mode::Enforce)];
        let shown = |one, other| {
            let decision = Decision::new(&asks, &count(1, &[one, other]), DecidedBy::Store);
            decision.quota.unwrap().limit.name.to_string()
        };
        assert_eq!(shown(tally(1, 5, 9_000), tally(1, 3, 2_000)), "b");
        assert_eq!(shown(tally(1, 2, 2_000), tally(1, 3, 9_000)), "a");
        assert_eq!(shown(tally(1, 3, 2_000), tally(1, 3, 9_000)), "b");
    }

    #[test]
    fn a_refused_request_is_told_by_the_limit_that_refuses_longest() {
        let asks = [ask("a", Mode::Enforce), ask("b", Mode::Enforce), ask("c", Mode::Enforce)];
        let tallies = [tally(0, 0, 9_000), tally(0, 0, 30_500), tally(0, 7, 90_000)];
        let decision = Decision::new(&asks, &count(0, &tallies), DecidedBy::Store);
        let quota = decision.quota.unwrap();
        assert_eq!((&*quota.limit.name, quota.retry_after, quota.reset), ("b", 30, UnixSeconds(31)));
        let limited: Vec<&str> = decision.judged.iter().map(|judged| &*judged.limit.name).collect();
        assert_eq!(limited, ["a", "b"], "the third had room and took nothing");
    }

    #[test]
    fn a_limit_in_shadow_refuses_nobody_and_is_shown_to_nobody() {
        let asks = [ask("a", Mode::Enforce), ask("shadow", Mode::Shadow)];
        let decision = Decision::new(&asks, &count(1, &[tally(1, 5, 9_000), tally(0, 0, 9_000)]), DecidedBy::Store);
        assert!(decision.granted);
        assert_eq!(&*decision.quota.as_ref().unwrap().limit.name, "a");
        assert_eq!(&*decision.shadow_limited().unwrap().name, "shadow");
        let alone = Decision::new(&asks[1..], &count(1, &[tally(0, 0, 9_000)]), DecidedBy::Store);
        assert_eq!((alone.granted, alone.quota), (true, None));
    }

    #[test]
    fn waiting_as_long_as_retry_after_says_is_enough_and_never_zero() {
        assert_eq!(whole_seconds(Duration::from_millis(60_001)), 61);
        assert_eq!(whole_seconds(Duration::ZERO), 1);
    }

    #[test]
    fn of_requests_that_are_counted_together_the_first_come_pass_and_see_the_count_go_down() {
        let asks = [Ask { cost: 2, ..ask("a", Mode::Enforce) }, Ask { cost: 2, ..ask("s", Mode::Shadow) }];
        let together = count(3, &[tally(3, 1, 9_000), tally(1, 0, 9_000)]);
        let seen: Vec<_> = (0..4)
            .map(|number| {
                let one = together.of(number, &asks);
                (one.granted, one.tallies[0].taken, one.tallies[0].remaining, one.tallies[1].taken)
            })
            .collect();
        assert_eq!(seen, [(1, 1, 5, 1), (1, 1, 3, 0), (1, 1, 1, 0), (0, 0, 1, 0)]);
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
        let denied = Decision { granted: false, ..Decision::UNCOUNTED };
        assert!(matches!(Counted::from_decision(denied), Err(Refusal::StoreUnavailable(_))));
    }

    fn key(by: CountedBy, workspace: &str, user: &str, id: &str) -> String {
        let life = Lifetime { created_at: None, expires_at: Some(UnixSeconds(1000)) };
        let record = TokenRecord::new(id, workspace, user, [], life).unwrap();
        let grant = Access::Token.grant(Some(Arc::new(record.opaque(UnixMillis(0), None).unwrap()))).unwrap();
        let limit = Limit { by, ..Limit::clone(&limit("l", 1, Mode::Enforce)) };
        LimitKey::new(&limit, &grant, ClientIp("192.0.2.1".parse().unwrap())).as_str().to_owned()
    }

    /// The part of a key that Redis Cluster hashes: between the first brace and the next closing one.
    fn hash_tag(key: &str) -> &str {
        let (_, rest) = key.split_once('{').unwrap();
        rest.split_once('}').unwrap().0
    }

    proptest! {
        #[test]
        fn case_12_all_counters_of_a_workspace_share_a_slot_and_no_two_callers_share_a_counter(
            workspace in "[a-c{}:%]{1,4}", user in "[a-c{}:%]{1,4}", id in "[a-c{}:%]{1,4}",
            other_workspace in "[a-c{}:%]{1,4}", other in "[a-c{}:%]{1,4}",
        ) {
            let kinds = [CountedBy::Workspace, CountedBy::User, CountedBy::Token];
            let keys: Vec<String> = kinds.iter().map(|by| key(*by, &workspace, &user, &id)).collect();
            prop_assert!(keys.iter().all(|key| hash_tag(key) == hash_tag(&keys[0]) && !hash_tag(key).is_empty()));
            for by in kinds {
                let is_same = match by {
                    CountedBy::Workspace => workspace == other_workspace,
                    CountedBy::User => workspace == other_workspace && user == other,
                    _ => workspace == other_workspace && id == other,
                };
                prop_assert_eq!(key(by, &workspace, &user, &id) == key(by, &other_workspace, &other, &other), is_same);
            }
        }
    }
}
