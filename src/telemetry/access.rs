//! The access line: one JSON object, or one line for people, a request.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use serde::Serialize;
use tracing::Level;

use crate::policy::refusal::Blame;
use crate::telemetry::Outcome;
use crate::telemetry::log::{Log, timestamp};

/// Writes access lines.
pub struct AccessLog {
    log: Arc<Log>,
}

/// The fields in their documented order. A field that does not apply is left out.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'static str,
    message: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    method: &'a str,
    path: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remaining: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow_limited: Option<&'a str>,
    client_ip: String,
    bytes_in: usize,
    bytes_out: usize,
}

impl AccessLog {
    /// Writes to `log`, in its format and from its level on.
    pub fn new(log: Arc<Log>) -> Self {
        Self { log }
    }

    /// Writes the line of `outcome`: caller's faults at info, the backend's at warn, ours at error.
    pub fn write(&self, outcome: &Outcome<'_>) {
        let level = match outcome.blame() {
            Blame::Caller => Level::INFO,
            Blame::Upstream => Level::WARN,
            Blame::Gateway => Level::ERROR,
        };
        if !self.log.writes(level) {
            return;
        }
        let line = Line::new(outcome, level);
        let mut text =
            if self.log.is_json() { serde_json::to_vec(&line).unwrap_or_default() } else { line.for_people().into() };
        text.push(b'\n');
        // A full queue drops the line and counts it; a request never waits for the log.
        let _ = self.log.writer().write_all(&text);
    }
}

impl<'a> Line<'a> {
    fn new(outcome: &'a Outcome<'_>, level: Level) -> Self {
        let millis = |duration: std::time::Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
        let principal = outcome.trail.principal.as_deref();
        let decision = outcome.trail.decision.as_ref();
        let quota = decision.and_then(|decision| decision.quota.as_ref());
        let upstream = outcome.upstream.as_ref();
        Self {
            timestamp: timestamp(),
            level: match level {
                Level::ERROR => "error",
                Level::WARN => "warn",
                _ => "info",
            },
            message: "request",
            request_id: outcome.request_id,
            route: outcome.trail.route.as_ref().map(|route| &*route.name),
            method: outcome.method.map_or("", |method| method.as_str()),
            path: outcome.path,
            status: outcome.status.as_u16(),
            code: outcome.code().map(|code| code.as_str()),
            reason: outcome.refusal.map(|refusal| refusal.reason()),
            duration_ms: millis(outcome.duration),
            upstream_ms: upstream.map(|upstream| millis(upstream.duration)),
            upstream: upstream.map(|upstream| upstream.name),
            server: upstream.map(|upstream| upstream.server.as_str()),
            attempts: upstream.map(|upstream| upstream.attempts),
            workspace: principal.map(|principal| principal.workspace()),
            user: principal.map(|principal| principal.user()),
            token_id: principal.map(|principal| principal.token_id()),
            limit: quota.map(|quota| &*quota.limit.name),
            remaining: quota.map(|quota| quota.remaining),
            shadow_limited: decision.and_then(|decision| decision.shadow_limited()).map(|limit| &*limit.name),
            client_ip: outcome.client.to_string(),
            bytes_in: outcome.bytes_in,
            bytes_out: outcome.bytes_out,
        }
    }

    fn for_people(&self) -> String {
        let Self { timestamp, level, method, path, status, duration_ms, client_ip, request_id, .. } = self;
        let mut text =
            format!("{timestamp} {level:>5} {method} {path} {status} {duration_ms}ms {client_ip} {request_id}");
        // Writing to a String cannot fail.
        let _ = match (self.reason, self.route) {
            (Some(reason), _) => write!(text, " {reason}"),
            (None, Some(route)) => write!(text, " {route}"),
            (None, None) => Ok(()),
        };
        text
    }
}
