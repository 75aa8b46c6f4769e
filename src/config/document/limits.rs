//! Limits.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::units::Span;

/// One of `limits:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitDocument {
    /// How many pass in one window.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub requests: u32,
    /// How long a window is: 1s to 31d, in whole seconds.
    #[schemars(example = "1m")]
    pub per: Span,
    /// Whose requests are counted together.
    #[serde(default)]
    pub by: ByDocument,
    /// How they are counted.
    #[serde(default)]
    pub algorithm: AlgorithmOfLimitDocument,
    /// How many of a `gcra` limit may come at once; `requests` if it is not said.
    #[schemars(range(min = 1))]
    pub burst: Option<u32>,
    /// What happens when the store cannot decide.
    #[serde(default)]
    pub on_store_failure: OnStoreFailureDocument,
    /// Whether it refuses.
    #[serde(default)]
    pub mode: ModeDocument,
}

/// `by:`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ByDocument {
    /// All tokens of a workspace.
    #[default]
    Workspace,
    /// All tokens of a user.
    User,
    /// One token.
    Token,
    /// One address, IPv6 by /64.
    ClientIp,
}

/// `algorithm:` of a limit
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlgorithmOfLimitDocument {
    /// A window from the first hit.
    #[default]
    FixedWindow,
    /// Every hit of the last window.
    SlidingLog,
    /// An even pace with a burst.
    Gcra,
}

/// `mode:`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModeDocument {
    /// It refuses.
    #[default]
    Enforce,
    /// It counts, and tells what it would have refused.
    Shadow,
}

/// `on_store_failure:`
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStoreFailureDocument {
    /// Each replica counts its share.
    #[default]
    Local,
    /// Everything passes.
    Allow,
    /// Everything is refused with 503.
    Deny,
}
