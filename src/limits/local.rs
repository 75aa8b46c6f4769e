//! While the store does not answer: this replica's share of each limit, and what is owed to the store for it.
//!
//! A share begins with what the store last said was left, divided by the number of replicas, and ends when the store said the full
//! quota is back. A counter that nobody knows begins with the share of a whole limit. Shares are windows, whatever the limit's
//! algorithm. What was let through is a debt, which is counted when the store is back, if its window still runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::limits::views::Views;
use crate::policy::limit::{
    Ask, DecidedBy, Decision, Judged, Judgement, Limit, LimitKey, OnStoreFailure, Quota, whole_seconds,
};
use crate::policy::time::UnixMillis;

/// How often shares that are over are thrown away.
const TIDY_EVERY: Duration = Duration::from_secs(1);
/// Shares of addresses at the most; an address beyond that is refused.
const MOST_ADDRESSES: usize = 100_000;

/// What this replica lets through by itself.
#[derive(Default)]
pub(super) struct LocalShares {
    shares: Mutex<Shares>,
    /// How many there are, so that nobody has to look while there are none.
    known: AtomicUsize,
}

#[derive(Default)]
struct Shares {
    by_key: HashMap<LimitKey, Share>,
    tidied_at: UnixMillis,
}

/// One counter's share.
#[derive(Clone, Debug)]
struct Share {
    limit: Arc<Limit>,
    requests: u32,
    remaining: u32,
    /// On our steady clock.
    ends: UnixMillis,
    /// The same moment, on the clock that clients are told.
    reset: UnixMillis,
    owed: u32,
}

/// What is owed to the store for each ask, with the share that it comes from.
#[derive(Debug)]
pub struct Debts(Vec<Option<Share>>);

impl Debts {
    /// Nothing.
    pub(super) const NONE: Self = Self(Vec::new());

    /// How many units are owed for the ask at this place.
    pub(super) fn of(&self, at: usize) -> u32 {
        self.0.get(at).and_then(Option::as_ref).map_or(0, |share| share.owed)
    }
}

/// Debts on their way to the store. They come back to their shares if the store does not say that it has counted them, also when
/// nobody waits for its answer any more.
pub(super) struct Owed<'s> {
    shares: &'s LocalShares,
    asks: &'s [Ask],
    debts: Debts,
}

impl Owed<'_> {
    pub(super) fn debts(&self) -> &Debts {
        &self.debts
    }

    /// The store has counted them.
    pub(super) fn forget(mut self) {
        self.debts = Debts::NONE;
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        self.shares.resume(self.asks, std::mem::replace(&mut self.debts, Debts::NONE));
    }
}

/// When it is, on both clocks.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) steady: UnixMillis,
    pub(super) wall: UnixMillis,
}

impl LocalShares {
    /// Decides without the store, each limit by its own `on_store_failure`: one that denies refuses the request, one that allows drops
    /// out, and the rest are counted here.
    pub(super) fn decide(&self, asks: &[Ask], views: &Views, replicas: u32, now: Moment) -> Decision {
        let goes = |ask: &Ask, way: OnStoreFailure| ask.limit.on_store_failure == way && ask.limit.is_enforced();
        if asks.iter().any(|ask| goes(ask, OnStoreFailure::Deny)) {
            let judged = asks.iter().filter(|ask| goes(ask, OnStoreFailure::Deny));
            let judged = judged.map(|ask| judged_as(ask, Judgement::Limited)).collect();
            return Decision { granted: false, quota: None, judged, by: Some(DecidedBy::Local) };
        }
        let mut shares = self.shares.lock();
        let local: Vec<&Ask> = asks.iter().filter(|ask| ask.limit.on_store_failure == OnStoreFailure::Local).collect();
        let current: Vec<Share> = local.iter().map(|ask| shares.current(ask, views, replicas, now)).collect();
        let lacks = |ask: &Ask, share: &Share| ask.limit.is_enforced() && share.remaining < ask.cost;
        let refusing: Vec<(&Ask, &Share)> =
            local.iter().copied().zip(&current).filter(|(ask, share)| lacks(ask, share)).collect();
        if let Some((ask, share)) = refusing.iter().max_by_key(|(_, share)| share.ends) {
            let quota = Some(share.quota(ask, now));
            let judged = refusing.iter().map(|(ask, _)| judged_as(ask, Judgement::Limited)).collect();
            return Decision { granted: false, quota, judged, by: Some(DecidedBy::Local) };
        }
        let mut judged: Vec<Judged> = Vec::new();
        let mut tightest: Option<(&Ask, Share)> = None;
        for (ask, mut share) in local.iter().copied().zip(current) {
            judged.push(judged_as(ask, share.take(ask.cost)));
            if ask.limit.is_enforced() && tightest.as_ref().is_none_or(|(_, other)| share.remaining < other.remaining) {
                tightest = Some((ask, share.clone()));
            }
            shares.keep(ask.key.clone(), share, now.steady);
        }
        let allowing = asks.iter().filter(|ask| goes(ask, OnStoreFailure::Allow));
        judged.extend(allowing.map(|ask| judged_as(ask, Judgement::Allowed)));
        self.known.store(shares.by_key.len(), Ordering::Release);
        let quota = tightest.map(|(ask, share)| share.quota(ask, now));
        Decision { granted: true, quota, judged, by: Some(DecidedBy::Local) }
    }

