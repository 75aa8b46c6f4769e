//! What carries a request: an HTTP/1 session of pingora's, or one HTTP/2 stream. The only place that tells the two apart.

use std::time::Duration;

use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType};
use tokio::time::timeout;

use crate::proxy::client::ClientFailure;
use crate::proxy::stream::Stream;
use crate::proxy::watched::is_broken;

/// One request with its answer on it.
pub(super) enum Wire<'s> {
    /// A session whose head is read.
    Http1(&'s mut ServerSession),
    /// A stream.
    Http2(Box<Stream>),
}

impl Wire<'_> {
    pub(super) fn head(&self) -> &RequestHeader {
        match self {
            Self::Http1(session) => session.req_header(),
            Self::Http2(stream) => stream.head(),
        }
    }

    pub(super) fn has_body(&mut self) -> bool {
        match self {
            Self::Http1(session) => !session.is_body_empty(),
            Self::Http2(stream) => stream.has_body(),
        }
    }

    pub(super) fn is_body_done(&mut self) -> bool {
        match self {
            Self::Http1(session) => session.is_body_done(),
            Self::Http2(stream) => stream.is_body_done(),
        }
    }

    /// Bytes of body sent.
    pub(super) fn sent(&self) -> usize {
        match self {
            Self::Http1(session) => session.body_bytes_sent(),
            Self::Http2(stream) => stream.sent(),
        }
    }

    /// The next part of the body, waited for with `patience`.
    pub(super) async fn read(&mut self, patience: Duration) -> Result<Option<Bytes>, ClientFailure> {
        match self {
            Self::Http1(session) => {
                session.set_read_timeout(Some(patience));
                session.read_body_or_idle(false).await.map_err(|error| failure(&error))
            }
            Self::Http2(stream) => timeout(patience, stream.read()).await.unwrap_or(Err(ClientFailure::Late)),
        }
    }

    /// Ends when the client goes away, once its whole request is there.
    pub(super) async fn gone(&mut self) {
        match self {
            Self::Http1(session) => drop(session.read_body_or_idle(true).await),
            Self::Http2(stream) => stream.gone().await,
        }
    }

    pub(super) async fn ask_for_body(&mut self) -> Result<(), ClientFailure> {
        match self {
            Self::Http1(session) => session.write_continue_response().await.map_err(|_| ClientFailure::Gone),
            Self::Http2(stream) => stream.ask_for_body(),
        }
    }

    pub(super) async fn begin(&mut self, head: ResponseHeader) -> Result<(), ClientFailure> {
        match self {
            Self::Http1(session) => {
                session.write_response_header(Box::new(head)).await.map_err(|_| ClientFailure::Gone)
            }
            Self::Http2(stream) => stream.begin(&head),
        }
    }

    pub(super) async fn send(&mut self, bytes: Bytes, is_last: bool) -> Result<(), ClientFailure> {
        match self {
            Self::Http1(session) => session.write_response_body(bytes, is_last).await.map_err(|_| ClientFailure::Gone),
            Self::Http2(stream) => stream.send(bytes, is_last).await,
        }
    }

    /// Makes the answer the last one of its connection; a stream is the last one of its own anyway.
    pub(super) fn end_connection(&mut self) {
        if let Self::Http1(session) = self {
            session.set_keepalive(None);
        }
    }

    /// Keeps the connection although the body was not read: the rest of it is read when the request is over.
    pub(super) fn keep_connection(&mut self) {
        if let Self::Http1(session) = self {
            session.set_close_on_response_before_downstream_finish(false);
        }
    }

    /// Makes sure that nobody takes half an answer for a whole one. An HTTP/1 connection is closed by who reads from it.
    pub(super) fn cut(&mut self) {
        if let Self::Http2(stream) = self {
            stream.cut();
        }
    }
}

fn failure(error: &Error) -> ClientFailure {
    match error.etype() {
        ErrorType::ReadTimedout => ClientFailure::Late,
        ErrorType::ReadError if is_broken(error) => ClientFailure::Malformed,
        ErrorType::ReadError | ErrorType::ConnectionClosed => ClientFailure::Gone,
        _ => ClientFailure::Malformed,
    }
}
