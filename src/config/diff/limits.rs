//! How many requests pass: the limits of the routes that took a request and take it, and what they count together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::diff::Effect;
use crate::config::diff::comparison::{Comparison, Said, told, weaker};
use crate::config::diff::rates::{Respect, is_equal, weaknesses};
use crate::config::diff::words::{limit, list, rate, subject};
use crate::policy::limit::{Limit, Mode, OnStoreFailure};
use crate::policy::overlap::Meeting;
use crate::policy::route::Route;

/// A limit that counted a request, and the one that counts it in its place.
type Succession<'l> = (Option<&'l Limit>, Option<&'l Limit>);

impl Comparison<'_> {
    pub(super) fn limits(&mut self, meetings: &[Meeting<'_>]) {
        let mut heirs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for meeting in meetings {
            let (Some(old), Some(new)) = (meeting.old, meeting.new) else { continue };
            for succession in successions(&old.limits, &new.limits) {
                self.succession(meeting, (old, new), succession);
                if let (Some(before), Some(after)) = succession
                    && before.is_enforced()
                    && !closes(old, new)
                {
                    heirs.entry(&before.name).or_default().insert(&after.name);
                }
            }
            self.cost(meeting, old, new);
        }
        heirs.into_iter().filter(|(_, heirs)| heirs.len() > 1).for_each(|(name, heirs)| self.split(name, &heirs));
    }

    fn succession(&mut self, meeting: &Meeting<'_>, routes: (&Route, &Route), succession: Succession<'_>) {
        let said = match succession {
            (Some(old), Some(new)) if old.name == new.name => return self.terms(old, new),
            (Some(old), Some(new)) if is_equal(old, new) => return,
            (Some(old), Some(new)) => {
                let text = format!("the limit is {} instead of {}", limit(new), limit(old));
                let is_excused = |respect: &Respect| *respect == Respect::By && closes(routes.0, routes.1);
                match weaknesses(old, new).iter().all(is_excused) {
                    true => told(Effect::Tightened, text),
                    false => weaker(Effect::Loosened, text),
                }
            }
            (Some(old), None) if !old.is_enforced() => {
                told(Effect::Altered, format!("without the limit {}, which refused nobody", limit(old)))
            }
            (Some(old), None) => weaker(Effect::Loosened, format!("without the limit {}", limit(old))),
            (None, Some(new)) if !new.is_enforced() => {
                told(Effect::Altered, format!("the limit {} is tried in shadow", limit(new)))
            }
            (None, Some(new)) => told(Effect::Tightened, format!("also under the limit {}", limit(new))),
            (None, None) => return,
        };
        self.say_of(subject(meeting), said, self.route_spot(routes.1, "limit"));
    }

    /// A limit that is still called the same.
    fn terms(&mut self, old: &Limit, new: &Limit) {
        let weak = weaknesses(old, new);
        let judged = |respect, text: String| match () {
            () if weak.contains(&respect) => weaker(Effect::Loosened, text),
            () if old.is_enforced() => told(Effect::Tightened, text),
            () => told(Effect::Altered, text),
        };
        let mut all: Vec<(&str, Said)> = Vec::new();
        if old.rate != new.rate {
            let text = format!("lets {} pass; it was {}", rate(&new.rate), rate(&old.rate));
            let key = if old.rate.requests == new.rate.requests { "per" } else { "requests" };
            all.push((key, judged(Respect::Rate, text)));
        }
        if old.by != new.by {
            all.push(("by", judged(Respect::By, format!("counted by {}; it was by {}", new.by, old.by))));
        }
        if old.on_store_failure != new.on_store_failure {
            let (now, was) = (failing(new.on_store_failure), failing(old.on_store_failure));
            let text = format!("without its store requests are {now}; they were {was}");
            all.push(("on_store_failure", judged(Respect::StoreFailure, text)));
        }
        match (old.mode, new.mode) {
            (Mode::Enforce, Mode::Shadow) => {
                all.push(("mode", weaker(Effect::Loosened, "in shadow: it counts and no longer refuses")))
            }
            (Mode::Shadow, Mode::Enforce) => {
                all.push(("mode", told(Effect::Tightened, "refuses from now on; it only counted")))
            }
            _ => {}
        }
        for (key, said) in all {
            let spot = self.spot(&[&["limits", &new.name, key], &["limits", &new.name]]);
            self.say_of(format!("limit `{}`", new.name), said, spot);
        }
    }

    /// Requests that shared a quota have one each.
    fn split(&mut self, name: &str, heirs: &BTreeSet<&str>) {
        let spots: Vec<[&str; 2]> = heirs.iter().filter(|heir| **heir != name).map(|heir| ["limits", *heir]).collect();
        let spots: Vec<&[&str]> = spots.iter().map(<[&str; 2]>::as_slice).collect();
        let names: Vec<String> = heirs.iter().map(|heir| format!("`{heir}`")).collect();
        let text = format!("limit `{name}`: what it counted together is counted apart, by {}", list(&names));
        self.say(weaker(Effect::Loosened, text), self.spot(&spots));
    }

    fn cost(&mut self, meeting: &Meeting<'_>, old: &Route, new: &Route) {
        if old.cost == new.cost || !old.limits.iter().any(|limit| limit.is_enforced()) || new.limits.is_empty() {
            return;
        }
        let text = format!("a request takes {} of its limits; it took {}", new.cost, old.cost);
        let said = if new.cost < old.cost { weaker(Effect::Loosened, text) } else { told(Effect::Tightened, text) };
        self.say_of(subject(meeting), said, self.route_spot(new, "cost"));
    }
}

/// What counts in the place of what: the limit of the same name, else one that means the same, else one that refuses no less, else any.
fn successions<'l>(old: &'l [Arc<Limit>], new: &'l [Arc<Limit>]) -> Vec<Succession<'l>> {
    let rules: [fn(&Limit, &Limit) -> bool; 4] =
        [|old, new| old.name == new.name, is_equal, |old, new| weaknesses(old, new).is_empty(), |_, _| true];
    let mut before: Vec<&Limit> = old.iter().map(|limit| &**limit).collect();
    let mut after: Vec<&Limit> = new.iter().map(|limit| &**limit).collect();
    let mut found = Vec::new();
    for follows in rules {
        before.retain(|old| {
            let Some(at) = after.iter().position(|new| follows(old, new)) else { return true };
            found.push((Some(*old), Some(after.remove(at))));
            false
        });
    }
    found.extend(before.into_iter().map(|old| (Some(old), None)));
    found.extend(after.into_iter().map(|new| (None, Some(new))));
    found
}

/// Whether callers have to show a token who did not have to: then they can be counted by it, and no longer by their address.
fn closes(old: &Route, new: &Route) -> bool {
    !old.access.needs_token() && new.access.needs_token()
}

fn failing(failure: OnStoreFailure) -> &'static str {
    match failure {
        OnStoreFailure::Local => "counted by each gateway alone",
        OnStoreFailure::Allow => "all let through",
        OnStoreFailure::Deny => "all refused",
    }
}
