//! `openapi`: the routes as other tools read them.

use std::path::Path;

use crate::cli::check::load;
use crate::cli::{Failure, print};
use crate::openapi::document;

pub(super) fn openapi(path: &Path, server: Option<&str>) -> Result<(), Failure> {
    let config = load(path)?.into_config();
    let config = config.map_err(|report| format!("{} cannot be used\n{report}", path.display()))?;
    print(&format!("{:#}\n", document(&config, server)))
}
