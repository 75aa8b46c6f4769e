//! Routes.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::units::{Bytes, OneOrMany, Span};

/// `timeouts:` of a route
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteTimeoutsDocument {
    /// To the head of the answer, and between two reads of its body.
    #[serde(default)]
    pub response: Option<Span>,
    /// To the last byte of the answer, all attempts together.
    #[serde(default)]
    pub total: Option<Span>,
}

/// One of `routes:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["scope"]}, {"required": ["access"]}]))]
pub struct RouteDocument {
    /// Below base_path: literal segments, `{name}` for one, a last `**` for the path itself and all below it.
    #[schemars(regex(pattern = "^/"), example = "/contacts/**", example = "/campaigns/{id}/send")]
    pub path: String,
    /// Which methods it takes; GET takes HEAD too. Left out: every method.
    #[serde(default)]
    #[schemars(length(min = 1), extend("items" = {"enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]}))]
    pub methods: Vec<String>,
    /// The scope a token needs.
    #[serde(default)]
    pub scope: Option<String>,
    /// `public` or `token`, instead of a scope.
    #[serde(default)]
    pub access: Option<AccessDocument>,
    /// A name, a list, or `none`; left out it is `general`.
    #[serde(default)]
    #[schemars(extend("default" = "general"), example = &"none")]
    pub limit: Option<OneOrMany>,
    /// How many requests of its limits one request counts as.
    #[schemars(range(min = 1), extend("default" = 1))]
    pub cost: Option<u32>,
    /// Where it leads.
    pub upstream: String,
    /// The list contract of the query string.
    #[serde(default)]
    pub pagination: Option<PaginationDocument>,
    /// The answer may take as long as it likes after its first byte.
    #[serde(default)]
    pub streaming: bool,
    /// Clients may change to a WebSocket.
    #[serde(default)]
    pub websocket: bool,
    /// Instead of those of the upstream.
    #[serde(default)]
    pub timeouts: RouteTimeoutsDocument,
    /// Bytes of body; instead of request.body_bytes.
    #[serde(default)]
    pub body_bytes: Option<Bytes>,
}

/// `access:`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessDocument {
    /// Anybody.
    Public,
    /// Any valid token.
    Token,
}

/// `pagination:`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PaginationDocument {
    /// What sort_by may name.
    #[schemars(length(min = 1), inner(regex(pattern = "^[A-Za-z0-9_.-]+$")))]
    pub sort_by: Vec<String>,
}
