//! One request to one server: its body up, the answer down, both as they come.
//!
//! Knows how far it got, because that decides whether another server may be asked: nothing sent, or something.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tokio::time::{Instant, sleep_until, timeout};

use crate::policy::answer::AnswerHead;
use crate::policy::refusal::Refusal;
use crate::policy::upstream::Timeouts;
use crate::proxy::backend::Backend;
use crate::proxy::channel::Channel;
use crate::proxy::client::{Client, ClientFailure, Part};
use crate::proxy::headers::RequestHead;
use crate::proxy::multiplex::Remote;
use crate::proxy::pool::Server;
use crate::proxy::tap::Tap;
use crate::proxy::transport::Transport;

/// Interim answers (1xx) that are put up with before the real one.
const MOST_INTERIM: usize = 16;
/// How long an answer is waited for once the server takes no more of the body: it may have refused it.
const AFTER_ABANDONED_BODY: Duration = Duration::from_secs(1);
/// The reason of a connection that ended early.
pub(super) const CLOSED: &str = "upstream_closed";

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection: nothing was sent.
    Connect(ConnectFailure),
    /// A connection from an earlier request was closed without a byte of an answer: most likely before this one came.
    Stale,
    /// The server says that it has not looked at the request (RFC 9113 section 8.7).
    Unprocessed,
    /// The connection broke, or what came is no HTTP. The request may have been carried out.
    Broken(&'static str),
    /// No answer in time.
    Late,
    /// The client's doing.
    Client(ClientFailure),
    /// It could not be sent.
    Refused(Refusal),
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectFailure {
    /// Refused, unreachable, or without an address.
    Refused,
    /// Not within the upstream's connect timeout.
    Late,
    /// The server could not prove who it is, or does not believe us.
    Untrusted,
}

impl From<ClientFailure> for Failure {
    fn from(failure: ClientFailure) -> Self {
        Self::Client(failure)
    }
}

impl From<ConnectFailure> for Failure {
    fn from(failure: ConnectFailure) -> Self {
        Self::Connect(failure)
    }
}

/// What carries a request to a server and its answer back.
#[derive(Debug)]
pub(super) enum Conversation {
    /// A connection.
    Http1(Box<Backend>),
    /// One stream of a connection.
    Http2(Box<Remote>),
}

/// A server's answer: its head is read, its body is not.
#[derive(Debug)]
pub(super) struct Answer {
    conversation: Conversation,
    /// The head.
    pub head: AnswerHead,
    patience: Duration,
}

/// Whether a request asks for another protocol on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upgrade {
    /// It does not, or may not.
    None,
    /// For WebSocket (RFC 6455).
    WebSocket,
}

/// How far the request body has come.
enum Uploading {
    Going,
    Complete,
}