    /// The counters that something is owed for.
    pub(super) fn owing(&self) -> Vec<Ask> {
        let shares = self.shares.lock();
        let owing = shares.by_key.iter().filter(|(_, share)| share.owed > 0);
        owing.map(|(key, share)| Ask { limit: Arc::clone(&share.limit), key: key.clone(), cost: 1 }).collect()
    }

    /// Ends the shares of these counters, whose debts the store is about to count.
    pub(super) fn end<'s>(&'s self, asks: &'s [Ask], steady: UnixMillis) -> Owed<'s> {
        Owed { shares: self, asks, debts: self.take_out(asks, steady) }
    }

    fn take_out(&self, asks: &[Ask], steady: UnixMillis) -> Debts {
        if self.known.load(Ordering::Acquire) == 0 {
            return Debts::NONE;
        }
        let mut shares = self.shares.lock();
        let ended = asks.iter().map(|ask| shares.by_key.remove(&ask.key).filter(|share| steady < share.ends));
        let debts = Debts(ended.collect());
        shares.tidy_now_and_then(steady);
        self.known.store(shares.by_key.len(), Ordering::Release);
        debts
    }

    /// Goes on with shares whose debts were not counted. They may have been, by a store that answered too late; then too little is
    /// left in its window, never too much.
    fn resume(&self, asks: &[Ask], debts: Debts) {
        if debts.0.is_empty() {
            return;
        }
        let mut shares = self.shares.lock();
        for (ask, share) in asks.iter().zip(debts.0).filter_map(|(ask, share)| Some((ask, share?))) {
            let known = shares.by_key.entry(ask.key.clone()).and_modify(|known| {
                known.owed = known.owed.saturating_add(share.owed);
                known.remaining = known.remaining.min(share.remaining);
            });
            known.or_insert(share);
        }
        self.known.store(shares.by_key.len(), Ordering::Release);
    }

    /// What a counter would be told, without taking anything. A limit that does not go by a share has nothing to tell.
    pub(super) fn peek(&self, ask: &Ask, views: &Views, replicas: u32, now: Moment) -> Option<Quota> {
        let goes_by_share = ask.limit.on_store_failure == OnStoreFailure::Local;
        goes_by_share.then(|| self.shares.lock().current(ask, views, replicas, now).quota(ask, now))
    }
}

fn judged_as(ask: &Ask, judgement: Judgement) -> Judged {
    Judged { limit: Arc::clone(&ask.limit), judgement }
}

impl Shares {
    /// The share that runs, or a new one.
    fn current(&self, ask: &Ask, views: &Views, replicas: u32, now: Moment) -> Share {
        if let Some(share) = self.by_key.get(&ask.key).filter(|share| now.steady < share.ends) {
            return share.clone();
        }
        let (rate, limit) = (&ask.limit.rate, Arc::clone(&ask.limit));
        let whole = (rate.requests / replicas.max(1)).max(1);
        let seen = views.get(&ask.key);
        let running = seen.as_ref().and_then(|view| Some((view.tally(), view.lasts(now.steady)?)));
        if let Some((tally, lasts)) = running {
            let remaining = (tally.remaining / replicas.max(1)).min(whole);
            let ends = now.steady.plus(lasts);
            return Share { limit, requests: whole, remaining, ends, reset: tally.ends, owed: 0 };
        }
        let is_full = ask.key.is_of_an_address() && self.by_key.len() >= MOST_ADDRESSES;
        let remaining = if is_full { 0 } else { whole };
        let (ends, reset) = (now.steady.plus(rate.window), now.wall.plus(rate.window));
        Share { limit, requests: whole, remaining, ends, reset, owed: 0 }
    }

