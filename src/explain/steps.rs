//! The way of a request through the pipeline, step by step, each with its lines in gateway.yaml.

mod contract;
mod destination;

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use crate::config::places::Places;
use crate::config::problem::did_you_mean;
use crate::config::settings::Config;
use crate::explain::page::{Mark, Step, with_places};
use crate::explain::rehearsal::{Question, Rehearsed};
use crate::explain::running::{Running, hexadecimal};
use crate::policy::limit::Limit;
use crate::policy::path::CleanPath;
use crate::policy::principal::Principal;
use crate::policy::refusal::Refusal;
use crate::policy::route::{Access, Destination, Methods, Route};

/// The stations of the pipeline in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Station {
    Head,
    Path,
    Route,
    Token,
    Access,
    Limits,
    List,
    Upstream,
}

impl Station {
    /// Where a request is refused that is refused like this.
    fn of(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::BadPath(_) => Self::Path,
            Refusal::NoRoute | Refusal::MethodNotAllowed(_) | Refusal::BadRequest(_, "method_override") => Self::Route,
            Refusal::ManyAuthorizations
            | Refusal::NoToken
            | Refusal::InvalidToken(_)
            | Refusal::TooManyFailures(_)
            | Refusal::StoreUnavailable(_)
            | Refusal::Internal(_) => Self::Token,
            Refusal::MissingScope(_) => Self::Access,
            Refusal::RateLimited(_) => Self::Limits,
            Refusal::Invalid(_) => Self::List,
            Refusal::BadGateway(_)
            | Refusal::NoHealthyServer
            | Refusal::UpstreamBusy
            | Refusal::CircuitOpen(_)
            | Refusal::GatewayTimeout => Self::Upstream,
            Refusal::BadRequest(..) | Refusal::Overloaded | Refusal::BodyTooLarge | Refusal::BodyTimeout => Self::Head,
        }
    }
}

/// Everything that steps are told from.
pub struct Walk<'w> {
    /// What was asked.
    pub question: &'w Question,
    /// What came of it.
    pub rehearsed: &'w Rehearsed,
    /// By which rules.
    pub config: &'w Config,
    /// And where those stand.
    pub places: &'w Places,
    /// Whether every revocation was known.
    pub knows_revocations: bool,
    /// What the running gateway says, where it was asked, or why it says nothing.
    pub running: Option<&'w Result<Running, String>>,
}

