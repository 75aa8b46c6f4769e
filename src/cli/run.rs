//! `run`: serves a configuration, or refuses to start with the words of `check`.

use std::path::{Path, PathBuf};

use tokio::runtime::{Builder, Runtime};

use crate::cli::Failure;
use crate::cli::check::load;
use crate::config::settings::Config;
use crate::proxy::hand_over::Inherited;
use crate::proxy::server::{self, Bound};
use crate::telemetry::log::Log;

/// Serves; with `upgrade`, on the listeners of the process that serves now, which ends for it.
pub(super) fn run(path: &Path, upgrade: bool) -> Result<(), Failure> {
    let loaded = load(path)?;
    let warnings = loaded.report();
    let config = loaded.into_config().map_err(|report| format!("{} cannot be used\n{report}", path.display()))?;
    let inherited = match (upgrade, &config.hand_over) {
        (false, _) => None,
        (true, Some(socket)) => Some(Inherited::wait(socket)?),
        (true, None) => {
            let path = path.display();
            return Err(format!(
                "--upgrade needs `hand_over: {{socket: …}}` in {path}, where both processes find each other"
            )
            .into());
        }
    };
    let bound = Bound::new(&config, inherited)?;
    serve(bound, config, path.to_owned(), &warnings, |_| Ok(()))
}

/// Calls `ready` with what is bound, and serves until the process is told to end.
pub(super) fn serve(
    bound: Bound,
    config: Config,
    path: PathBuf,
    warnings: &str,
    ready: impl FnOnce(&Bound) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (log, _guard) = Log::open(&config.log);
    if !warnings.is_empty() {
        tracing::warn!("{}", warnings.trim_end());
    }
    ready(&bound)?;
    let runtime = runtime(config.process.threads).map_err(|error| format!("cannot start worker threads: {error}"))?;
    let served = runtime.block_on(server::run(bound, config, path, log));
    runtime.shutdown_background();
    Ok(served?)
}

/// One worker needs no scheduler that could hand its work to another.
fn runtime(threads: usize) -> std::io::Result<Runtime> {
    match threads {
        1 => Builder::new_current_thread().enable_all().build(),
        more => Builder::new_multi_thread().worker_threads(more).enable_all().build(),
    }
}
