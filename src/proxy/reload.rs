//! Reloads: a changed file or a SIGHUP brings a new configuration into force, whole or not at all.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::config::settings::ProcessSettings;
use crate::config::{Loaded, process_environment};
use crate::proxy::snapshot::{Foundation, Live, Snapshot};
use crate::telemetry::Telemetry;
use crate::telemetry::log::Log;

/// How often the file is looked at. A look is one `stat`; it also sees a Kubernetes ConfigMap being swapped under its symlink.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Brings changed configurations into force.
pub struct Reloader {
    path: PathBuf,
    running: ProcessSettings,
    live: Arc<Live>,
    foundation: Arc<Foundation>,
    telemetry: Arc<Telemetry>,
    log: Arc<Log>,
    seen: Mutex<Option<Stamp>>,
}

/// What changes when a file is written or replaced: when, and how long it is.
pub(super) type Stamp = (SystemTime, u64);

impl Reloader {
    /// Watches `path`, which `live` was loaded from.
    pub fn new(
        path: PathBuf,
        live: Arc<Live>,
        foundation: Arc<Foundation>,
        telemetry: Arc<Telemetry>,
        log: Arc<Log>,
    ) -> Self {
        let seen = Mutex::new(stamp(&path));
        let running = live.load().config.process.clone();
        let reloader = Self { path, running, live, foundation, telemetry, log, seen };
        reloader.note(true);
        reloader
    }

    /// Looks at the file again and again, for as long as it is polled.
    ///
    /// A change is read when two looks in a row find the same: a file that is still being written may be valid and mean something else.
    pub async fn watch(&self) {
        let mut before = *self.seen.lock();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = stamp(&self.path);
            // A file that is gone for a moment is being replaced.
            if now.is_some() && now == before && *self.seen.lock() != now {
                self.reload().await;
            }
            before = now;
        }
    }

    /// Reads the file and puts it in force, or leaves everything as it is and says why.
    pub async fn reload(&self) {
        *self.seen.lock() = stamp(&self.path);
        let loaded = match Loaded::from_path(&self.path, &process_environment) {
            Ok(loaded) => loaded,
            Err(error) => return self.refuse(&format!("{}: {}", self.path.display(), error.kind())),
        };
        let warnings = loaded.report();
        let config = match loaded.into_config() {
            Ok(config) => config,
            Err(report) => return self.refuse(&report),
        };
        if !warnings.is_empty() {
            tracing::warn!("{}", warnings.trim_end());
        }
        let previous = self.live.load();
        let needs_restart = needs_restart(&self.running, &config.process);
        for setting in &needs_restart {
            tracing::warn!("`{setting}` changed: it stays as it is until a restart");
        }
        self.log.apply(&config.log);
        self.telemetry.export(config.tracing.as_ref());
        self.live.publish(Snapshot::build(config, &self.foundation, Some(&previous)).await);
        self.note(true);
        self.foundation.history.applied(needs_restart);
        tracing::info!("configuration reloaded");
    }

    fn refuse(&self, why: &str) {
        self.note(false);
        self.foundation.history.refused(why);
        tracing::error!("configuration not reloaded, the running one stays: {}", why.trim_end());
    }

    fn note(&self, successful: bool) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.foundation.metrics.reloaded(successful, now.as_secs_f64());
    }
}

/// The stamp of a file; `None` while it is not there.
pub(super) fn stamp(path: &std::path::Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

/// The keys that differ and cannot change while the process runs.
fn needs_restart(running: &ProcessSettings, wanted: &ProcessSettings) -> Vec<&'static str> {
    [
        ("listeners", running.listeners != wanted.listeners),
        ("admin", running.admin != wanted.admin),
        ("threads", running.threads != wanted.threads),
    ]
    .into_iter()
    .filter_map(|(key, differs)| differs.then_some(key))
    .collect()
}