/// Sends a request and reads the head of its answer. `build` makes the request once there is a connection.
pub(super) async fn send(
    client: &mut Client<'_>,
    server: &Server,
    timeouts: Timeouts,
    upgrade: Upgrade,
    build: impl FnOnce(&Client<'_>) -> Result<RequestHead, Refusal>,
) -> Result<Answer, Failure> {
    let mut conversation = server.open(timeouts.connect).await?;
    let request = build(client).map_err(Failure::Refused)?;
    let is_complete = client.is_complete();
    conversation.begin(request, is_complete)?;
    let mut exchange = Exchange { client, conversation, patience: timeouts.response, upgrade };
    let head = exchange.head().await;
    if let (Conversation::Http2(remote), Err(Failure::Late | Failure::Broken(_))) = (&exchange.conversation, &head) {
        // It may be dead without a word, and so would be everything sent there.
        remote.distrust();
    }
    Ok(Answer { head: head?, conversation: exchange.conversation, patience: timeouts.response })
}

/// A request under way.
struct Exchange<'e, 's> {
    client: &'e mut Client<'s>,
    conversation: Conversation,
    patience: Duration,
    upgrade: Upgrade,
}

impl Exchange<'_, '_> {
    async fn head(&mut self) -> Result<AnswerHead, Failure> {
        // A small body that has come with its head leaves with it, too.
        if !self.client.is_part_there() {
            self.flush().await?;
        }
        if self.client.asks_for_body() {
            self.flush().await?;
            self.client.ask_for_body().await?;
        }
        let mut interim = 0;
        // The server's time begins when it has the whole request.
        let mut late_at = self.client.is_complete().then(|| Instant::now() + self.patience);
        loop {
            tokio::select! {
                biased;
                read = self.conversation.head() => {
                    let head = read?;
                    match head.status {
                        StatusCode::SWITCHING_PROTOCOLS => {
                            let is_asked = self.upgrade == Upgrade::WebSocket && head.is_websocket();
                            return if is_asked { Ok(head) } else { Err(Failure::Broken("upstream_switched")) };
                        }
                        status if !status.is_informational() => return Ok(head),
                        _ if interim < MOST_INTERIM => interim += 1,
                        _ => return Err(Failure::Broken("upstream_status")),
                    }
                }
                part = self.client.part() => {
                    late_at = match self.pass_up(part?).await {
                        Ok(Uploading::Complete) => Some(Instant::now() + self.patience),
                        Ok(Uploading::Going) => None,
                        Err(_) => {
                            self.client.abandon();
                            Some(Instant::now() + AFTER_ABANDONED_BODY)
                        }
                    };
                }
                () = sleep_until(late_at.unwrap_or_else(Instant::now)), if late_at.is_some() => return Err(Failure::Late),
            }
        }
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let flushed = within(self.patience, self.conversation.flush()).await;
        flushed.map_err(|_| self.conversation.broken())
    }

    async fn pass_up(&mut self, part: Part) -> io::Result<Uploading> {
        pass_up(&mut self.conversation, self.patience, part).await
    }
}

/// Passes one part of the request body up, and its end after the last.
async fn pass_up(conversation: &mut Conversation, patience: Duration, part: Part) -> io::Result<Uploading> {
    within(patience, conversation.send(part.bytes, part.is_last)).await?;
    Ok(if part.is_last { Uploading::Complete } else { Uploading::Going })
}

/// Waits for the server to take what it is sent.
async fn within<T>(patience: Duration, sending: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(patience, sending).await.unwrap_or_else(|late| Err(late.into()))
}

impl Answer {
    /// Streams the body to the client, flushed as it comes, past `tap`. `between_reads` bounds each wait for the server.
    ///
    /// The head has gone out, so a failure can only cut the answer short: the caller has to close the connection then.
    pub(super) async fn relay(
        &mut self,
        client: &mut Client<'_>,
        between_reads: Option<Duration>,
        tap: &mut Tap,
    ) -> Result<(), Failure> {
        let mut is_ended = false;
        while !is_ended && !self.conversation.is_over() {
            if !self.conversation.is_part_there() {
                client.flush().await?;
            }
            tokio::select! {
                biased;
                read = part(&mut self.conversation, between_reads) => match read? {
                    Some(bytes) => {
                        tap.see(&bytes);
                        is_ended = self.conversation.is_over();
                        client.send(bytes, is_ended).await?;
                    }
                    None => break,
                },
                part = client.part() => {
                    if pass_up(&mut self.conversation, self.patience, part?).await.is_err() {
                        client.abandon();
                    }
                }
            }
        }
        match is_ended {
            true => Ok(()),
            false => Ok(client.send(Bytes::new(), true).await?),
        }
    }

    /// Reads a body of at most `most` bytes within `limit`; `None` when it is larger, slower, or does not come to its end.
    pub(super) async fn collect(&mut self, most: usize, limit: Duration) -> Option<Vec<u8>> {
        let collecting = async {
            let mut body = Vec::new();
            while let Some(bytes) = self.conversation.part().await.ok()? {
                if body.len() + bytes.len() > most {
                    return None;
                }
                body.extend_from_slice(&bytes);
            }
            Some(body)
        };
        timeout(limit, collecting).await.ok().flatten()
    }

    /// The connection, once server and client have agreed on another protocol for it.
    pub(super) fn switched(&mut self) -> Option<&mut Channel<Transport>> {
        match &mut self.conversation {
            Conversation::Http1(backend) => Some(backend.channel()),
            Conversation::Http2(_) => None,
        }
    }

    /// Gives the connection back if the next request can use it, which is when both bodies came to their end; else closes it.
    pub(super) fn release(self, server: &Server) {
        if let Conversation::Http1(backend) = self.conversation {
            server.keep(*backend);
        }
    }
}

/// The next part of the body.
async fn part(conversation: &mut Conversation, within: Option<Duration>) -> Result<Option<Bytes>, Failure> {
    match within {
        Some(within) => timeout(within, conversation.part()).await.unwrap_or(Err(Failure::Late)),
        None => conversation.part().await,
    }
}

impl Conversation {
    /// Begins a request; `is_complete` when it has no body.
    pub(super) fn begin(&mut self, request: RequestHead, is_complete: bool) -> Result<(), Failure> {
        match self {
            Self::Http1(backend) => {
                backend.begin(request);
                Ok(())
            }
            Self::Http2(remote) => remote.begin(request, is_complete),
        }
    }

    pub(super) async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Http1(backend) => backend.flush().await,
            Self::Http2(_) => Ok(()),
        }
    }

    async fn send(&mut self, bytes: Bytes, is_last: bool) -> io::Result<()> {
        match self {
            Self::Http1(backend) => backend.send(bytes, is_last).await,
            Self::Http2(remote) => remote.send(bytes, is_last).await,
        }
    }

    pub(super) async fn head(&mut self) -> Result<AnswerHead, Failure> {
        match self {
            Self::Http1(backend) => backend.head().await,
            Self::Http2(remote) => remote.head().await,
        }
    }

    fn is_part_there(&self) -> bool {
        match self {
            Self::Http1(backend) => backend.is_part_there(),
            Self::Http2(_) => false,
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Http1(backend) => backend.is_over(),
            Self::Http2(remote) => remote.is_over(),
        }
    }

    async fn part(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Http1(backend) => backend.part().await,
            Self::Http2(remote) => remote.part().await,
        }
    }

    /// What a connection is that takes nothing: one from an earlier request was most likely closed before this one came.
    fn broken(&self) -> Failure {
        match self {
            Self::Http1(backend) if backend.is_reused() => Failure::Stale,
            Self::Http1(_) | Self::Http2(_) => Failure::Broken(CLOSED),
        }
    }
}
