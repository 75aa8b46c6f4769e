//! pingora's side: from an accepted connection to a recorded outcome. The only folder that names pingora.
//!
//! [`edge`] reads the head of a request, [`request`] is the life of one request, [`exchange`] is its way to one server and back.
//! pingora-core's sessions, connectors and listeners do the HTTP; its `ProxyHttp` loop is not used, because it answers and logs by
//! itself where this gateway has promised an envelope, and cannot bound the time to the head of an answer.

mod client;
mod edge;
mod exchange;
mod headers;
mod pool;
pub mod reload;
mod request;
mod respond;
mod seats;
pub mod server;
pub mod snapshot;
mod watched;

use std::net::IpAddr;
use std::sync::Arc;

use pingora::connectors::http::Connector;
use pingora::protocols::http::ServerSession;
use tokio::sync::watch;

use crate::proxy::request::Request;
use crate::proxy::seats::Seats;
use crate::proxy::snapshot::Live;
use crate::telemetry::Telemetry;

/// Serves requests by whatever configuration is in force when they arrive.
pub(crate) struct Gateway {
    live: Arc<Live>,
    connector: Arc<Connector>,
    telemetry: Arc<Telemetry>,
    in_flight: Arc<Seats>,
    /// True from the signal to end on.
    draining: watch::Receiver<bool>,
}

/// Where a request came in, and from whom.
struct Origin<'a> {
    /// The other end of the connection.
    peer: IpAddr,
    /// Whether it is encrypted.
    is_tls: bool,
    /// The gauge of its listener.
    in_flight: &'a prometheus::IntGauge,
}

impl Gateway {
    /// Serves the request whose head `session` holds. Returns whether the connection may be used for another one.
    async fn serve(&self, session: &mut ServerSession, origin: &Origin<'_>) -> bool {
        let snapshot = self.live.load();
        let most = snapshot.config.request.in_flight;
        let seat = self.in_flight.take(most, origin.in_flight);
        Request::new(self, session, snapshot, origin).serve(seat.as_ref()).await
    }
}
