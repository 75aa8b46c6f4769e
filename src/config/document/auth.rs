//! How tokens look, and how what is known of them is kept.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::document::sources::SourceDocument;
use crate::config::units::Span;

/// `auth:`
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthDocument {
    /// What every token begins with.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]*$"), extend("default" = "mb_"))]
    pub token_prefix: Option<String>,
    /// What is asked of the crc32b of an opaque token.
    #[schemars(extend("default" = "if_present"))]
    pub checksum: Option<ChecksumDocument>,
    /// Asked in this order; the first that knows the token decides.
    pub sources: Vec<SourceDocument>,
    /// The age at which an opaque token ends, counted from created_at; 0 for none.
    #[schemars(extend("default" = 0), example = "4h")]
    pub expiration: Option<Span>,
    /// How long what was found out is believed.
    pub cache: CacheDocument,
    /// How much looking up unknown tokens may cost the stores.
    pub look_ups: LookUpsDocument,
    /// How many unknown tokens an address may present.
    pub failures: FailuresDocument,
}

/// `auth.look_ups:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LookUpsDocument {
    /// Look-ups of tokens that were never seen, a second; above it 503.
    #[schemars(range(min = 1))]
    pub per_second: u32,
    /// Look-ups at the same time; above it 503.
    #[schemars(range(min = 1))]
    pub in_flight: usize,
}

impl Default for LookUpsDocument {
    fn default() -> Self {
        Self { per_second: 200, in_flight: 64 }
    }
}

/// `auth.failures:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FailuresDocument {
    /// Unknown tokens from one address (IPv6 by /64) before its next one is 429 without a look-up; 0 for no bound.
    pub per_minute: u32,
}

impl Default for FailuresDocument {
    fn default() -> Self {
        Self { per_minute: 20 }
    }
}

/// `auth.checksum`
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChecksumDocument {
    /// Every opaque token has one.
    Required,
    /// One that is there is right.
    IfPresent,
    /// Not looked at.
    Off,
}

/// `auth.cache:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CacheDocument {
    /// How long a known token is believed without asking again.
    pub ttl: Span,
    /// How long an unknown one stays unknown.
    pub negative_ttl: Span,
    /// How many tokens are kept.
    #[schemars(range(min = 1))]
    pub entries: usize,
    /// How much longer a known token is believed while its store cannot be asked.
    pub stale_cap: Span,
}

impl Default for CacheDocument {
    fn default() -> Self {
        use std::time::Duration;
        Self {
            ttl: Span(Duration::from_secs(30)),
            negative_ttl: Span(Duration::from_secs(5)),
            entries: 100_000,
            stale_cap: Span(Duration::from_secs(120)),
        }
    }
}
