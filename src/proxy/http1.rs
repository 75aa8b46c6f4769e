//! One HTTP/1 request on a client's connection: its body as it comes, its answer as it goes.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, Version};
use pingora::protocols::Stream;
use pingora::protocols::http::date::get_cached_date;
use tokio::time::timeout;

use crate::policy::answer::{has_connection_option, says_close};
use crate::policy::body::{Incoming, Outgoing};
use crate::policy::fields::Fields;
use crate::policy::head::Head;
use crate::proxy::channel::Channel;
use crate::proxy::client::ClientFailure;
use crate::proxy::transport::Transport;
use crate::proxy::tunnel::{self, Passed};

/// How much of the next requests is read while one is being answered.
const MOST_AHEAD: usize = 64 << 10;

const CLOSE: HeaderValue = HeaderValue::from_static("close");
const KEEP_ALIVE: HeaderValue = HeaderValue::from_static("keep-alive");

/// A request and its answer.
pub(super) struct Http1 {
    channel: Channel<Stream>,
    head: Parts,
    body: Incoming,
    has_body: bool,
    answer: Option<Outgoing>,
    /// Whether another request may follow.
    is_kept: bool,
    /// Whether the rest of a body that nobody wanted is read, so that another request may follow.
    is_rest_read: bool,
    sent: usize,
}

impl Http1 {
    /// The request whose head was read from `channel`.
    pub(super) fn new(channel: Channel<Stream>, head: Head) -> Self {
        let Head { parts: head, body, .. } = head;
        let is_kept = match head.version {
            Version::HTTP_10 => has_connection_option(&head.headers, "keep-alive"),
            _ => !says_close(&head.headers),
        };
        let has_body = !body.is_over();
        Self { channel, head, body, has_body, answer: None, is_kept, is_rest_read: false, sent: 0 }
    }

    pub(super) fn head(&self) -> &Parts {
        &self.head
    }

    /// Whether a body came, or comes, with it.
    pub(super) fn has_body(&self) -> bool {
        self.has_body
    }

    /// Whether all of that is read.
    pub(super) fn is_body_done(&self) -> bool {
        self.body.is_over()
    }

    /// Whether a part of the body can be had without waiting.
    pub(super) fn is_body_there(&self) -> bool {
        !self.channel.read.is_empty()
    }

    /// Bytes of body sent.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// The next part of the body, waited for with `patience`; `None` after its end. May be dropped and called again.
    pub(super) async fn read(&mut self, patience: Duration) -> Result<Option<Bytes>, ClientFailure> {
        while !self.body.is_over() {
            let bytes = self.body.take(&mut self.channel.read).map_err(|_| ClientFailure::Malformed)?;
            if !bytes.is_empty() || self.body.is_over() {
                return Ok(Some(bytes));
            }
            match timeout(patience, self.channel.fill()).await {
                Ok(Ok(1..)) => {}
                Ok(_) => return Err(ClientFailure::Gone),
                Err(_) => return Err(ClientFailure::Late),
            }
        }
        Ok(None)
    }

    /// Ends when the client goes away. What it sends of further requests is kept for later.
    pub(super) async fn gone(&mut self) {
        while self.channel.read.len() < MOST_AHEAD {
            if !matches!(self.channel.fill().await, Ok(1..)) {
                return;
            }
        }
        std::future::pending().await
    }

    /// Asks for the body: `100 Continue`.
    pub(super) async fn ask_for_body(&mut self) -> Result<(), ClientFailure> {
        self.channel.put(b"HTTP/1.1 100 Continue\r\n\r\n");
        self.flush().await
    }

    /// Begins the answer. Its head leaves with the first part of its body, or with the next flush.
    pub(super) fn begin(&mut self, status: StatusCode, mut fields: Fields) {
        let answer = framing(&self.head.method, status, &fields);
        let is_request_over = self.body.is_over() || self.is_rest_read;
        self.is_kept &= is_request_over && answer != Outgoing::UntilClose;
        match (self.is_kept, self.head.version) {
            (false, _) => fields.append(CONNECTION, CLOSE),
            (true, Version::HTTP_10) => fields.append(CONNECTION, KEEP_ALIVE),
            (true, _) => {}
        }
        if fields.get(&DATE).is_none() {
            fields.append(DATE, get_cached_date());
        }
        self.put_head(status, &fields);
        self.answer = Some(answer);
    }

    fn put_head(&mut self, status: StatusCode, fields: &Fields) {
        self.channel.put(b"HTTP/1.1 ");
        self.channel.put(status.as_str().as_bytes());
        self.channel.put(b" ");
        self.channel.put(status.canonical_reason().unwrap_or("Unknown").as_bytes());
        self.channel.put(b"\r\n");
        self.channel.put_fields(fields);
    }

    /// Sends what waits.
    pub(super) async fn flush(&mut self) -> Result<(), ClientFailure> {
        match self.channel.is_pending() {
            true => self.channel.flush().await.map_err(|_| ClientFailure::Gone),
            false => Ok(()),
        }
    }

    /// Sends a part of the answer's body, and its end with it when it is the last.
    pub(super) async fn send(&mut self, bytes: Bytes, is_last: bool) -> Result<(), ClientFailure> {
        let Some(answer) = &mut self.answer else { return Err(ClientFailure::Gone) };
        if *answer == Outgoing::None {
            return self.flush().await;
        }
        self.sent += bytes.len();
        self.channel.send(answer, bytes, is_last).await.map_err(|_| ClientFailure::Gone)
    }

    /// Changes to another protocol: answers with 101, and passes octets to a server and back from then on.
    pub(super) async fn switch(
        &mut self,
        fields: &Fields,
        server: &mut Channel<Transport>,
        idle: Duration,
    ) -> Result<Passed, ClientFailure> {
        self.is_kept = false;
        self.put_head(StatusCode::SWITCHING_PROTOCOLS, fields);
        self.flush().await?;
        Ok(tunnel::pass(&mut self.channel, server, idle).await)
    }

    /// Makes the answer the last one of its connection.
    pub(super) fn end_connection(&mut self) {
        self.is_kept = false;
    }

    /// Keeps the connection although the body was not read: the rest of it is read when the request is over.
    pub(super) fn keep_connection(&mut self) {
        self.is_rest_read = true;
    }

    /// Ends the request, for which the rest of its body is read `within` some time. Gives the connection back, and whether another
    /// request may follow on it.
    pub(super) async fn end(mut self, within: Duration) -> (Channel<Stream>, bool) {
        let rest = async {
            while self.is_rest_read && matches!(self.read(within).await, Ok(Some(_))) {}
            self.body.is_over()
        };
        let is_over = timeout(within, rest).await.unwrap_or(false);
        (self.channel, self.is_kept && is_over)
    }
}

/// How the body of an answer is framed that has this head.
fn framing(method: &Method, status: StatusCode, fields: &Fields) -> Outgoing {
    if *method == Method::HEAD || matches!(status.as_u16(), 204 | 304) {
        return Outgoing::None;
    }
    let length = || fields.get(&CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    match fields.get(&TRANSFER_ENCODING).is_some() {
        true => Outgoing::Chunked,
        false => length().map_or(Outgoing::UntilClose, Outgoing::Sized),
    }
}
