//! What the console shows and metrics must not hold: when something was refused last, and which workspaces ask most.
//!
//! Bounded, whoever asks and however much. A request pays one load while the console is off, or while it was not refused and no
//! workspaces are watched. Of many requests a sample is counted, some hundreds a second; nobody waits for a lock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

use http::StatusCode;
use parking_lot::Mutex;

use crate::policy::limit::{Judged, Judgement};
use crate::policy::refusal::{Blame, Refusal};
use crate::telemetry::Outcome;
use crate::telemetry::busiest::{Busy, Sketch};
use crate::telemetry::counts::Counts;

/// Kinds of refusals that are remembered: a kind is a reason on a route.
const REMEMBERED: usize = 24;
/// Busiest names shown of a limit.
const SHOWN: usize = 5;

/// How much is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Watched {
    /// Nothing: nobody looks.
    Nothing,
    /// Refusals.
    Refusals,
    /// Refusals, and whose requests limits have counted.
    Workspaces,
}

/// What has happened lately.
#[derive(Debug)]
pub struct Recent {
    watched: AtomicU8,
    refused: Mutex<VecDeque<Refused>>,
    /// One of so many requests is counted.
    stride: AtomicU32,
    counts: Mutex<Counts>,
}

/// A kind of refusal, and when it was last seen.
#[derive(Clone, Debug)]
pub struct Refused {
    /// The route; `None` where none was found.
    pub route: Option<Arc<str>>,
    /// [`Refusal::reason`].
    pub reason: &'static str,
    /// What the client was sent.
    pub status: StatusCode,
    /// Who is to look into it.
    pub blame: Blame,
    /// The last time.
    pub at: SystemTime,
}

/// Who asks most.
#[derive(Clone, Debug, Default)]
pub struct Busiest {
    /// How long has been counted.
    pub lasted: Duration,
    /// Whether the counts are estimates.
    pub sampled: bool,
    /// Limit → workspaces, the busiest first.
    pub by_limit: BTreeMap<Arc<str>, Vec<Busy>>,
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            watched: AtomicU8::new(Watched::Nothing as u8),
            refused: Mutex::default(),
            stride: AtomicU32::new(1),
            counts: Mutex::new(Counts::new(Instant::now())),
        }
    }
}

impl Recent {
    /// Watches so much from now on, and forgets what is not to be watched.
    pub fn watch(&self, watched: Watched) {
        self.watched.store(watched as u8, Ordering::Relaxed);
        if watched != Watched::Workspaces {
            *self.counts.lock() = Counts::new(Instant::now());
        }
        if watched == Watched::Nothing {
            self.refused.lock().clear();
        }
    }

    /// Notes a request that has ended.
    pub fn note(&self, outcome: &Outcome<'_>) {
        let watched = self.watched.load(Ordering::Relaxed);
        if watched == Watched::Nothing as u8 {
            return;
        }
        if let Some(refusal) = outcome.refusal {
            self.refused(outcome, refusal);
        }
        if watched == Watched::Workspaces as u8
            && let (Some(principal), Some(decision)) = (&outcome.trail.principal, &outcome.trail.decision)
        {
            self.counted(principal.workspace(), &decision.judged);
        }
    }

    /// What was refused last, the latest first.
    pub fn refusals(&self) -> Vec<Refused> {
        self.refused.lock().iter().cloned().collect()
    }

    /// Who asks most; `None` while that is not watched.
    pub fn busiest(&self) -> Option<Busiest> {
        if self.watched.load(Ordering::Relaxed) != Watched::Workspaces as u8 {
            return None;
        }
        let (mut counts, now) = (self.counts.lock(), Instant::now());
        counts.turn(now);
        let stride = counts.pace.looked_at(self.stride.load(Ordering::Relaxed), now);
        self.stride.store(stride, Ordering::Relaxed);
        let limits = counts.now.keys().chain(counts.before.keys()).cloned();
        let busiest = |limit: Arc<str>| {
            let nothing = Sketch::default();
            let mut all = counts.now.get(&limit).unwrap_or(&nothing).with(counts.before.get(&limit));
            all.retain(|busy| busy.at_least() > 0);
            all.truncate(SHOWN);
            (limit, all)
        };
        Some(Busiest {
            lasted: now.saturating_duration_since(counts.before_began),
            sampled: counts.sampled,
            by_limit: limits.map(busiest).collect(),
        })
    }

    fn refused(&self, outcome: &Outcome<'_>, refusal: &Refusal) {
        // Somebody else is noting one: of so many, this one may be missed.
        let Some(mut refused) = self.refused.try_lock() else { return };
        let (route, reason) = (outcome.trail.route.as_ref().map(|route| &route.name), refusal.reason());
        let known = refused.iter().position(|known| known.reason == reason && known.route.as_ref() == route);
        let (status, blame, at) = (outcome.status, refusal.blame(), SystemTime::now());
        match known.and_then(|known| refused.remove(known)) {
            Some(known) => refused.push_front(Refused { status, at, ..known }),
            None => refused.push_front(Refused { route: route.cloned(), reason, status, blame, at }),
        }
        refused.truncate(REMEMBERED);
    }

