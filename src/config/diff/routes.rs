//! Who may send which request, and what becomes of it at its route.

use crate::config::diff::comparison::{Comparison, Keys, Said, told, weaker};
use crate::config::diff::words::{bytes, list, subject};
use crate::config::diff::{Effect, Spot};
use crate::policy::overlap::Meeting;
use crate::policy::pagination::Pagination;
use crate::policy::route::{Access, Destination, Route};

/// Where the route is that the gateway answers by itself.
const LIST_OF_LIMITS: Keys<'static> = &["rate_limit_endpoint", "path"];

impl Comparison<'_> {
    /// What changes for the requests that two routes, or one and none, take.
    pub(super) fn route(&mut self, meeting: &Meeting<'_>) {
        match (meeting.old, meeting.new) {
            (Some(old), Some(new)) => {
                self.access(meeting, old, new);
                self.body(meeting, old, new);
                self.pagination(meeting, old, new);
                self.answering(meeting, old, new);
            }
            (Some(old), None) => {
                let said = told(Effect::Refused, "no route takes it any more");
                let keys =
                    if old.destination == Destination::RateLimits { LIST_OF_LIMITS } else { &["routes", &old.name] };
                self.say_of(subject(meeting), said, self.old_spot(keys));
            }
            (None, Some(new)) => self.say_of(subject(meeting), appears(new), self.route_spot(new, "path")),
            (None, None) => {}
        }
    }

    /// What changes for a route on another path, beside that. That it appears there is said already, with who may use it.
    pub(super) fn moved(&mut self, meeting: &Meeting<'_>) {
        let (Some(old), Some(new)) = (meeting.old, meeting.new) else { return };
        if matches!(new.access, Access::Scope(_)) {
            self.access(meeting, old, new);
        }
        self.body(meeting, old, new);
        self.pagination(meeting, old, new);
        self.answering(meeting, old, new);
    }

    /// The line of a key of a route, or of the route.
    pub(super) fn route_spot(&self, route: &Route, key: &str) -> Spot {
        match route.destination {
            Destination::RateLimits => self.spot(&[LIST_OF_LIMITS]),
            Destination::Upstream(_) => self.spot(&[&["routes", &route.name, key], &["routes", &route.name]]),
        }
    }

    fn access(&mut self, meeting: &Meeting<'_>, old: &Route, new: &Route) {
        let before = match &old.access {
            Access::Public => "nobody had to show a token".to_owned(),
            Access::Token => "any valid token would do".to_owned(),
            Access::Scope(scope) => format!("the scope `{scope}` was needed"),
        };
        let said = match (&old.access, &new.access) {
            (old, new) if old == new => return,
            (_, Access::Public) => weaker(Effect::Opened, format!("public, without a token; {before}")),
            (Access::Scope(_), Access::Token) => weaker(Effect::Opened, format!("any valid token will do; {before}")),
            (Access::Scope(old), Access::Scope(new)) => weaker(
                Effect::Opened,
                format!(
                    "the scope `{new}` is needed instead of `{old}`: other tokens come in, and those of `{old}` alone are refused"
                ),
            ),
            (_, Access::Token) => told(Effect::Refused, format!("a valid token is needed; {before}")),
            (_, Access::Scope(scope)) => told(Effect::Refused, format!("the scope `{scope}` is needed; {before}")),
        };
        let key = if matches!(new.access, Access::Scope(_)) { "scope" } else { "access" };
        self.say_of(subject(meeting), said, self.route_spot(new, key));
    }

    fn body(&mut self, meeting: &Meeting<'_>, old: &Route, new: &Route) {
        if [old, new].iter().any(|route| route.destination == Destination::RateLimits) {
            return;
        }
        let text = format!("a request body may have {}; it was {}", bytes(new.body_bytes), bytes(old.body_bytes));
        let said = match new.body_bytes.cmp(&old.body_bytes) {
            std::cmp::Ordering::Equal => return,
            std::cmp::Ordering::Greater => weaker(Effect::Loosened, text),
            std::cmp::Ordering::Less => told(Effect::Tightened, text),
        };
        let spot = self.spot(&[&["routes", &new.name, "body_bytes"], &["request", "body_bytes"]]);
        self.say_of(subject(meeting), said, spot);
    }

    fn pagination(&mut self, meeting: &Meeting<'_>, old: &Route, new: &Route) {
        let spot = self.route_spot(new, "pagination");
        let all = match (&old.pagination, &new.pagination) {
            (None, None) => return,
            (None, Some(_)) => {
                vec![told(Effect::Refused, "page, per_page, sort_by and sort_order out of contract are 422")]
            }
            (Some(_), None) => {
                vec![told(Effect::Altered, "page, per_page, sort_by and sort_order pass unchecked, without defaults")]
            }
            (Some(old), Some(new)) => sorting(old, new),
        };
        for said in all {
            self.say_of(subject(meeting), said, spot);
        }
    }
}

/// What is said of requests that were refused for want of a route.
fn appears(route: &Route) -> Said {
    const WAS: &str = "no route took it";
    match &route.access {
        _ if route.destination == Destination::RateLimits => {
            told(Effect::Answered, format!("the gateway lists the caller's own limits; {WAS}"))
        }
        Access::Public => weaker(Effect::Opened, format!("public, without a token; {WAS}")),
        Access::Token => weaker(Effect::Opened, format!("any valid token will do; {WAS}")),
        Access::Scope(scope) => told(Effect::Answered, format!("answered with the scope `{scope}`; {WAS}")),
    }
}

/// What changes of a list contract.
fn sorting(old: &Pagination, new: &Pagination) -> Vec<Said> {
    let missing = |from: &Pagination, of: &Pagination| {
        let keys = of.sort_by().iter().filter(|key| !from.sort_by().contains(key));
        keys.map(|key| format!("`{key}`")).collect::<Vec<_>>()
    };
    let (gone, come) = (missing(new, old), missing(old, new));
    let mut all = Vec::new();
    if !gone.is_empty() {
        all.push(told(Effect::Refused, format!("sort_by may no longer be {}: 422", list(&gone))));
    }
    if !come.is_empty() {
        all.push(told(Effect::Answered, format!("sort_by may be {}", list(&come))));
    }
    if old.default_sort() != new.default_sort() {
        let (new, old) = (new.default_sort(), old.default_sort());
        all.push(told(Effect::Altered, format!("a list without sort_by is sorted by `{new}`; it was `{old}`")));
    }
    all
}
