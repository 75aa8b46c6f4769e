//! `observability:` → what is logged.

use super::Compiler;
use crate::config::document::{FormatDocument, LevelDocument, LogDocument};
use crate::config::settings::{LogFormat, LogSettings};

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

    fn share(&mut self, path: &[&str], written: Option<f64>, default: f64) -> f64 {
        let share = written.unwrap_or(default);
        if !(0.0..=1.0).contains(&share) {
            self.error(path, format!("{} is a share, from 0 to 1", path.join("."))).hint =
                Some("0.05 is one of twenty".into());
        }
        share
    }
}
