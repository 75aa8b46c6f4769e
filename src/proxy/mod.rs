//! pingora's side: from an accepted connection to a recorded outcome. The only folder that names pingora.
//!
//! [`edge`] reads the head of a request, [`http2`] takes a connection apart into its streams, [`request`] is the life of one request,
//! [`exchange`] is its way to one server and back. Listeners, TLS on them and the sockets behind are pingora-core's. HTTP/1 is read and
//! written here ([`http1`], [`backend`]), strictly and in few system calls: pingora's own sessions answer and log by themselves where
//! this gateway has promised an envelope.

mod backend;
mod channel;
mod client;
mod edge;
mod exchange;
pub mod hand_over;
pub mod headers;
pub mod history;
mod http1;
mod http2;
mod multiplex;
pub mod pool;
mod proxy_protocol;
pub mod reload;
mod request;
mod respond;
mod rewound;
mod seats;
pub mod server;
pub mod snapshot;
mod stream;
mod tap;
mod tls;
mod transport;
mod tunnel;
mod wire;

use std::sync::Arc;

use tokio::sync::watch;

use crate::policy::refusal::Refusal;
use crate::proxy::client::Wire;
use crate::proxy::headers::Peer;
use crate::proxy::request::Request;
use crate::proxy::seats::Seats;
use crate::proxy::snapshot::Live;
use crate::telemetry::Telemetry;

/// Serves requests by whatever configuration is in force when they arrive.
pub(crate) struct Gateway {
    live: Arc<Live>,
    telemetry: Arc<Telemetry>,
    in_flight: Arc<Seats>,
    /// True from the signal to end on.
    draining: watch::Receiver<bool>,
}

/// Where a request came in, and from whom.
#[derive(Clone)]
struct Origin {
    /// The other end of the connection.
    peer: Peer,
    /// Whether it is encrypted.
    is_tls: bool,
    /// The gauge of its listener.
    in_flight: prometheus::IntGauge,
}

/// How a request ended for its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// With a whole answer.
    Whole,
    /// With half an answer, because its backend broke off.
    Cut,
    /// Without anybody to answer.
    ClientGone,
}

impl Gateway {
    /// Serves the request whose head `wire` holds; `verdict` is what the edge made of that.
    async fn serve(&self, wire: Wire<'_>, origin: &Origin, verdict: Result<(), Refusal>) -> Ending {
        let snapshot = self.live.load();
        let most = snapshot.config.request.in_flight;
        let seat = self.in_flight.take(most, &origin.in_flight);
        Request::new(self, wire, snapshot, origin).serve(verdict, seat.as_ref()).await
    }
}
