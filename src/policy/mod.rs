//! The rules as pure values and functions: no I/O, no clock, no async, nothing of pingora.
//!
//! Everything here can be tested with values alone; time is always an argument.

pub mod answer;
pub mod body;
pub mod chunks;
pub mod contract;
pub mod cors;
pub mod credential;
pub mod decode;
pub mod envelope;
pub mod fields;
pub mod head;
pub mod head_end;
pub mod head_http2;
mod hex;
mod json;
pub mod limit;
pub mod meter;
pub mod normalise;
pub mod overlap;
pub mod pagination;
pub mod path;
pub mod principal;
pub mod query;
pub mod refusal;
pub mod route;
pub mod scope;
pub mod signed;
pub mod time;
pub mod upstream;

use std::net::IpAddr;
use std::sync::Arc;

use crate::policy::contract::Watch;
use crate::policy::cors::Cors;
use crate::policy::limit::Limit;
use crate::policy::normalise::BackendErrors;
use crate::policy::route::RouteTable;
use crate::policy::upstream::Upstream;

/// What gateway.yaml means: everything a request is judged by, immutable once compiled.
#[derive(Debug)]
pub struct Policy {
    /// Where a request may go and what it needs for that.
    pub routes: RouteTable,
    /// Every limit a route may name, for listings.
    pub limits: Vec<Arc<Limit>>,
    /// Where a [`route::Route`] leads; a route holds the index.
    pub upstreams: Vec<Arc<Upstream>>,
    /// What happens to a backend's own error bodies.
    pub backend_errors: BackendErrors,
    /// How success bodies are watched; `None` when they are not.
    pub contract: Option<Watch>,
    /// Which pages may call from a browser; `None` when nothing is said about that.
    pub cors: Option<Cors>,
}

/// The address a request is attributed to: the connection's, or what a trusted proxy says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientIp(pub IpAddr);
