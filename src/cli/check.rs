//! `check`: everything that is wrong with a configuration, in one go.

use std::path::Path;

use crate::cli::{Failure, print};
use crate::config::{Loaded, process_environment};

pub(super) fn check(path: &Path) -> Result<(), Failure> {
    let loaded = load(path)?;
    print(&loaded.report())?;
    if loaded.is_broken() {
        return Err(Failure::No);
    }
    print(&format!("{} is fine\n", path.display()))
}

/// Reads a configuration for any command.
pub(super) fn load(path: &Path) -> Result<Loaded, Failure> {
    Loaded::from_path(path, &process_environment).map_err(|error| {
        Failure::Because(format!("cannot read {}: {}; name another file with -c", path.display(), error.kind()))
    })
}
