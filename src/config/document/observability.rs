//! The log and traces.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `observability:`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ObservabilityDocument {
    /// One line a request.
    pub log: LogDocument,
    /// Spans.
    pub tracing: TracingDocument,
}

/// `log:`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogDocument {
    /// For programs or for people.
    pub format: FormatDocument,
    /// The least level that is written.
    pub level: LevelDocument,
    /// The share of successes that is written; everything else always is.
    #[schemars(range(min = 0, max = 1), extend("default" = 1))]
    pub sample: Option<f64>,
}

/// `format:`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FormatDocument {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// `level:`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the levels everybody knows")]
pub enum LevelDocument {
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

/// `tracing:`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TracingDocument {
    /// Where spans are sent; empty for nowhere.
    pub otlp: Option<String>,
    /// The share of requests that is traced, of those about which no caller has decided.
    #[schemars(range(min = 0, max = 1), extend("default" = 0.01))]
    pub sample: Option<f64>,
    /// What becomes of a caller's decision.
    pub parent: ParentDocument,
}

/// `parent:`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParentDocument {
    /// It holds.
    #[default]
    Follow,
    /// The share decides.
    Ignore,
}
