//! What a route asks of a request behind its token: limits, the contract of a list, the body.

use crate::explain::page::{Mark, Step, with_places};
use crate::explain::steps::{Station, Walk};
use crate::policy::limit::{Limit, OnStoreFailure};
use crate::policy::meter::Algorithm;
use crate::policy::pagination::{DEFAULT_PER_PAGE, MAX_PER_PAGE};
use crate::policy::route::Route;

impl Walk<'_> {
    pub(super) fn limits(&self, route: &Route) -> Vec<Step> {
        if route.limits.is_empty() {
            let step = Step::new("limit", self.mark(Station::Limits));
            return vec![step.fact(with_places("none", [self.at_route(route, "limit")]))];
        }
        route.limits.iter().map(|limit| self.limit(route, limit)).collect()
    }

    fn limit(&self, route: &Route, limit: &Limit) -> Step {
        let places = [self.at(&["limits", &limit.name]), self.at_route(route, "limit")];
        let takes = if route.cost == 1 { String::new() } else { format!(", of which this takes {}", route.cost) };
        let shadow = if limit.is_enforced() { "" } else { "; in shadow: it refuses nobody" };
        let rate = &limit.rate;
        let window = humantime::format_duration(rate.window);
        let by = limit.by.to_string().replace('_', " ");
        let fact = format!("{}: {} in {window} by {by}{takes}{shadow}", limit.name, rate.requests);
        let now = self.now().and_then(|now| now.limits.as_ref()?.iter().find(|now| *now.name == *limit.name));
        // Whether there is room is not known where nobody was asked: nothing was taken.
        let mark = match now {
            Some(now) if limit.is_enforced() && now.remaining < route.cost => Mark::Refused,
            Some(_) => Mark::Passes,
            None => Mark::Open,
        };
        Step::new("limit", mark)
            .fact(with_places(fact, places))
            .maybe(now.map(|now| format!("{} of {} are left now", now.remaining, now.requests)))
            .maybe(counted(limit))
            .fact(without(limit))
    }

    pub(super) fn list(&self, route: &Route) -> Step {
        let step = Step::new("list", self.mark(Station::List));
        let Some(contract) = &route.pagination else { return step };
        let fact = format!(
            "page from 1; per_page 1 to {MAX_PER_PAGE}, else {DEFAULT_PER_PAGE}; sort_by {}, else {}; sort_order asc or desc, else desc",
            contract.sort_by().join(", "),
            contract.default_sort(),
        );
        step.fact(with_places(fact, [self.at_route(route, "pagination")]))
    }

    pub(super) fn body(&self, route: &Route) -> Step {
        let most = bytesize::ByteSize(route.body_bytes).display().iec().to_string();
        let place = self.at(&["routes", &route.name, "body_bytes"]).or_else(|| self.at(&["request", "body_bytes"]));
        Step::new("body", Mark::Open).fact(with_places(format!("at most {most}"), [place]))
    }
}

fn counted(limit: &Limit) -> Option<String> {
    match limit.rate.algorithm {
        Algorithm::FixedWindow => None,
        Algorithm::SlidingLog => Some("counted over any interval of that length".to_owned()),
        Algorithm::Gcra => Some(format!("at an even pace, at most {} at once", limit.rate.capacity)),
    }
}

fn without(limit: &Limit) -> String {
    let what = match limit.on_store_failure {
        OnStoreFailure::Local => "each gateway counts its share",
        OnStoreFailure::Allow => "it lets everything pass",
        OnStoreFailure::Deny => "it refuses with 503",
    };
    format!("without its store {what}")
}
