//! Told once: at the end of a request one [`Outcome`] becomes one access line, one set of metrics, and its spans, where it is sampled.
//!
//! Nothing on the request's way logs or counts by itself, so what is told is what happened, and no other place can let a secret slip.

pub mod access;
pub mod busiest;
mod counts;
pub mod drift;
mod export;
pub mod log;
pub mod meters;
pub mod metrics;
pub mod recent;
mod spans;
mod text;

pub use text::plain;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{HeaderMap, Method, StatusCode};

use crate::config::settings::TracingSettings;
use crate::pipeline::Trail;
use crate::policy::refusal::{Blame, ErrorCode, Refusal};
use crate::policy::route::NO_ROUTE;
use crate::telemetry::access::AccessLog;
use crate::telemetry::drift::Drifts;
use crate::telemetry::export::Exporter;
use crate::telemetry::meters::RouteMeters;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::recent::Recent;
use crate::trace::Trace;

/// Records what requests came to.
pub struct Telemetry {
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The series of requests without a route.
    pub unrouted: RouteMeters,
    recent: Arc<Recent>,
    /// Success bodies that are not as agreed.
    pub drifts: Arc<Drifts>,
    access: AccessLog,
    exporter: ArcSwapOption<Exporter>,
}

/// What a request came to.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The id that the client, the backend and the log have in common.
    pub request_id: &'a str,
    /// `None` when the head was not read.
    pub method: Option<&'a Method>,
    /// As the client sent it, without its query; empty when the head was not read.
    pub path: &'a str,
    /// What the client was sent; 499 when it had gone.
    pub status: StatusCode,
    /// Why the gateway answered by itself.
    pub refusal: Option<&'a Refusal>,
    /// How far the request came.
    pub trail: &'a Trail,
    /// The series of its route.
    pub meters: &'a RouteMeters,
    /// What the backend had to do with it.
    pub upstream: Option<UpstreamUse<'a>>,
    /// From the complete head to the last byte of the answer.
    pub duration: Duration,
    /// Whom it is attributed to.
    pub client: IpAddr,
    /// Bytes of request body.
    pub bytes_in: usize,
    /// Bytes of response body.
    pub bytes_out: usize,
}

/// What a backend had to do with a request.
#[derive(Clone, Debug)]
pub struct UpstreamUse<'a> {
    /// The upstream.
    pub name: &'a str,
    /// The server of the last attempt.
    pub server: &'a str,
    /// How many servers were tried.
    pub attempts: u32,
    /// How long the backend took, all attempts together.
    pub duration: Duration,
}

/// The client went away before the answer (nginx's number; it is never sent).
pub const CLIENT_GONE: u16 = 499;

impl Telemetry {
    /// Counts in `metrics`, remembers in `recent` and writes to `access`; traces nothing until [`Telemetry::export`].
    pub fn new(metrics: Arc<Metrics>, recent: Arc<Recent>, access: AccessLog) -> Self {
        let unrouted = RouteMeters::new(&metrics, &NO_ROUTE.into(), None);
        let drifts = Drifts::new(Arc::clone(&metrics));
        Self { metrics, drifts, unrouted, recent, access, exporter: ArcSwapOption::empty() }
    }

    /// Sends spans where `settings` say from now on; without them nowhere. What an exporter of other settings holds it still delivers.
    ///
    /// Must be called on a tokio runtime.
    pub fn export(&self, settings: Option<&TracingSettings>) {
        let running = self.exporter.load();
        if running.as_ref().map(|exporter| exporter.settings()) == settings {
            return;
        }
        let next = settings.and_then(|settings| Exporter::start(settings.clone(), Arc::clone(&self.metrics)));
        if let Some(previous) = self.exporter.swap(next) {
            previous.end();
        }
    }

    /// The part of a request that has just come in its trace.
    pub fn trace(&self, headers: &HeaderMap, is_tls: bool) -> Trace {
        match &*self.exporter.load() {
            None => Trace::Off,
            Some(exporter) => {
                Trace::begin(&exporter.settings().sampling, headers, if is_tls { "https" } else { "http" })
            }
        }
    }

    /// Tells what a request came to.
    pub fn record(&self, outcome: &Outcome<'_>) {
        outcome.meters.record(&self.metrics, outcome);
        self.metrics.record(outcome);
        self.recent.note(outcome);
        self.access.write(outcome);
        if let Some(steps) = outcome.trail.trace.steps()
            && let Some(exporter) = &*self.exporter.load()
        {
            exporter.take(spans::of(outcome, steps));
        }
    }

    /// Delivers the spans that wait, before the process ends; not for long.
    pub async fn flush(&self) {
        if let Some(exporter) = self.exporter.swap(None) {
            exporter.flush().await;
        }
    }
}

impl Outcome<'_> {
    /// The documented code, where the answer is an error.
    pub fn code(&self) -> Option<ErrorCode> {
        let is_error = self.status.as_u16() >= 400 && !self.is_client_gone();
        is_error.then(|| ErrorCode::of(self.status))
    }

    /// Whose doing it was.
    pub fn blame(&self) -> Blame {
        match self.refusal {
            Some(refusal) => refusal.blame(),
            None if self.status.is_server_error() => Blame::Upstream,
            None => Blame::Caller,
        }
    }

    /// Whether there was nobody to answer any more.
    pub fn is_client_gone(&self) -> bool {
        self.status.as_u16() == CLIENT_GONE
    }

    /// Whether it came to what its caller wanted.
    pub fn is_success(&self) -> bool {
        self.status.as_u16() < 400 && self.refusal.is_none()
    }
}
