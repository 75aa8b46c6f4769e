//! The client's side of a request: its body as it comes, its answer as it goes, every wait bounded.
//!
//! A client that stops sending, or reading, would else hold a request, and its place among those in flight, for ever.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::request::Parts;
use http::{StatusCode, Version};
use tokio::time::timeout;

use crate::policy::fields::Fields;
use crate::proxy::channel::Channel;
use crate::proxy::transport::Transport;
pub(super) use crate::proxy::wire::Wire;

/// A client in the middle of a request.
pub(super) struct Client<'s> {
    wire: Wire<'s>,
    patience: Duration,
    body: Body,
    awaits_continue: bool,
    most: u64,
    received: u64,
}

/// How far the request body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// More may come.
    Coming,
    /// All of it is read.
    Complete,
    /// More may come, and nobody takes it any more.
    Abandoned,
}

/// What a client did to its own request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientFailure {
    /// It went away, or reads so slowly that it might as well have.
    Gone,
    /// Its body grew too large.
    TooLarge,
    /// Its body stopped coming.
    Late,
    /// Its body is not framed as it should.
    Malformed,
}

/// A part of a request body.
#[derive(Debug)]
pub(super) struct Part {
    /// Possibly nothing: framing without content.
    pub bytes: Bytes,
    /// Whether it is the last.
    pub is_last: bool,
}

impl<'s> Client<'s> {
    /// The client whose request head `wire` holds. Each wait for it is bounded by `patience`.
    pub(super) fn new(wire: Wire<'s>, patience: Duration) -> Self {
        let head = wire.head();
        // RFC 9110 section 10.1.1: an HTTP/1.0 client's expectation is ignored.
        let awaits_continue = head.headers.contains_key(EXPECT) && head.version != Version::HTTP_10;
        let body = if wire.has_body() { Body::Coming } else { Body::Complete };
        Self { wire, patience, body, awaits_continue, most: u64::MAX, received: 0 }
    }

    /// The head of the request.
    pub(super) fn head(&self) -> &Parts {
        self.wire.head()
    }

    /// Lets at most `bytes` of body through from now on.
    pub(super) fn limit_body(&mut self, bytes: u64) {
        self.most = bytes;
    }

    /// Whether the whole body is read; true from the beginning for a request without one.
    pub(super) fn is_complete(&self) -> bool {
        self.body == Body::Complete
    }

    /// Whether there was a body at all.
    pub(super) fn has_body(&self) -> bool {
        self.wire.has_body()
    }

    /// Whether the next part of the body can be had without waiting.
    pub(super) fn is_part_there(&self) -> bool {
        self.body == Body::Coming && self.wire.is_body_there()
    }

    /// Bytes of body let through.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Bytes of body sent.
    pub(super) fn sent(&self) -> usize {
        self.wire.sent()
    }

    /// Takes no more of the body: whoever it was for does not want it.
    pub(super) fn abandon(&mut self) {
        self.body = Body::Abandoned;
    }

    /// The next part of the body. After the last one this only ends when the client goes away. May be dropped and called again.
    pub(super) async fn part(&mut self) -> Result<Part, ClientFailure> {
        match self.body {
            Body::Coming => {}
            Body::Complete => {
                self.wire.gone().await;
                return Err(ClientFailure::Gone);
            }
            Body::Abandoned => return std::future::pending().await,
        }
        let bytes = self.wire.read(self.patience).await?.unwrap_or_default();
        self.received += bytes.len() as u64;
        if self.received > self.most {
            return Err(ClientFailure::TooLarge);
        }
        let is_last = self.wire.is_body_done();
        if is_last {
            self.body = Body::Complete;
        }
        Ok(Part { bytes, is_last })
    }

    /// Whether the client waits to be told before it sends its body.
    pub(super) fn asks_for_body(&self) -> bool {
        self.awaits_continue && self.body == Body::Coming
    }

    /// Tells a client that waits for it to send its body.
    pub(super) async fn ask_for_body(&mut self) -> Result<(), ClientFailure> {
        let awaits = self.asks_for_body();
        self.awaits_continue = false;
        match awaits {
            true => within(self.patience, self.wire.ask_for_body()).await,
            false => Ok(()),
        }
    }

    /// Begins the answer. Its head may leave with the first part of its body, or with the next flush.
    pub(super) fn begin(&mut self, status: StatusCode, fields: Fields) -> Result<(), ClientFailure> {
        self.wire.begin(status, fields)
    }

    /// Sends what waits to be sent.
    pub(super) async fn flush(&mut self) -> Result<(), ClientFailure> {
        within(self.patience, self.wire.flush()).await
    }

    /// Sends a part of the answer's body, and its end with it when it is the last.
    pub(super) async fn send(&mut self, bytes: Bytes, is_last: bool) -> Result<(), ClientFailure> {
        within(self.patience, self.wire.send(bytes, is_last)).await
    }

    /// Changes to another protocol: answers with 101 and these `fields`, and passes octets to a server and back until one of them has
    /// enough, or none comes for `idle`. Returns how many the client was sent.
    pub(super) async fn switch(
        &mut self,
        fields: &Fields,
        server: &mut Channel<Transport>,
        idle: Duration,
    ) -> Result<u64, ClientFailure> {
        let passed = self.wire.switch(fields, server, idle).await?;
        self.received += passed.up;
        Ok(passed.down)
    }

    /// Makes the answer this connection's last.
    pub(super) fn end_connection(&mut self) {
        self.wire.end_connection();
    }

    /// Makes sure that nobody takes what was sent so far for a whole answer.
    pub(super) fn cut(&mut self) {
        self.wire.cut();
    }

    /// Keeps the connection although the body was not read: the rest of it is read when the request is over.
    pub(super) fn keep_connection(&mut self) {
        self.wire.keep_connection();
    }
}

/// Waits for the client as long as there is patience. A write that takes longer goes to somebody who does not read.
async fn within<T>(patience: Duration, io: impl Future<Output = Result<T, ClientFailure>>) -> Result<T, ClientFailure> {
    timeout(patience, io).await.unwrap_or(Err(ClientFailure::Gone))
}
