//! What carries a request: an HTTP/1 connection, or one HTTP/2 stream. The only place that tells the two apart.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use tokio::time::timeout;

use crate::policy::fields::Fields;
use crate::proxy::channel::Channel;
use crate::proxy::client::ClientFailure;
use crate::proxy::http1::Http1;
use crate::proxy::stream::Stream;
use crate::proxy::transport::Transport;
use crate::proxy::tunnel::Passed;

/// One request with its answer on it.
pub(super) enum Wire<'s> {
    /// A connection of which the head is read.
    Http1(&'s mut Http1),
    /// A stream.
    Http2(Box<Stream>),
}

impl Wire<'_> {
    pub(super) fn head(&self) -> &Parts {
        match self {
            Self::Http1(request) => request.head(),
            Self::Http2(stream) => stream.head(),
        }
    }

    pub(super) fn has_body(&self) -> bool {
        match self {
            Self::Http1(request) => request.has_body(),
            Self::Http2(stream) => stream.has_body(),
        }
    }

    pub(super) fn is_body_done(&self) -> bool {
        match self {
            Self::Http1(request) => request.is_body_done(),
            Self::Http2(stream) => stream.is_body_done(),
        }
    }

    /// Whether a part of the body, or its end, can be had without waiting.
    pub(super) fn is_body_there(&self) -> bool {
        match self {
            Self::Http1(request) => request.is_body_there(),
            Self::Http2(_) => false,
        }
    }

    /// Bytes of body sent.
    pub(super) fn sent(&self) -> usize {
        match self {
            Self::Http1(request) => request.sent(),
            Self::Http2(stream) => stream.sent(),
        }
    }

    /// The next part of the body, waited for with `patience`.
    pub(super) async fn read(&mut self, patience: Duration) -> Result<Option<Bytes>, ClientFailure> {
        match self {
            Self::Http1(request) => request.read(patience).await,
            Self::Http2(stream) => timeout(patience, stream.read()).await.unwrap_or(Err(ClientFailure::Late)),
        }
    }

    /// Ends when the client goes away, once its whole request is there.
    pub(super) async fn gone(&mut self) {
        match self {
            Self::Http1(request) => request.gone().await,
            Self::Http2(stream) => stream.gone().await,
        }
    }

    pub(super) async fn ask_for_body(&mut self) -> Result<(), ClientFailure> {
        match self {
            Self::Http1(request) => request.ask_for_body().await,
            Self::Http2(stream) => stream.ask_for_body(),
        }
    }

    /// Begins the answer. In HTTP/1 its head leaves with the first part of its body, or with the next flush.
    pub(super) fn begin(&mut self, status: StatusCode, fields: Fields) -> Result<(), ClientFailure> {
        match self {
            Self::Http1(request) => {
                request.begin(status, fields);
                Ok(())
            }
            Self::Http2(stream) => stream.begin(status, fields),
        }
    }

    /// Sends what waits to be sent.
    pub(super) async fn flush(&mut self) -> Result<(), ClientFailure> {
        match self {
            Self::Http1(request) => request.flush().await,
            Self::Http2(_) => Ok(()),
        }
    }

    pub(super) async fn send(&mut self, bytes: Bytes, is_last: bool) -> Result<(), ClientFailure> {
        match self {
            Self::Http1(request) => request.send(bytes, is_last).await,
            Self::Http2(stream) => stream.send(bytes, is_last).await,
        }
    }

    /// Changes to another protocol, which only a connection can.
    pub(super) async fn switch(
        &mut self,
        fields: &Fields,
        server: &mut Channel<Transport>,
        idle: Duration,
    ) -> Result<Passed, ClientFailure> {
        match self {
            Self::Http1(request) => request.switch(fields, server, idle).await,
            Self::Http2(_) => Err(ClientFailure::Gone),
        }
    }

    /// Makes the answer the last one of its connection; a stream is the last one of its own anyway.
    pub(super) fn end_connection(&mut self) {
        if let Self::Http1(request) = self {
            request.end_connection();
        }
    }

    /// Keeps the connection although the body was not read: the rest of it is read when the request is over.
    pub(super) fn keep_connection(&mut self) {
        if let Self::Http1(request) = self {
            request.keep_connection();
        }
    }

    /// Makes sure that nobody takes half an answer for a whole one. An HTTP/1 connection is closed by who reads from it.
    pub(super) fn cut(&mut self) {
        if let Self::Http2(stream) = self {
            stream.cut();
        }
    }
}
