//! Programs that `tests/tools/install` has brought.

use std::path::{Path, PathBuf};

/// A file below target/tools.
pub fn tool(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools").join(name);
    assert!(path.exists(), "{} is missing: run tests/tools/install", path.display());
    path
}
