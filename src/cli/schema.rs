//! `schema`: what may stand in gateway.yaml, for an editor or to read.

use crate::cli::{Failure, print};
use crate::config::{reference, schema};

pub(super) fn schema(markdown: bool) -> Result<(), Failure> {
    let schema = schema::schema();
    match markdown {
        true => print(&reference::markdown(&schema)),
        false => print(&format!("{schema:#}\n")),
    }
}
