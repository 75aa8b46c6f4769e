//! Told once: at the end of a request one [`Outcome`] becomes one access line and one set of metrics.
//!
//! Nothing on the request's way logs or counts by itself, so what is told is what happened, and no other place can let a secret slip.

pub mod access;
pub mod log;
pub mod metrics;
mod text;
pub mod trace;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};

use crate::pipeline::Trail;
use crate::policy::refusal::{Blame, ErrorCode, Refusal};
use crate::telemetry::access::AccessLog;
use crate::telemetry::metrics::Metrics;

/// Records what requests came to.
pub struct Telemetry {
    /// The counters.
    pub metrics: Arc<Metrics>,
    access: AccessLog,
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
    pub server: String,
    /// How many servers were tried.
    pub attempts: u32,
    /// How long the backend took, all attempts together.
    pub duration: Duration,
}

/// The client went away before the answer (nginx's number; it is never sent).
pub const CLIENT_GONE: u16 = 499;

impl Telemetry {
    /// Counts in `metrics` and writes to `access`.
    pub fn new(metrics: Arc<Metrics>, access: AccessLog) -> Self {
        Self { metrics, access }
    }

    /// Tells what a request came to.
    pub fn record(&self, outcome: &Outcome<'_>) {
        self.metrics.record(outcome);
        self.access.write(outcome);
    }
}

impl Outcome<'_> {
    /// The documented code, where the answer is an error.
    pub fn code(&self) -> Option<ErrorCode> {
        let is_error = self.status.as_u16() >= 400 && self.status.as_u16() != CLIENT_GONE;
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

    /// Whether it came to what its caller wanted.
    pub fn is_success(&self) -> bool {
        self.status.as_u16() < 400 && self.refusal.is_none()
    }
}
