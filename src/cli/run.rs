//! `run`: serves a configuration, or refuses to start with the words of `check`.

use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::cli::check::load;
use crate::config::settings::Config;
use crate::proxy::server::{self, Bound};
use crate::telemetry::log::Log;

pub(super) fn run(path: &Path) -> Result<(), Failure> {
    let loaded = load(path)?;
    let warnings = loaded.report();
    let config = loaded.into_config().map_err(|report| format!("{} cannot be used\n{report}", path.display()))?;
    serve(config, path.to_owned(), &warnings, |_| Ok(()))
}

/// Binds, calls `ready` with what was bound, and serves until the process is told to end.
pub(super) fn serve(
    config: Config,
    path: PathBuf,
    warnings: &str,
    ready: impl FnOnce(&Bound) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let bound = Bound::new(&config)?;
    let (log, _guard) = Log::open(config.process.json_log, config.log_level);
    if !warnings.is_empty() {
        tracing::warn!("{}", warnings.trim_end());
    }
    ready(&bound)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.process.threads)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start worker threads: {error}"))?;
    let served = runtime.block_on(server::run(bound, config, path, log));
    runtime.shutdown_background();
    Ok(served?)
}
