//! `observability:` → what is logged, and where spans are sent.

use http::Uri;

use super::Compiler;
use crate::config::document::{FormatDocument, LevelDocument, LogDocument, ParentDocument, TracingDocument};
use crate::config::settings::{LogFormat, LogSettings, TracingSettings};
use crate::trace::{Parent, Sampling};

/// Where a collector takes spans (OTLP, "OTLP/HTTP Request").
const TRACES: &str = "/v1/traces";
/// The share of requests that is traced if it is not said: few enough for every amount of traffic.
const DEFAULT_SAMPLE: f64 = 0.01;

impl Compiler<'_> {
    pub(super) fn log(&mut self, document: &LogDocument) -> LogSettings {
        LogSettings {
            format: match document.format {
                FormatDocument::Json => LogFormat::Json,
                FormatDocument::Text => LogFormat::Text,
            },
            level: match document.level {
                LevelDocument::Debug => tracing::Level::DEBUG,
                LevelDocument::Info => tracing::Level::INFO,
                LevelDocument::Warn => tracing::Level::WARN,
                LevelDocument::Error => tracing::Level::ERROR,
            },
            sample: self.share(&["observability", "log", "sample"], document.sample, 1.0),
        }
    }

    pub(super) fn tracing(&mut self, document: &TracingDocument) -> Option<TracingSettings> {
        let share = self.share(&["observability", "tracing", "sample"], document.sample, DEFAULT_SAMPLE);
        let parent = match document.parent {
            ParentDocument::Follow => Parent::Followed,
            ParentDocument::Ignore => Parent::Ignored,
        };
        let base = document.otlp.as_deref().filter(|base| !base.is_empty())?;
        let endpoint = self.endpoint(&["observability", "tracing", "otlp"], base)?;
        Some(TracingSettings { endpoint, sampling: Sampling { share, parent } })
    }

    fn share(&mut self, path: &[&str], written: Option<f64>, default: f64) -> f64 {
        let share = written.unwrap_or(default);
        if !(0.0..=1.0).contains(&share) {
            self.error(path, format!("{} is a share, from 0 to 1", path.join("."))).hint =
                Some("0.05 is one of twenty".into());
        }
        share
    }

    /// The url that spans are posted to, from that of the collector.
    fn endpoint(&mut self, path: &[&str], base: &str) -> Option<String> {
        let uri = Uri::try_from(base).ok();
        let is_collector = uri.as_ref().is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.query().is_none()
        });
        if !is_collector {
            self.error(path, "this is not the url of a collector").hint =
                Some("OTLP over HTTP: `http://otel.example.com:4318`".into());
            return None;
        }
        if uri.as_ref().and_then(Uri::authority).is_some_and(|authority| authority.as_str().contains('@')) {
            self.error(path, "the url of a collector cannot hold a password").hint =
                Some("set OTEL_EXPORTER_OTLP_HEADERS, for example to `authorization=Basic …`".into());
            return None;
        }
        let base = base.trim_end_matches('/');
        Some(if base.ends_with(TRACES) { base.to_owned() } else { format!("{base}{TRACES}") })
    }
}
