//! Who answers, and how long that may take.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Located;
use crate::config::diff::comparison::{Comparison, told, weaker};
use crate::config::diff::words::{list, span, subject};
use crate::config::diff::{Effect, Spot};
use crate::policy::overlap::Meeting;
use crate::policy::route::{Destination, Route};
use crate::policy::upstream::{Timeouts, Upstream, WeightedServer};

impl Comparison<'_> {
    /// What changes of the answers to the requests that two routes take, as far as the routes say it.
    pub(super) fn answering(&mut self, meeting: &Meeting<'_>, old: &Route, new: &Route) {
        match (upstream(self.old, old), upstream(self.new, new)) {
            (Some(before), Some(after)) => self.timeouts(meeting, (old, before), (new, after)),
            (None, None) => {}
            (Some(_), None) => self.answered_by(meeting, new, "the gateway itself, which lists the caller's limits"),
            (None, Some(after)) => self.answered_by(meeting, new, &format!("the upstream `{}`", after.name)),
        }
        for (key, old, new_value, what) in [
            ("streaming", old.streaming, new.streaming, "an answer may take as long as it likes once it has begun"),
            ("websocket", old.websocket, new.websocket, "clients may change to a WebSocket"),
        ] {
            if old != new_value {
                let text = if new_value { what.to_owned() } else { format!("no longer so that {what}") };
                self.say_of(subject(meeting), told(Effect::Altered, text), self.route_spot(new, key));
            }
        }
    }

    fn answered_by(&mut self, meeting: &Meeting<'_>, new: &Route, whom: &str) {
        let said = told(Effect::Altered, format!("answered by {whom}"));
        self.say_of(subject(meeting), said, self.route_spot(new, "upstream"));
    }

    fn timeouts(&mut self, meeting: &Meeting<'_>, old: (&Route, &Upstream), new: (&Route, &Upstream)) {
        let before = old.1.timeouts.with(old.0.timeouts);
        let after = new.1.timeouts.with(new.0.timeouts);
        if before.response != after.response {
            let (now, was) = (span(after.response), span(before.response));
            let said = told(Effect::Altered, format!("a server has {now} to begin its answer; it was {was}"));
            self.say_of(subject(meeting), said, self.timeout_spot(old, new, "response"));
        }
        if before.total != after.total {
            let (now, was) = (whole(after.total), whole(before.total));
            let said = told(Effect::Altered, format!("a request may take {now} in all; it was {was}"));
            self.say_of(subject(meeting), said, self.timeout_spot(old, new, "total"));
        }
    }

    fn timeout_spot(&self, old: (&Route, &Upstream), new: (&Route, &Upstream), key: &str) -> Spot {
        let of_route: &[&str] = &["routes", &new.0.name, "timeouts", key];
        let of_upstream: &[&str] = &["upstreams", &new.1.name, "timeouts", key];
        let gone: &[&str] = &["routes", &old.0.name, "timeouts", key];
        self.spot(&[of_route, of_upstream, gone, &["upstreams", &new.1.name]])
    }

    /// What changes of the upstreams that requests go to.
    pub(super) fn upstreams(&mut self, meetings: &[Meeting<'_>]) {
        let mut seen: Vec<(Arc<str>, Arc<str>)> = Vec::new();
        for meeting in meetings {
            let (Some(old), Some(new)) = (meeting.old, meeting.new) else { continue };
            let (Some(before), Some(after)) = (upstream(self.old, old), upstream(self.new, new)) else { continue };
            let is_same = before.name == after.name;
            if !is_same && servers(before) != servers(after) {
                let (now, was) = (list(&servers(after)), list(&servers(before)));
                let text =
                    format!("answered by the upstream `{}` ({now}) instead of `{}` ({was})", after.name, before.name);
                self.say_of(subject(meeting), told(Effect::Altered, text), self.route_spot(new, "upstream"));
            }
            let pair = (Arc::clone(&before.name), Arc::clone(&after.name));
            if !seen.contains(&pair) {
                seen.push(pair);
                self.upstream(before, after);
            }
        }
    }

    fn upstream(&mut self, old: &Upstream, new: &Upstream) {
        let name = format!("upstream `{}`", new.name);
        let key = |key| ["upstreams", &*new.name, key];
        if old.name == new.name && servers(old) != servers(new) {
            let (now, was) = (list(&servers(new)), list(&servers(old)));
            let said = told(Effect::Altered, format!("{name}: its servers are {now}; they were {was}"));
            self.say(said, self.spot(&[&key("servers")]));
        }
        if old.tls.is_some() && new.tls.is_none() {
            let said = weaker(
                Effect::Opened,
                format!("{name}: connections to its servers are no longer encrypted and verified"),
            );
            self.say(said, self.spot(&[&key("tls"), &["upstreams", &new.name]]));
        }
        let differs = [
            ("tls", old.tls != new.tls && new.tls.is_some()),
            ("balance", old.balance != new.balance),
            ("in_flight", old.in_flight != new.in_flight),
            ("retries", old.retries != new.retries),
            ("health", old.health != new.health),
            ("eject", old.eject != new.eject),
            ("circuit", old.circuit != new.circuit),
            ("http2", old.http2 != new.http2),
        ];
        for (changed, _) in differs.iter().filter(|(_, differs)| *differs) {
            let said = told(Effect::Altered, format!("{name}: `{changed}` changed"));
            self.say(said, self.spot(&[&key(changed), &["upstreams", &new.name]]));
        }
        self.waits(&new.name, &old.timeouts, &new.timeouts);
    }

    /// Timeouts that no route has of its own.
    fn waits(&mut self, upstream: &str, before: &Timeouts, after: &Timeouts) {
        for (timeout, was, now) in [
            ("connect", before.connect, after.connect),
            ("idle", before.idle, after.idle),
            ("websocket", before.websocket, after.websocket),
        ] {
            if was != now {
                let (now, was) = (span(now), span(was));
                let said = told(
                    Effect::Altered,
                    format!("upstream `{upstream}`: the {timeout} timeout is {now}; it was {was}"),
                );
                self.say(said, self.spot(&[&["upstreams", upstream, "timeouts", timeout], &["upstreams", upstream]]));
            }
        }
    }
}

/// Where a route leads; `None` where the gateway answers by itself.
fn upstream<'l>(located: &'l Located, route: &Route) -> Option<&'l Upstream> {
    match route.destination {
        Destination::Upstream(at) => located.config.policy.upstreams.get(at).map(|upstream| &**upstream),
        Destination::RateLimits => None,
    }
}

/// The servers in an order of their own, so that theirs in the file does not matter.
fn servers(upstream: &Upstream) -> Vec<String> {
    let show = |server: &WeightedServer| match server.weight {
        1 => server.address.to_string(),
        weight => format!("{}?weight={weight}", server.address),
    };
    let mut servers: Vec<String> = upstream.servers.iter().map(show).collect();
    servers.sort_unstable();
    servers
}

fn whole(total: Option<Duration>) -> String {
    total.map_or_else(|| "as long as it likes".to_owned(), span)
}
