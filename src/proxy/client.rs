//! The client's side of a request: its body as it comes, its answer as it goes, every wait bounded.
//!
//! pingora bounds the reads of a body and nothing else, so a client that stops reading could hold a request, and its place among
//! those in flight, for ever.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http::header::EXPECT;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType};
use tokio::time::timeout;

use crate::proxy::watched::is_broken;

/// A client in the middle of a request.
pub(super) struct Client<'s> {
    session: &'s mut ServerSession,
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
    /// The client whose request head `session` holds. Each wait for it is bounded by `patience`.
    pub(super) fn new(session: &'s mut ServerSession, patience: Duration) -> Self {
        session.set_read_timeout(Some(patience));
        let head = session.req_header();
        // RFC 9110 section 10.1.1: an HTTP/1.0 client's expectation is ignored.
        let awaits_continue = head.headers.contains_key(EXPECT) && head.version != Version::HTTP_10;
        let body = if session.is_body_empty() { Body::Complete } else { Body::Coming };
        Self { session, patience, body, awaits_continue, most: u64::MAX, received: 0 }
    }

    /// The head of the request.
    pub(super) fn head(&self) -> &RequestHeader {
        self.session.req_header()
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
    pub(super) fn has_body(&mut self) -> bool {
        !self.session.is_body_empty()
    }

    /// Bytes of body let through.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Bytes of body sent.
    pub(super) fn sent(&self) -> usize {
        self.session.body_bytes_sent()
    }

    /// Takes no more of the body: whoever it was for does not want it.
    pub(super) fn abandon(&mut self) {
        self.body = Body::Abandoned;
    }

    /// The next part of the body. After the last one this only ends when the client goes away. May be dropped and called again.
    pub(super) async fn part(&mut self) -> Result<Part, ClientFailure> {
        if self.body == Body::Abandoned {
            return std::future::pending().await;
        }
        let read = self.session.read_body_or_idle(self.body == Body::Complete).await;
        let bytes = read.map_err(|error| self.failure(&error))?.unwrap_or_default();
        self.received += bytes.len() as u64;
        if self.received > self.most {
            return Err(ClientFailure::TooLarge);
        }
        let is_last = self.session.is_body_done();
        if is_last {
            self.body = Body::Complete;
        }
        Ok(Part { bytes, is_last })
    }

    fn failure(&self, error: &Error) -> ClientFailure {
        match error.etype() {
            _ if self.body == Body::Complete => ClientFailure::Gone,
            ErrorType::ReadTimedout => ClientFailure::Late,
            ErrorType::ReadError if is_broken(error) => ClientFailure::Malformed,
            ErrorType::ReadError | ErrorType::ConnectionClosed => ClientFailure::Gone,
            _ => ClientFailure::Malformed,
        }
    }

    /// Tells a client that waits for it to send its body.
    pub(super) async fn ask_for_body(&mut self) -> Result<(), ClientFailure> {
        match std::mem::take(&mut self.awaits_continue) && self.body == Body::Coming {
            true => within(self.patience, self.session.write_continue_response()).await,
            false => Ok(()),
        }
    }

    /// Sends the head of the answer.
    pub(super) async fn begin(&mut self, head: ResponseHeader) -> Result<(), ClientFailure> {
        within(self.patience, self.session.write_response_header(Box::new(head))).await
    }

    /// Sends a part of the answer's body, and its end with it when it is the last.
    pub(super) async fn send(&mut self, bytes: Bytes, is_last: bool) -> Result<(), ClientFailure> {
        within(self.patience, self.session.write_response_body(bytes, is_last)).await
    }

    /// Makes the answer this connection's last.
    pub(super) fn end_connection(&mut self) {
        self.session.set_keepalive(None);
    }

    /// Keeps the connection although the body was not read: the rest of it is read when the request is over.
    pub(super) fn keep_connection(&mut self) {
        self.session.set_close_on_response_before_downstream_finish(false);
    }
}

/// Waits for the client as long as there is patience. A write that takes longer goes to somebody who does not read.
async fn within<T>(patience: Duration, io: impl Future<Output = pingora::Result<T>>) -> Result<T, ClientFailure> {
    match timeout(patience, io).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) | Err(_) => Err(ClientFailure::Gone),
    }
}
