//! What became of a request, from its access line, in sentences.

use crate::config::places::Places;
use crate::explain::line::AccessLine;
use crate::explain::page::with_places;
use crate::explain::reasons::Reason;
use crate::telemetry::{CLIENT_GONE, plain};

/// The story of a request. Without `places` it names no lines of gateway.yaml.
pub fn story(line: &AccessLine, places: Option<&Places>) -> String {
    let story = Story { line, places };
    let sentences = [
        Some(story.beginning()),
        story.route(),
        story.caller(),
        story.limit(),
        story.shadow(),
        story.upstream(),
        Some(story.why()),
        story.advice(),
        story.trace(),
    ];
    let lines = sentences.iter().flatten().enumerate().map(|(at, sentence)| match at {
        0 => format!("{}\n", plain(sentence)),
        _ => format!("  {}\n", plain(sentence)),
    });
    lines.collect()
}

struct Story<'s> {
    line: &'s AccessLine,
    places: Option<&'s Places>,
}

impl<'s> Story<'s> {
    fn at(&self, path: &[&str]) -> Option<String> {
        self.places.and_then(|places| places.of(path))
    }

    fn reason(&self) -> Option<Reason> {
        Reason::named(self.line.reason.as_deref()?)
    }

    fn beginning(&self) -> String {
        let AccessLine { timestamp, method, path, status, client_ip, .. } = self.line;
        let what =
            if method.is_empty() { "Something that is no request".to_owned() } else { format!("{method} {path}") };
        let code = self.line.code.as_ref().map(|code| format!(" {code}")).unwrap_or_default();
        let took = took(self.line.duration_ms);
        match *status {
            CLIENT_GONE => format!("{timestamp}  {what} from {client_ip} was given up by its client after {took}."),
            status => format!("{timestamp}  {what} from {client_ip} was answered {status}{code} after {took}."),
        }
    }

    fn route(&self) -> Option<String> {
        let Some(route) = self.line.route.as_deref() else {
            return (!self.line.method.is_empty()).then(|| "It came to no route.".to_owned());
        };
        Some(with_places(format!("It took the route {route}"), [self.at(&["routes", route])]) + ".")
    }

    fn caller(&self) -> Option<String> {
        let AccessLine { workspace: Some(workspace), user, token_id, .. } = self.line else { return None };
        let known = |name: &Option<String>| name.clone().unwrap_or_else(|| "?".to_owned());
        Some(format!("The caller was workspace {workspace}, user {}, with the token {}.", known(user), known(token_id)))
    }

    fn limit(&self) -> Option<String> {
        let (limit, remaining) = (self.line.limit.as_deref()?, self.line.remaining?);
        let is_refused = self.line.reason.as_deref() == Some("limit");
        let verb = if is_refused { "refused it, with" } else { "was the tightest, with" };
        let sentence = format!("The limit {limit} {verb} {remaining} left");
        Some(with_places(sentence, [self.at(&["limits", limit])]) + ".")
    }

    fn shadow(&self) -> Option<String> {
        let limit = self.line.shadow_limited.as_deref()?;
        let sentence = format!("The limit {limit}, in shadow, would have refused it");
        Some(with_places(sentence, [self.at(&["limits", limit])]) + ".")
    }

    fn upstream(&self) -> Option<String> {
        let Some(upstream) = self.line.upstream.as_deref() else {
            return self.line.reason.is_some().then(|| "No server was asked.".to_owned());
        };
        let server = self.line.server.as_deref().unwrap_or("?");
        let attempts = match self.line.attempts {
            Some(attempts @ 2..) => format!(" after {attempts} attempts"),
            _ => String::new(),
        };
        let spent = self.line.upstream_ms.map_or(String::new(), |upstream| {
            let own = (self.line.duration_ms - upstream).max(0.0);
            format!(", {} of it there and {} in the gateway and with the client", took(upstream), took(own))
        });
        let sentence = format!("The upstream {upstream} was asked, at last {server}{attempts}{spent}");
        Some(with_places(sentence, [self.at(&["upstreams", upstream])]) + ".")
    }

    /// Why it ended as it did.
    fn why(&self) -> String {
        let line = self.line;
        match (line.reason.as_deref(), self.reason()) {
            (Some(name), Some(reason)) => {
                let places: Vec<_> = self.keys(&reason).iter().map(|key| self.at(key)).collect();
                with_places(format!("Reason {name}: {}", reason.meaning), places) + "."
            }
            (Some(name), None) => format!("Reason {name}: this version does not know it."),
            (None, _) if line.status == CLIENT_GONE => "Nobody was there any more to be answered.".to_owned(),
            (None, _) if line.upstream.is_none() => "The gateway answered it by itself, as it should.".to_owned(),
            (None, _) if line.status < 400 => "The server's answer was passed on.".to_owned(),
            (None, _) => "The server itself answered this; the gateway at most put it into the envelope.".to_owned(),
        }
    }

    fn advice(&self) -> Option<String> {
        if let Some(reason) = self.reason() {
            let end = if reason.advice.ends_with('?') { "" } else { "." };
            return Some(format!("What to do: {}{end}", reason.advice));
        }
        let server = self.line.server.as_deref()?;
        let id = &self.line.request_id;
        (self.line.status >= 500).then(|| format!("What to do: look for {id} in the log of {server}."))
    }

    fn trace(&self) -> Option<String> {
        self.line.trace_id.as_ref().map(|trace| format!("Its trace is {trace}."))
    }

    fn keys(&self, reason: &Reason) -> Vec<Vec<&'s str>> {
        let line = self.line;
        reason.keys(|section| match section {
            "routes" => line.route.as_deref(),
            "limits" => line.limit.as_deref(),
            "upstreams" => line.upstream.as_deref(),
            _ => None,
        })
    }
}

fn took(millis: f64) -> String {
    match millis {
        ..1.0 => format!("{millis:.2} ms"),
        ..1000.0 => format!("{millis:.1} ms"),
        _ => format!("{:.2} s", millis / 1e3),
    }
}
