//! HTTP/1 with a server: one request after the other on a connection, each with its answer.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};

use crate::policy::answer::{self, AnswerHead};
use crate::policy::body::{Incoming, Outgoing};
use crate::policy::fields::Fields;
use crate::proxy::channel::Channel;
use crate::proxy::exchange::{CLOSED, Failure};
use crate::proxy::headers::RequestHead;
use crate::proxy::transport::{Endpoint, Transport};

/// A connection, in the middle of a request or between two.
#[derive(Debug)]
pub(super) struct Backend {
    channel: Channel<Transport>,
    /// Where it leads.
    endpoint: Arc<Endpoint>,
    method: Method,
    request: Outgoing,
    answer: Incoming,
    is_request_over: bool,
    is_kept: bool,
    /// How long the server keeps the connection without a request, where it says so.
    kept_for: Option<Duration>,
    /// Whether it had a request before this one.
    is_reused: bool,
}

impl Backend {
    /// A fresh connection to an endpoint.
    pub(super) fn new(transport: Transport, endpoint: Arc<Endpoint>) -> Self {
        Self {
            channel: Channel::new(transport),
            endpoint,
            method: Method::GET,
            request: Outgoing::None,
            answer: Incoming::sized(0),
            is_request_over: true,
            is_kept: true,
            kept_for: None,
            is_reused: false,
        }
    }

    /// Where it leads.
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Begins a request. Its head leaves with the first part of its body, or with the next flush.
    pub(super) fn begin(&mut self, head: RequestHead) {
        self.request = framing(&head.fields);
        self.is_request_over = self.request == Outgoing::None;
        // Until its head is read, an answer has neither an end nor a place for the next.
        self.answer = Incoming::UntilClose;
        self.is_kept = false;
        self.channel.put(head.method.as_str().as_bytes());
        self.channel.put(b" ");
        self.channel.put(head.target.path_and_query().map_or("/", |target| target.as_str()).as_bytes());
        self.channel.put(b" HTTP/1.1\r\n");
        self.channel.put_fields(&head.fields);
        self.method = head.method;
    }

    /// Sends what waits.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        match self.channel.is_pending() {
            true => self.channel.flush().await,
            false => Ok(()),
        }
    }

    /// Sends a part of the request's body, and its end with it when it is the last.
    pub(super) async fn send(&mut self, bytes: Bytes, is_last: bool) -> io::Result<()> {
        self.channel.send(&mut self.request, bytes, is_last).await?;
        self.is_request_over |= is_last;
        Ok(())
    }

    /// Reads the next head, be it an interim one. May be dropped and called again.
    pub(super) async fn head(&mut self) -> Result<AnswerHead, Failure> {
        let mut seen = 0;
        let end = loop {
            let found = answer::end(&self.channel.read, &mut seen);
            if let Some(end) = found.map_err(|unusable| Failure::Broken(unusable.reason()))? {
                break end;
            }
            if self.channel.read.len() > answer::MOST_BYTES {
                return Err(Failure::Broken("upstream_head_too_large"));
            }
            match self.channel.fill().await {
                Ok(1..) => {}
                Ok(_) | Err(_) if self.is_reused && self.channel.read.is_empty() => return Err(Failure::Stale),
                Ok(_) | Err(_) => return Err(Failure::Broken(CLOSED)),
            }
        };
        let head = answer::read(&self.channel.read.split_to(end).freeze());
        let head = head.map_err(|unusable| Failure::Broken(unusable.reason()))?;
        // A byte of an answer has come: from now on, nothing is stale.
        self.is_reused = false;
        self.answer = head.body(&self.method);
        self.is_kept = head.is_kept;
        self.kept_for = head.kept_for();
        Ok(head)
    }

    /// Whether a part of the answer's body, or its end, can be had without waiting.
    pub(super) fn is_part_there(&self) -> bool {
        !self.channel.read.is_empty() || self.answer.is_over()
    }

    /// Whether all of the answer has come.
    pub(super) fn is_over(&self) -> bool {
        self.answer.is_over()
    }

    /// The next part of the answer's body; `None` after its end. May be dropped and called again.
    pub(super) async fn part(&mut self) -> Result<Option<Bytes>, Failure> {
        while !self.answer.is_over() {
            let taken = self.answer.take(&mut self.channel.read);
            let bytes = taken.map_err(|_| Failure::Broken("upstream_framing"))?;
            if !bytes.is_empty() || self.answer.is_over() {
                return Ok(Some(bytes));
            }
            match self.channel.fill().await {
                Ok(1..) => {}
                Ok(_) if self.answer == Incoming::UntilClose => return Ok(None),
                Ok(_) | Err(_) => return Err(Failure::Broken(CLOSED)),
            }
        }
        Ok(None)
    }

    /// Whether it had a request before this one, and nothing of this one's answer has come.
    pub(super) fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// For how long the connection can be kept for another request, of `most`; `None` when it cannot.
    pub(super) fn kept_for(&self, most: Duration) -> Option<Duration> {
        let is_free = self.is_kept && self.is_request_over && self.answer.is_over();
        (is_free && self.channel.read.is_empty()).then(|| self.kept_for.map_or(most, |said| said.min(most)))
    }

    /// Makes a connection that was kept ready for a request; `None` when it has ended meanwhile, or says what nobody asked for.
    pub(super) fn reused(mut self) -> Option<Self> {
        self.is_reused = true;
        self.channel.stream().is_quiet().then_some(self)
    }

    /// The connection itself, for another protocol.
    pub(super) fn channel(&mut self) -> &mut Channel<Transport> {
        &mut self.channel
    }
}

/// How the body of a request is framed that has these fields.
fn framing(fields: &Fields) -> Outgoing {
    let length = || fields.get(&CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
    match fields.get(&TRANSFER_ENCODING).is_some() {
        true => Outgoing::Chunked,
        false => length().filter(|length| *length > 0).map_or(Outgoing::None, Outgoing::Sized),
    }
}