impl<'w> Walk<'w> {
    /// All steps that there is something to say of; the route's contract also where the request does not come so far.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = vec![self.head(), self.path(), self.route()];
        let Some(route) = self.rehearsed.trail.route.as_deref() else { return steps };
        steps.extend([self.token(route), self.access(route)]);
        steps.extend(self.limits(route));
        if route.destination != Destination::RateLimits {
            steps.extend([self.list(route), self.body(route)]);
        }
        steps.extend([self.upstream(route), self.sent(), self.running()]);
        steps
    }

    fn mark(&self, station: Station) -> Mark {
        match self.rehearsed.outcome.as_ref().map_err(Station::of) {
            Err(stop) if stop == station => Mark::Refused,
            Err(stop) if stop < station => Mark::Open,
            _ => Mark::Passes,
        }
    }

    fn at(&self, path: &[&str]) -> Option<String> {
        self.places.of(path)
    }

    /// Where a key of the route stands, or the route itself, which says by its absence what is left out.
    fn at_route(&self, route: &Route, key: &str) -> Option<String> {
        self.at(&["routes", &route.name, key]).or_else(|| self.at(&["routes", &route.name]))
    }

    fn now(&self) -> Option<&Running> {
        self.running.and_then(|running| running.as_ref().ok())
    }

    /// What is to be known of the running gateway's answer as a whole.
    fn running(&self) -> Step {
        let step = Step::new("running", Mark::Open);
        match self.running {
            None => step,
            Some(Err(why)) => step.fact(format!("the running gateway was not of help: {why}")),
            Some(Ok(running)) => {
                let differs = running.configuration != hexadecimal(&self.config.digest);
                let hidden = running.limits.is_none() && !self.at_limits().is_empty();
                step.maybe(differs.then(|| "the running gateway has another configuration than this file".to_owned()))
                    .maybe(
                        hidden.then(|| {
                            "what is left of limits it tells only with `console: {workspaces: true}`".to_owned()
                        }),
                    )
            }
        }
    }

    fn at_limits(&self) -> &[Arc<Limit>] {
        self.rehearsed.trail.route.as_ref().map(|route| route.limits.as_slice()).unwrap_or_default()
    }

    fn head(&self) -> Step {
        let is_refused = self.mark(Station::Head) == Mark::Refused;
        let fact = "the request's head is not one that every server reads in the same way".to_owned();
        Step::new("head", Mark::Refused).maybe(is_refused.then_some(fact))
    }

    fn path(&self) -> Step {
        let step = Step::new("path", self.mark(Station::Path));
        let Some(sent) = &self.rehearsed.sent else { return step };
        match CleanPath::parse(sent.path()) {
            Ok(clean) if clean.as_str() == sent.path() => step.fact(format!("{clean} is canonical")),
            Ok(clean) => step.fact(format!("{clean}, the canonical form of {}", sent.path())),
            Err(_) => step.fact(format!("{} has no canonical form", sent.path())),
        }
    }

    fn route(&self) -> Step {
        let mut step = Step::new("route", self.mark(Station::Route));
        let path = self.rehearsed.sent.as_ref().and_then(|sent| CleanPath::parse(sent.path()).ok());
        let Some(path) = path else { return step };
        let taken = self.rehearsed.trail.route.as_ref();
        let candidates = self.config.policy.routes.candidates(&path);
        if candidates.is_empty() {
            return step.fact("no route has this path").maybe(self.nearest(path.as_str()));
        }
        if let Some(route) = taken {
            step = step.fact(self.named(route));
        }
        for other in candidates.into_iter().filter(|other| taken.is_none_or(|taken| !Arc::ptr_eq(taken, other))) {
            let takes = self.rehearsed.method.as_ref().is_some_and(|method| other.methods.contains(method));
            let why = if takes { "not, as less specific:" } else { "not, for its methods:" };
            step = step.fact(format!("{why} {}", self.named(other)));
        }
        step
    }

    fn named(&self, route: &Route) -> String {
        let Route { name, methods, pattern, .. } = route;
        let methods = if *methods == Methods::ALL { "any method,".to_owned() } else { methods.to_string() };
        with_places(format!("{name}: {methods} {}", pattern.as_str()), [self.at(&["routes", name])])
    }

    /// A path of a route that may have been meant.
    fn nearest(&self, path: &str) -> Option<String> {
        let pattern = |route: &'w Arc<Route>| route.pattern.as_str().trim_end_matches("/**");
        let patterns = || self.config.policy.routes.iter().map(pattern);
        let is_above = |pattern: &&str| pattern.ends_with(path) && path.len() > 1;
        let meant = patterns().find(is_above).map(|pattern| format!("did you mean `{pattern}`?"));
        meant.or_else(|| did_you_mean(path, patterns()))
    }

    fn token(&self, route: &Route) -> Step {
        let step = Step::new("token", self.mark(Station::Token));
        if route.access == Access::Public {
            return step.fact(with_places("none is looked at", [self.at_route(route, "access")]));
        }
        let sources = self.at(&["auth", "sources"]);
        let Some(principal) = &self.rehearsed.trail.principal else {
            return step.fact(match self.question.token {
                None => with_places("none was given, and the route needs one", [sources]),
                Some(_) => with_places("it is not let in", [sources]),
            });
        };
        let doubt = "the revocations could not be read: a revoked token would look as good";
        step.fact(caller(principal))
            .fact(with_places(until(principal), [sources]))
            .maybe((!self.knows_revocations).then(|| doubt.to_owned()))
    }

    fn access(&self, route: &Route) -> Step {
        let step = Step::new("access", self.mark(Station::Access));
        let scopes = self.rehearsed.trail.principal.as_ref().map(|principal| principal.scopes());
        match &route.access {
            Access::Public => step.fact(with_places("public", [self.at_route(route, "access")])),
            Access::Token => step.fact(with_places("any valid token", [self.at_route(route, "access")])),
            Access::Scope(scope) => {
                let has = scopes.map_or(String::new(), |scopes| match scopes.to_string() {
                    none if none.is_empty() => "; the token has none".to_owned(),
                    scopes => format!("; the token has {scopes}"),
                });
                step.fact(with_places(format!("needs the scope {scope}{has}"), [self.at_route(route, "scope")]))
            }
        }
    }
}

fn caller(principal: &Principal) -> String {
    format!("workspace {}, user {}, token {}", principal.workspace(), principal.user(), principal.token_id())
}

fn until(principal: &Principal) -> String {
    let moment = |end: u64| humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(end));
    match principal.ends_at().map(|end| end.seconds().0).filter(|end| *end < LATEST) {
        Some(end) => format!("valid until {}", moment(end)),
        None => "valid without an end".to_owned(),
    }
}

/// The last second that has a calendar date of four digits.
const LATEST: u64 = 253_402_300_800;
