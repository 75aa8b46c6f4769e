//! What a request comes to in the end, and what would make it pass.

use crate::config::places::Places;
use crate::config::settings::Config;
use crate::explain::page::with_places;
use crate::explain::reasons::Reason;
use crate::explain::rehearsal::Rehearsed;
use crate::policy::envelope::sentence;
use crate::policy::refusal::{ErrorCode, FieldErrors, Refusal};
use crate::policy::route::{Destination, Route};
use crate::policy::upstream::Upstream;

/// The last lines of an explanation.
pub fn verdict(rehearsed: &Rehearsed, config: &Config, places: &Places) -> String {
    match (&rehearsed.outcome, rehearsed.trail.route.as_deref()) {
        (Ok(_), Some(route)) => format!("yes: {}\n", passed(route, config)),
        // Nothing passes without a route.
        (Ok(_), None) => String::new(),
        (Err(refusal), route) => refused(refusal, route, config, places),
    }
}

fn upstream<'c>(route: &Route, config: &'c Config) -> Option<&'c Upstream> {
    match route.destination {
        Destination::Upstream(at) => config.policy.upstreams.get(at).map(AsRef::as_ref),
        Destination::RateLimits => None,
    }
}

fn passed(route: &Route, config: &Config) -> String {
    match upstream(route, config) {
        Some(upstream) => format!("it would be forwarded to {}", upstream.name),
        None => "the gateway itself would answer it, with where the caller stands".to_owned(),
    }
}

fn limit(refusal: &Refusal) -> Option<&str> {
    match refusal {
        Refusal::RateLimited(quota) => Some(&quota.limit.name),
        _ => None,
    }
}

fn refused(refusal: &Refusal, route: Option<&Route>, config: &Config, places: &Places) -> String {
    let upstream = route.and_then(|route| upstream(route, config)).map(|upstream| &*upstream.name);
    let (status, reason) = (refusal.status(), refusal.reason());
    let mut lines = vec![
        format!("no: {} {}, reason {reason}", status.as_u16(), ErrorCode::of(status).as_str()),
        format!("the client reads: {}", sentence(status)),
    ];
    if let Refusal::Invalid(fields) = refusal {
        lines.extend(details(fields));
    }
    if let Some(known) = Reason::named(reason) {
        let keys = known.keys(|section| match section {
            "routes" => route.map(|route| &*route.name),
            "limits" => limit(refusal),
            "upstreams" => upstream,
            _ => None,
        });
        lines.push(with_places(format!("because {}", known.meaning), keys.iter().map(|key| places.of(key))));
        lines.push(format!("to pass: {}", own_advice(refusal).unwrap_or_else(|| known.advice.to_owned())));
    }
    lines.join("\n    ") + "\n"
}

fn details(fields: &FieldErrors) -> impl Iterator<Item = String> {
    fields.iter().map(|(field, messages)| format!("  {field}: {}", messages.join(" ")))
}

/// Advice that names what the refusal is about.
fn own_advice(refusal: &Refusal) -> Option<String> {
    match refusal {
        Refusal::MissingScope(scope) => Some(format!("a token with the scope {scope}")),
        Refusal::MethodNotAllowed(methods) => Some(format!("send {methods}")),
        Refusal::RateLimited(quota) => {
            Some(format!("wait {} s: {} of {} are left", quota.retry_after, quota.remaining, quota.limit.name))
        }
        Refusal::NoToken => Some("a token: --token T, or --token - from standard input".to_owned()),
        _ => None,
    }
}
