//! What crosses the border: the request a backend is sent, and the answer a client is sent.
//!
//! Both are built anew from what is let through, in one pass over the fields; nothing is sent because it was forgotten. Identity is
//! written last, so a client's `Connection: X-User-Id` cannot take it away.

mod answer;
mod arrival;
mod names;
mod request;

pub use answer::{Told, answer, without_representation};
pub use arrival::{Arrival, Peer, REQUEST_ID};
pub use request::{RequestHead, request};

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method};

use crate::policy::fields::Fields;

/// Names WebSocket as the protocol to go on with.
pub fn upgrade(fields: &mut Fields) {
    fields.append(CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.append(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Whether a request may be sent again after a server may have seen it (RFC 9110 section 9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    [&Method::GET, &Method::HEAD, &Method::OPTIONS, &Method::PUT, &Method::DELETE].contains(&method)
}
