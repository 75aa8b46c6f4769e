//! One HTTP/2 connection: its streams become requests like any other, and everything that a client may make it do is bounded.
//!
//! What the codec bounds by itself, with the numbers set here: streams at a time, the size of a header list and the number of its
//! CONTINUATION frames (CVE-2024-27316), streams that are reset before they are looked at (CVE-2023-44487), streams that we have to
//! reset (CVE-2025-8671), small DATA frames. What is bounded here: requests that were looked at and then cancelled, requests that go
//! on after their stream has ended, and idle time.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use pingora::server::ShutdownWatch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::config::settings::RequestBounds;
use crate::policy::head_http2;
use crate::proxy::client::Wire;
use crate::proxy::rewound::Rewound;
use crate::proxy::stream::Stream;
use crate::proxy::{Ending, Gateway, Origin};

/// Requests at the same time on one connection.
const STREAMS: usize = 100;
/// Bytes of body that a client may send ahead: of one request, and of all together, so that one which is not read holds up no other.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Streams that may be reset before they are looked at, and streams that the client may make us reset.
const MOST_RESETS: usize = 20;
const MOST_ERRORS: usize = 100;
/// How many requests a client may cancel beyond those that it let come to their end.
const MOST_CANCELLED: u32 = 100;
/// How long a connection without a request stays open once its end was announced.
const FAREWELL: Duration = Duration::from_secs(1);

/// What is needed for its requests.
pub(super) struct Multiplexed<'c> {
    pub gateway: &'c Arc<Gateway>,
    pub origin: &'c Origin,
    pub shutdown: &'c ShutdownWatch,
}

/// How many requests came to which end.
#[derive(Default)]
struct Balance {
    answered: u32,
    cancelled: u32,
}

impl Multiplexed<'_> {
    /// Serves a connection to its end.
    pub(super) async fn serve(&self, stream: Rewound) {
        let bounds = self.gateway.live.load().config.request.clone();
        let handshake = codec(&bounds).handshake(stream);
        let Ok(Ok(mut connection)) = timeout(bounds.header_timeout, handshake).await else { return };
        let mut requests = JoinSet::new();
        self.converse(&mut connection, &mut requests, &bounds).await;
        // Whoever is still being served learns by this that the client has gone, and comes to an end that is told.
        drop(connection);
        while requests.join_next().await.is_some() {}
    }

    async fn converse(
        &self,
        connection: &mut Connection<Rewound, Bytes>,
        requests: &mut JoinSet<Ending>,
        bounds: &RequestBounds,
    ) {
        let mut shutdown = self.shutdown.clone();
        let mut balance = Balance::default();
        let mut is_ending = false;
        while !balance.is_abuse() {
            let idle = if is_ending { FAREWELL } else { bounds.idle_timeout };
            let may_accept = requests.len() < STREAMS;
            tokio::select! {
                biased;
                // An error means that the sender is gone, which is a shutdown too.
                _ = shutdown.wait_for(|is_over| *is_over), if !is_ending => {
                    connection.graceful_shutdown();
                    is_ending = true;
                }
                Some(ended) = requests.join_next() => balance.note(ended.unwrap_or(Ending::Cut)),
                next = next(connection, may_accept) => match next {
                    Some((request, answer)) => self.begin(requests, request, answer, bounds),
                    None => return,
                },
                () = sleep(idle), if requests.is_empty() => {
                    if is_ending {
                        return;
                    }
                    connection.graceful_shutdown();
                    is_ending = true;
                }
            }
        }
        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        // A client that does not read it learns it from the closed connection.
        let _ = timeout(FAREWELL, poll_fn(|context| connection.poll_closed(context))).await;
    }

    fn begin(
        &self,
        requests: &mut JoinSet<Ending>,
        request: Request<RecvStream>,
        answer: SendResponse<Bytes>,
        bounds: &RequestBounds,
    ) {
        let (head, body) = request.into_parts();
        let verdict = head_http2::check(&head, bounds.header_bytes, bounds.headers);
        let stream = Stream::new(Request::from_parts(head, body), answer);
        let (gateway, origin) = (Arc::clone(self.gateway), self.origin.clone());
        requests.spawn(async move { gateway.serve(Wire::Http2(Box::new(stream)), &origin, verdict).await });
    }
}

/// The next request; `None` at the end of the connection. While it `may_accept` none, the others are served on.
async fn next(
    connection: &mut Connection<Rewound, Bytes>,
    may_accept: bool,
) -> Option<(Request<RecvStream>, SendResponse<Bytes>)> {
    if may_accept {
        return connection.accept().await?.ok();
    }
    let _ = poll_fn(|context| connection.poll_closed(context)).await;
    None
}

fn codec(bounds: &RequestBounds) -> Builder {
    // The codec counts 32 octets more for each field (RFC 9113 section 6.5.2) and refuses without a word; what is not much too large is
    // ours to refuse.
    let list = u32::try_from(2 * bounds.header_bytes + 64 * bounds.headers).unwrap_or(u32::MAX);
    let mut codec = Builder::new();
    codec
        .max_concurrent_streams(u32::try_from(STREAMS).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(list)
        .max_pending_accept_reset_streams(MOST_RESETS)
        .max_local_error_reset_streams(Some(MOST_ERRORS));
    codec
}

impl Balance {
    fn note(&mut self, ending: Ending) {
        match ending {
            Ending::ClientGone => self.cancelled += 1,
            Ending::Whole | Ending::Cut => self.answered += 1,
        }
    }

    /// A client that asks to cancel costs us its requests and itself nothing (CVE-2023-44487).
    fn is_abuse(&self) -> bool {
        self.cancelled > self.answered.saturating_add(MOST_CANCELLED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_cancels_much_more_than_he_waits_for_abuses_the_connection() {
        let mut balance = Balance::default();
        for _ in 0..MOST_CANCELLED {
            balance.note(Ending::ClientGone);
        }
        assert!(!balance.is_abuse());
        balance.note(Ending::Whole);
        balance.note(Ending::ClientGone);
        assert!(!balance.is_abuse());
        balance.note(Ending::ClientGone);
        assert!(balance.is_abuse());
    }
}
