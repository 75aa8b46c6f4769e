//! How the process ends, and who comes after it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::units::Span;

/// `shutdown:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownDocument {
    /// How long connections are still taken after SIGTERM, while /readyz says 503 already: until balancers have looked.
    pub delay: Span,
    /// How long requests in flight have to finish after that.
    pub grace: Span,
}

impl Default for ShutdownDocument {
    fn default() -> Self {
        Self { delay: Span(std::time::Duration::ZERO), grace: Span(std::time::Duration::from_secs(30)) }
    }
}

/// `hand_over:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HandOverDocument {
    /// A path in a directory of its own.
    pub socket: PathBuf,
}
