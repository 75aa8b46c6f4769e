//! Routes: which request goes where, and what it needs for that.

mod methods;
mod pattern;
mod shadows;
mod table;

use std::sync::Arc;

use crate::policy::limit::Limit;
use crate::policy::pagination::Pagination;
use crate::policy::principal::Principal;
use crate::policy::refusal::Refusal;
use crate::policy::scope::Scope;
use crate::policy::upstream::RouteTimeouts;

pub use methods::Methods;
pub(super) use pattern::Segment;
pub use pattern::{Pattern, PatternProblem};
pub use table::RouteTable;

/// The `route` label of a request that found no route; no route can be called that.
pub const NO_ROUTE: &str = "none";

/// One entry of `routes:`.
#[derive(Debug)]
pub struct Route {
    /// Its place among all routes.
    pub number: usize,
    /// The key in gateway.yaml, and the `route` label of every metric.
    pub name: Arc<str>,
    /// The full path pattern, `base_path` included.
    pub pattern: Pattern,
    /// The methods it takes.
    pub methods: Methods,
    /// Who may use it.
    pub access: Access,
    /// The limits a request takes, all or none.
    pub limits: Vec<Arc<Limit>>,
    /// How many units of each limit a request takes.
    pub cost: u32,
    /// Who answers.
    pub destination: Destination,
    /// The list contract of the query string, where the route has one.
    pub pagination: Option<Pagination>,
    /// Whether the answer may take as long as it likes between its first byte and its last.
    pub streaming: bool,
    /// Whether clients may change to a WebSocket.
    pub websocket: bool,
    /// How long to wait, where that is not as the upstream says.
    pub timeouts: RouteTimeouts,
    /// The most bytes of request body the route takes.
    pub body_bytes: u64,
}

/// Who answers the requests of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A backend: an index into [`crate::policy::Policy::upstreams`].
    Upstream(usize),
    /// The gateway itself, which tells callers where they stand with their limits.
    RateLimits,
}

/// Who may use a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody; a token is not looked at.
    Public,
    /// Any valid token.
    Token,
    /// A valid token that holds this scope.
    Scope(Scope),
}

impl Access {
    /// Whether a request on the route has to present a token.
    pub fn needs_token(&self) -> bool {
        !matches!(self, Self::Public)
    }

    /// Lets `caller` in, or says which scope is missing. What needs a token refuses a request without a principal whatever came before.
    pub fn grant(&self, caller: Option<Arc<Principal>>) -> Result<Grant, Refusal> {
        match (self, &caller) {
            (Self::Public, _) => Ok(Grant { principal: None }),
            (_, None) => Err(Refusal::NoToken),
            (Self::Token, Some(_)) => Ok(Grant { principal: caller }),
            (Self::Scope(scope), Some(principal)) if principal.scopes().allows(scope) => {
                Ok(Grant { principal: caller })
            }
            (Self::Scope(scope), Some(_)) => Err(Refusal::MissingScope(scope.clone())),
        }
    }
}

/// Evidence that a caller may use a route; made by [`Access::grant`] alone.
#[derive(Clone, Debug)]
pub struct Grant {
    principal: Option<Arc<Principal>>,
}

impl Grant {
    /// Who was authorised; `None` on a public route.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.principal.as_ref()
    }
}
