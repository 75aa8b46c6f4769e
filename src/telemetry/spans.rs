//! What a sampled request came to, as spans: its own, one each for the token and the limits, and one for every server that was asked.
//!
//! Names of attributes are OpenTelemetry's (HTTP semantic conventions 1.23 and later), ours begin with `gateway.`. What may be in the
//! access line may be here, and nothing else: never a query, a body, a header field or a token.

use std::borrow::Cow;
use std::time::Duration;

use opentelemetry::trace::{Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::policy::refusal::{Blame, Refusal};
use crate::policy::route::Methods;
use crate::telemetry::Outcome;
use crate::trace::{Attempt, Step, Steps, new_span};

/// The spans of a request, its own first.
pub(super) fn of(outcome: &Outcome<'_>, steps: &Steps) -> Vec<SpanData> {
    let telling = Telling { outcome, steps, took: steps.now() };
    let mut spans = vec![telling.request()];
    spans.extend(telling.token());
    spans.extend(telling.limit());
    spans.extend((0..).zip(&steps.attempts).map(|(number, attempt)| telling.attempt(number, attempt)));
    spans
}

struct Telling<'t> {
    outcome: &'t Outcome<'t>,
    steps: &'t Steps,
    took: Duration,
}

/// The attributes of a span.
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn add(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.push(KeyValue::new(name, value));
    }

    fn maybe(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        self.0.extend(value.map(|value| KeyValue::new(name, value)));
    }
}