    fn keep(&mut self, key: LimitKey, share: Share, steady: UnixMillis) {
        self.tidy_now_and_then(steady);
        self.by_key.insert(key, share);
    }

    fn tidy_now_and_then(&mut self, steady: UnixMillis) {
        if steady >= self.tidied_at.plus(TIDY_EVERY) {
            self.by_key.retain(|_, share| steady < share.ends);
            self.tidied_at = steady;
        }
    }
}

impl Share {
    /// Takes `cost` units if there are so many.
    fn take(&mut self, cost: u32) -> Judgement {
        let Some(remaining) = self.remaining.checked_sub(cost) else { return Judgement::ShadowLimited };
        self.remaining = remaining;
        self.owed = self.owed.saturating_add(cost);
        Judgement::Allowed
    }

    fn quota(&self, ask: &Ask, now: Moment) -> Quota {
        Quota {
            limit: Arc::clone(&ask.limit),
            requests: self.requests,
            remaining: self.remaining,
            reset: self.reset.seconds_rounded_up(),
            retry_after: whole_seconds(self.ends.since(now.steady)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::limit::{CountedBy, Limit, Mode};
    use crate::policy::meter::{Algorithm, Rate};
    use http::HeaderValue;

    fn asks() -> [Ask; 1] {
        let limit = Limit {
            name: "l".into(),
            rate: Rate {
                algorithm: Algorithm::FixedWindow,
                requests: 10,
                capacity: 10,
                window: Duration::from_secs(60),
            },
            by: CountedBy::Workspace,
            on_store_failure: OnStoreFailure::Local,
            mode: Mode::Enforce,
            requests_header: HeaderValue::from(10),
        };
        [Ask { limit: Arc::new(limit), key: LimitKey::named("k"), cost: 1 }]
    }

    fn at(millis: u64) -> Moment {
        Moment { steady: UnixMillis(1_000_000 + millis), wall: UnixMillis(2_000_000 + millis) }
    }

    /// A share of five, of which three are spent.
    fn spent() -> (LocalShares, [Ask; 1]) {
        let (shares, asks) = (LocalShares::default(), asks());
        for left in [4, 3, 2] {
            let quota = shares.decide(&asks, &Views::new(), 2, at(0)).quota.unwrap();
            assert_eq!((quota.requests, quota.remaining, quota.reset.0), (5, left, 2_060));
        }
        (shares, asks)
    }

    fn remaining(shares: &LocalShares, asks: &[Ask], now: Moment) -> u32 {
        shares.peek(&asks[0], &Views::new(), 2, now).unwrap().remaining
    }

    #[test]
    fn what_the_store_has_counted_is_owed_no_longer() {
        let (shares, asks) = spent();
        let owed = shares.end(&asks, at(1).steady);
        assert_eq!(owed.debts().of(0), 3);
        owed.forget();
        assert_eq!(shares.end(&asks, at(2).steady).debts().of(0), 0);
    }

    #[test]
    fn case_22_debts_come_back_when_nobody_waits_for_the_store_any_more() {
        let (shares, asks) = spent();
        drop(shares.end(&asks, at(1).steady));
        assert_eq!(remaining(&shares, &asks, at(2)), 2);
        assert_eq!(shares.end(&asks, at(2).steady).debts().of(0), 3);
    }

    #[test]
    fn what_is_spent_while_debts_are_on_their_way_is_added_to_them() {
        let (shares, asks) = spent();
        let owed = shares.end(&asks, at(1).steady);
        assert!(shares.decide(&asks, &Views::new(), 2, at(2)).granted);
        drop(owed);
        assert_eq!(remaining(&shares, &asks, at(3)), 2, "the lesser of both");
        assert_eq!(shares.end(&asks, at(3).steady).debts().of(0), 4);
    }

    #[test]
    fn a_debt_ends_with_its_window() {
        let (shares, asks) = spent();
        assert_eq!(shares.end(&asks, at(60_000).steady).debts().of(0), 0);
        assert_eq!(remaining(&shares, &asks, at(60_001)), 5);
    }
}
