//! Where a request would go, and as what.

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::explain::page::{Mark, Step, with_places};
use crate::explain::steps::{Station, Walk};
use crate::policy::principal::IDENTITY;
use crate::policy::route::{Destination, Route};
use crate::policy::upstream::{Balance, Timeouts, Upstream, WeightedServer};

impl Walk<'_> {
    pub(super) fn upstream(&self, route: &Route) -> Step {
        let mark = match self.mark(Station::Upstream) {
            Mark::Refused => Mark::Refused,
            Mark::Passes | Mark::Open => Mark::Open,
        };
        let step = Step::new("upstream", mark);
        let Destination::Upstream(at) = route.destination else {
            return step.fact(with_places("none: the gateway answers by itself", [self.at(&["rate_limit_endpoint"])]));
        };
        let Some(upstream) = self.config.policy.upstreams.get(at) else { return step };
        let servers: Vec<String> = upstream.servers.iter().map(server).collect();
        let at = |key: &str| self.at(&["upstreams", &upstream.name, key]);
        let fact = format!("{}: {}{}", upstream.name, servers.join(", "), balance(upstream));
        let times = timeouts(upstream.timeouts.with(route.timeouts), route.streaming, upstream.retries);
        let places = [at("timeouts"), self.at(&["routes", &route.name, "timeouts"])];
        let now = self.now().map(|now| now.servers.as_slice()).unwrap_or_default();
        let step = step.fact(with_places(fact, [at("servers")]));
        now.iter()
            .map(|server| format!("{}: {}, {} requests at the moment", server.name, server.condition, server.in_flight))
            .fold(step, Step::fact)
            .fact(with_places(times, places))
            .maybe(route.websocket.then(|| "clients may change to a WebSocket".to_owned()))
    }

    /// What the backend would be sent.
    pub(super) fn sent(&self) -> Step {
        let step = Step::new("sent", Mark::Open);
        let (Ok(target), Some(method), Some(route)) =
            (&self.rehearsed.outcome, &self.rehearsed.method, &self.rehearsed.trail.route)
        else {
            return step;
        };
        if route.destination == Destination::RateLimits {
            return step;
        }
        let step = step.fact(format!("{method} {target}"));
        let always = "X-Request-Id, traceparent, X-Forwarded-For, -Proto and -Host";
        let Some(principal) = &self.rehearsed.trail.principal else { return step.fact(always) };
        let values = principal.headers();
        let field =
            |(name, value): (&HeaderName, &&HeaderValue)| format!("{name}: {}", value.to_str().unwrap_or_default());
        let step = IDENTITY.iter().zip(&values).map(field).fold(step, Step::fact);
        step.fact(format!("Authorization in its one form, {always}"))
    }
}

fn server(server: &WeightedServer) -> String {
    match server.weight {
        1 => server.address.to_string(),
        weight => format!("{} (weight {weight})", server.address),
    }
}

fn balance(upstream: &Upstream) -> &'static str {
    match upstream.balance {
        _ if upstream.servers.len() == 1 => "",
        Balance::RoundRobin => ", one after the other",
        Balance::LeastRequests => ", the one with fewer requests of two",
        Balance::Hash => ", one and the same for a workspace",
    }
}

fn timeouts(timeouts: Timeouts, is_streaming: bool, retries: u32) -> String {
    let text = |duration: Duration| humantime::format_duration(duration).to_string();
    let (connect, response) = (text(timeouts.connect), text(timeouts.response));
    let total = match timeouts.total.filter(|_| !is_streaming) {
        Some(total) => format!(", {} in all", text(total)),
        None => String::new(),
    };
    let streaming = if is_streaming { ", then as long as it streams" } else { "" };
    let again = if retries == 1 { "1 retry".to_owned() } else { format!("{retries} retries") };
    format!("{connect} to connect, {response} to answer{total}{streaming}; {again}")
}
