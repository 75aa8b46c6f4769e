//! The access line: one JSON object, or one line for people, a request.

use std::io::Write as _;
use std::sync::Arc;

use serde::Serialize;
use tracing::Level;

use crate::config::settings::LogFormat;
use crate::policy::refusal::Blame;
use crate::telemetry::Outcome;
use crate::telemetry::log::{Log, name, timestamp};
use crate::telemetry::text;

/// Writes access lines.
pub struct AccessLog {
    log: Arc<Log>,
}

/// The fields in their documented order. A field that does not apply is left out.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    pub(super) timestamp: String,
    pub(super) level: &'static str,
    pub(super) message: &'static str,
    pub(super) request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) route: Option<&'a str>,
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    pub(super) duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upstream_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) upstream: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) workspace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remaining: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shadow_limited: Option<&'a str>,
    pub(super) client_ip: String,
    pub(super) bytes_in: usize,
    pub(super) bytes_out: usize,
}

impl AccessLog {
    /// Writes to `log`, in its format and as much as its settings say.
    pub fn new(log: Arc<Log>) -> Self {
        Self { log }
    }

    /// Writes the line of `outcome`, if one is wanted.
    pub fn write(&self, outcome: &Outcome<'_>) {
        if let Some(line) = self.line(outcome) {
            // A full queue drops the line and counts it; a request never waits for the log.
            let _ = self.log.writer().write_all(&line);
        }
    }

    /// The line of `outcome` with its end: caller's faults at info, the backend's at warn, ours at error. Of successes, and of them
    /// alone, only a share may be wanted; one that is traced has its line.
    pub fn line(&self, outcome: &Outcome<'_>) -> Option<Vec<u8>> {
        let level = match outcome.blame() {
            Blame::Caller => Level::INFO,
            Blame::Upstream => Level::WARN,
            Blame::Gateway => Level::ERROR,
        };
        let settings = self.log.settings();
        let is_wanted =
            || !outcome.is_success() || outcome.trail.trace.steps().is_some() || fastrand::f64() < settings.sample;
        if level > settings.level || !is_wanted() {
            return None;
        }
        let line = Line::new(outcome, level);
        let mut text = match settings.format {
            LogFormat::Json => serde_json::to_vec(&line).unwrap_or_default(),
            LogFormat::Text => text::request(&line, level, self.log.colours()).into(),
        };
        text.push(b'\n');
        Some(text)
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
            level: name(level),
            message: "request",
            request_id: outcome.request_id,
            trace_id: outcome.trail.trace.steps().map(|steps| format!("{:032x}", steps.context.trace)),
            route: outcome.trail.route.as_ref().map(|route| &*route.name),
            method: outcome.method.map_or("", |method| method.as_str()),
            path: outcome.path,
            status: outcome.status.as_u16(),
            code: outcome.code().map(|code| code.as_str()),
            reason: outcome.refusal.map(|refusal| refusal.reason()),
            duration_ms: millis(outcome.duration),
            upstream_ms: upstream.map(|upstream| millis(upstream.duration)),
            upstream: upstream.map(|upstream| upstream.name),
            server: upstream.map(|upstream| upstream.server),
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
}