impl Telling<'_> {
    /// The span of the request itself. A caller's fault is no error of it, and a caller who left made none.
    fn request(&self) -> SpanData {
        let (outcome, steps) = (self.outcome, self.steps);
        let is_ours = outcome.blame() != Blame::Caller && !outcome.is_client_gone();
        let error = is_ours.then(|| match outcome.refusal {
            Some(refusal) => Cow::Borrowed(refusal.reason()),
            None => Cow::Owned(outcome.status.as_str().to_owned()),
        });
        let events = [("route", Step::Route), ("scope", Step::Scope)];
        let events = events.into_iter().filter_map(|(name, step)| Some(self.event(name, self.passed(step)?)));
        SpanData {
            parent_span_id: SpanId::from(steps.parent.unwrap_or_default()),
            parent_span_is_remote: steps.parent.is_some(),
            span_kind: SpanKind::Server,
            name: self.name().into(),
            events: all(events),
            ..self.span(steps.context.span, (Duration::ZERO, self.took), self.of_request(), error)
        }
    }

    fn of_request(&self) -> Attributes {
        let outcome = self.outcome;
        let route = outcome.trail.route.as_deref();
        let mut attributes = Attributes(Vec::with_capacity(16));
        attributes.add("http.request.method", self.method().unwrap_or("_OTHER").to_owned());
        attributes.add("url.scheme", self.steps.scheme);
        attributes.add("url.path", outcome.path.to_owned());
        attributes.maybe("http.route", route.map(|route| route.pattern.as_str().to_owned()));
        attributes.add("client.address", outcome.client.to_string());
        if !outcome.is_client_gone() {
            attributes.add("http.response.status_code", i64::from(outcome.status.as_u16()));
        }
        attributes.add("http.request.body.size", size(outcome.bytes_in));
        attributes.add("http.response.body.size", size(outcome.bytes_out));
        attributes.add("gateway.request_id", outcome.request_id.to_owned());
        attributes.maybe("gateway.route", route.map(|route| route.name.to_string()));
        attributes.maybe("gateway.refusal", outcome.refusal.map(Refusal::reason));
        if let Some(principal) = outcome.trail.principal.as_deref() {
            attributes.add("gateway.workspace", principal.workspace().to_owned());
            attributes.add("user.id", principal.user().to_owned());
        }
        attributes
    }

    /// From the route to who is calling, if that was asked.
    fn token(&self) -> Option<SpanData> {
        let (began, passed) = (self.passed(Step::Route)?, self.passed(Step::Token));
        let principal = self.outcome.trail.principal.as_deref();
        let refusal = self.outcome.refusal.filter(|_| passed.is_none());
        if principal.is_none() && refusal.is_none() {
            return None;
        }
        let mut attributes = Attributes(Vec::with_capacity(3));
        attributes.maybe("gateway.token.id", principal.map(|principal| principal.token_id().to_owned()));
        attributes.maybe("gateway.refusal", refusal.map(Refusal::reason));
        Some(self.step("token", (began, passed.unwrap_or(self.took)), attributes, refusal))
    }

    /// From the scope to what the limits have decided, if there were any.
    fn limit(&self) -> Option<SpanData> {
        let (began, passed) = (self.passed(Step::Scope)?, self.passed(Step::Limit)?);
        let decision = self.outcome.trail.decision.as_ref()?;
        let by = decision.by?;
        let refusal = self.outcome.refusal.filter(|_| !decision.granted);
        let mut attributes = Attributes(Vec::with_capacity(6));
        attributes.add("gateway.limit.decided_by", by.as_str());
        if let Some(quota) = &decision.quota {
            attributes.add("gateway.limit.name", quota.limit.name.to_string());
            attributes.add("gateway.limit.remaining", i64::from(quota.remaining));
        }
        let shadow = decision.shadow_limited().map(|limit| limit.name.to_string());
        attributes.maybe("gateway.limit.shadow_limited", shadow);
        attributes.maybe("gateway.refusal", refusal.map(Refusal::reason));
        Some(self.step("limit", (began, passed), attributes, refusal))
    }

    /// One way to a server, the `number`th from 0.
    fn attempt(&self, number: i64, attempt: &Attempt) -> SpanData {
        let (host, port) = match attempt.server.strip_prefix("unix:") {
            Some(path) => (path, ""),
            None => attempt.server.rsplit_once(':').unwrap_or((&attempt.server, "")),
        };
        let mut attributes = Attributes(Vec::with_capacity(7));
        attributes.add("http.request.method", self.method().unwrap_or("_OTHER").to_owned());
        attributes.add("server.address", host.trim_matches(['[', ']']).to_owned());
        attributes.maybe("server.port", port.parse::<i64>().ok());
        attributes.maybe("gateway.upstream", self.outcome.upstream.as_ref().map(|upstream| upstream.name.to_owned()));
        attributes.maybe("http.request.resend_count", (number > 0).then_some(number));
        let status = attempt.answer.and_then(Result::ok);
        attributes.maybe("http.response.status_code", status.map(i64::from));
        let cut_short = self.outcome.refusal.filter(|refusal| refusal.blame() == Blame::Upstream);
        let error = match attempt.answer {
            Some(Err(why)) => Some(Cow::Borrowed(why)),
            Some(Ok(_)) if cut_short.is_some() => cut_short.map(|refusal| Cow::Borrowed(refusal.reason())),
            Some(Ok(status @ 400..)) => Some(Cow::Owned(status.to_string())),
            Some(Ok(_)) | None => None,
        };
        let ended = attempt.heard.filter(|_| status.is_none()).unwrap_or(self.took);
        let head = attempt.heard.filter(|_| status.is_some()).map(|at| self.event("response head", at));
        SpanData {
            span_kind: SpanKind::Client,
            name: self.method().unwrap_or("HTTP").to_owned().into(),
            events: all(head.into_iter()),
            ..self.span(attempt.span, (attempt.began, ended), attributes, error)
        }
    }

    /// A step within the request; refused there through a fault of ours, it is an error.
    fn step(
        &self,
        name: &'static str,
        times: (Duration, Duration),
        attributes: Attributes,
        refusal: Option<&Refusal>,
    ) -> SpanData {
        let error = refusal.filter(|refusal| refusal.blame() == Blame::Gateway);
        let error = error.map(|refusal| Cow::Borrowed(refusal.reason()));
        SpanData { name: name.into(), ..self.span(new_span(), times, attributes, error) }
    }

    /// A span below that of the request, from when to when, and what went wrong, if anything.
    fn span(
        &self,
        id: u64,
        (began, ended): (Duration, Duration),
        mut attributes: Attributes,
        error: Option<Cow<'static, str>>,
    ) -> SpanData {
        let trace = TraceId::from(self.steps.context.trace);
        attributes.maybe("error.type", error.clone().map(Cow::into_owned));
        SpanData {
            span_context: SpanContext::new(trace, SpanId::from(id), TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: SpanId::from(self.steps.context.span),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: Cow::Borrowed(""),
            start_time: self.steps.began + began,
            end_time: self.steps.began + ended,
            attributes: attributes.0,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: error.map_or(Status::Unset, |description| Status::Error { description }),
            instrumentation_scope: InstrumentationScope::builder("mailtrixy-gateway").build(),
        }
    }

    fn event(&self, name: &'static str, at: Duration) -> Event {
        Event::new(name, self.steps.began + at, Vec::new(), 0)
    }

    fn passed(&self, step: Step) -> Option<Duration> {
        self.steps.passed.iter().find(|(passed, _)| *passed == step).map(|(_, at)| *at)
    }

    /// The method, if it is one that everybody knows.
    fn method(&self) -> Option<&str> {
        self.outcome.method.filter(|method| Methods::ALL.contains(method)).map(http::Method::as_str)
    }

    /// Method and pattern: few names for many requests.
    fn name(&self) -> String {
        let method = self.method().unwrap_or("HTTP");
        match &self.outcome.trail.route {
            Some(route) => format!("{method} {}", route.pattern.as_str()),
            None => method.to_owned(),
        }
    }
}

fn all(events: impl Iterator<Item = Event>) -> SpanEvents {
    let mut all = SpanEvents::default();
    all.events.extend(events);
    all
}

fn size(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