    fn counted(&self, workspace: &str, judged: &[Judged]) {
        let stride = self.stride.load(Ordering::Relaxed);
        if judged.is_empty() || stride > 1 && fastrand::u32(..stride) > 0 {
            return;
        }
        let Some(mut counts) = self.counts.try_lock() else { return };
        let now = Instant::now();
        counts.turn(now);
        counts.sampled |= stride > 1;
        for judged in judged {
            let refused = judged.judgement == Judgement::Limited;
            let sketch = match counts.now.get_mut(&judged.limit.name) {
                Some(known) => known,
                None => counts.now.entry(Arc::clone(&judged.limit.name)).or_default(),
            };
            sketch.count(workspace, u64::from(stride), refused);
        }
        let next = counts.pace.taken(stride, now);
        if next != stride {
            self.stride.store(next, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Trail;
    use crate::policy::limit::{CountedBy, Limit, Mode, OnStoreFailure};
    use crate::policy::meter::{Algorithm, Rate};
    use crate::telemetry::meters::RouteMeters;
    use crate::telemetry::metrics::Metrics;

    fn judged(limit: &str, judgement: Judgement) -> Judged {
        let rate =
            Rate { algorithm: Algorithm::FixedWindow, requests: 1, capacity: 1, window: Duration::from_secs(60) };
        Judged {
            limit: Arc::new(Limit {
                name: limit.into(),
                rate,
                by: CountedBy::Workspace,
                on_store_failure: OnStoreFailure::Local,
                mode: Mode::Enforce,
                requests_header: http::HeaderValue::from(1),
            }),
            judgement,
        }
    }

    fn refuse(recent: &Recent, refusal: &Refusal) {
        recent.note(&Outcome {
            request_id: "r",
            method: None,
            path: "/",
            status: refusal.status(),
            refusal: Some(refusal),
            meters: &RouteMeters::new(&Metrics::new().unwrap(), &"r".into(), None),
            trail: &Trail::default(),
            upstream: None,
            duration: Duration::ZERO,
            client: [127, 0, 0, 1].into(),
            bytes_in: 0,
            bytes_out: 0,
        });
    }

    #[test]
    fn a_flood_of_one_refusal_leaves_the_others_in_sight_and_the_latest_comes_first() {
        let recent = Recent::default();
        recent.watch(Watched::Refusals);
        refuse(&recent, &Refusal::NoRoute);
        refuse(&recent, &Refusal::Overloaded);
        (0..1000).for_each(|_| refuse(&recent, &Refusal::NoToken));
        refuse(&recent, &Refusal::NoRoute);
        let reasons: Vec<_> = recent.refusals().iter().map(|refused| refused.reason).collect();
        assert_eq!(reasons, ["no_route", "no_token", "overloaded"]);
    }

    #[test]
    fn what_is_not_watched_is_not_kept() {
        let recent = Recent::default();
        refuse(&recent, &Refusal::NoRoute);
        assert!(recent.refusals().is_empty() && recent.busiest().is_none());
        recent.watch(Watched::Workspaces);
        recent.counted("acme", &[judged("general", Judgement::Allowed)]);
        assert_eq!(recent.busiest().unwrap().by_limit.len(), 1);
        recent.watch(Watched::Refusals);
        assert!(recent.busiest().is_none());
        recent.watch(Watched::Workspaces);
        assert!(recent.busiest().unwrap().by_limit.is_empty());
    }

    #[test]
    fn workspaces_are_counted_by_limit_the_busiest_first_and_a_few_of_them() {
        let recent = Recent::default();
        recent.watch(Watched::Workspaces);
        for n in 0..10 {
            (0..=n).for_each(|_| recent.counted(&format!("w{n}"), &[judged("general", Judgement::Allowed)]));
        }
        recent.counted("w9", &[judged("general", Judgement::Limited), judged("ai", Judgement::Limited)]);
        let busiest = recent.busiest().unwrap();
        let general = &busiest.by_limit["general"];
        assert_eq!(general.len(), SHOWN);
        assert_eq!((general[0].name.as_str(), general[0].requests, general[0].refused), ("w9", 11, 1));
        assert_eq!(busiest.by_limit["ai"][0].refused, 1);
    }

    #[test]
    fn a_flood_is_sampled_and_the_sample_is_true_on_average() {
        let recent = Recent::default();
        recent.watch(Watched::Workspaces);
        let allowed = [judged("general", Judgement::Allowed)];
        for n in 0..400_000 {
            recent.counted(if n % 4 == 0 { "a" } else { "b" }, &allowed);
        }
        assert!(recent.stride.load(Ordering::Relaxed) > 8);
        let busiest = recent.busiest().unwrap();
        let general = &busiest.by_limit["general"];
        assert!(busiest.sampled && general[0].name == "b", "{general:?}");
        assert!((200_000..400_000).contains(&general[0].requests), "{general:?}");
    }
}
