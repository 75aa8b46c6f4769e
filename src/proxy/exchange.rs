//! One request to one server: its body up, the answer down, both as they come.
//!
//! Knows how far it got, because that decides whether another server may be asked: nothing sent, or something.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{StatusCode, Version};
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};
use tokio::time::{Instant, sleep_until, timeout};

use crate::policy::refusal::Refusal;
use crate::policy::upstream::Timeouts;
use crate::proxy::client::{Client, ClientFailure, Part};
use crate::proxy::pool::Server;

/// Interim answers (1xx) that are put up with before the real one.
const MOST_INTERIM: usize = 16;
/// How long an answer is waited for once the server takes no more of the body: it may have refused it.
const AFTER_ABANDONED_BODY: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection: nothing was sent.
    Connect(ConnectFailure),
    /// A connection from an earlier request was closed without a byte of an answer: most likely before this one came.
    Stale,
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
}

impl From<ClientFailure> for Failure {
    fn from(failure: ClientFailure) -> Self {
        Self::Client(failure)
    }
}

/// A server's answer: its head is read, its body is not.
pub(super) struct Answer {
    session: HttpSession,
    peer: Arc<HttpPeer>,
    idle_timeout: Duration,
}

/// Sends a request and reads the head of its answer. `build` makes the request once there is a connection.
pub(super) async fn send(
    client: &mut Client<'_>,
    connector: &Connector,
    server: &Server,
    timeouts: Timeouts,
    build: impl FnOnce(&Client<'_>) -> Result<RequestHeader, Refusal>,
) -> Result<Answer, Failure> {
    let peer = server.peer().ok_or(Failure::Connect(ConnectFailure::Refused))?;
    let connected = connector.get_http_session(&*peer).await;
    let (session, is_reused) = connected.map_err(|error| Failure::Connect(connect_failure(&error)))?;
    let request = build(client).map_err(Failure::Refused)?;
    let mut answer = Answer { session, peer, idle_timeout: server.idle_timeout() };
    answer.session.set_write_timeout(Some(timeouts.response));
    match answer.head_of(client, request, timeouts.response).await {
        Ok(()) => Ok(answer),
        Err(Failure::Broken(CLOSED)) if is_reused => Err(Failure::Stale),
        Err(failure) => Err(failure),
    }
}

fn connect_failure(error: &Error) -> ConnectFailure {
    match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => ConnectFailure::Late,
        _ => ConnectFailure::Refused,
    }
}

impl Answer {
    /// The head.
    pub(super) fn head(&self) -> Option<&ResponseHeader> {
        self.session.response_header()
    }

    async fn head_of(
        &mut self,
        client: &mut Client<'_>,
        request: RequestHeader,
        within: Duration,
    ) -> Result<(), Failure> {
        self.session.write_request_header(Box::new(request)).await.map_err(|_| Failure::Broken(CLOSED))?;
        if client.is_complete() {
            self.session.finish_request_body().await.map_err(|_| Failure::Broken(CLOSED))?;
        }
        client.ask_for_body().await?;
        let mut interim = 0;
        // The server's time begins when it has the whole request.
        let mut late_at = client.is_complete().then(|| Instant::now() + within);
        loop {
            tokio::select! {
                biased;
                read = self.session.read_response_header() => {
                    read.map_err(|error| broken(&error))?;
                    let head = self.head().ok_or(Failure::Broken("upstream_malformed"))?;
                    match head.status {
                        StatusCode::SWITCHING_PROTOCOLS => return Err(Failure::Broken("upstream_switched")),
                        status if status.is_informational() && interim < MOST_INTERIM => interim += 1,
                        status if !is_final(status) => return Err(Failure::Broken("upstream_status")),
                        _ if !has_one_length(head) => return Err(Failure::Broken("upstream_framing")),
                        _ => return Ok(()),
                    }
                }
                part = client.part() => {
                    late_at = match self.pass_up(part?).await {
                        Ok(Uploading::Complete) => Some(Instant::now() + within),
                        Ok(Uploading::Going) => None,
                        Err(_) => {
                            client.abandon();
                            Some(Instant::now() + AFTER_ABANDONED_BODY)
                        }
                    };
                }
                () = sleep_until(late_at.unwrap_or_else(Instant::now)), if late_at.is_some() => return Err(Failure::Late),
            }
        }
    }

    /// Passes one part of the request body up, and its end after the last.
    async fn pass_up(&mut self, part: Part) -> pingora::Result<Uploading> {
        // In chunked framing an empty part would be the end of the body.
        if !part.bytes.is_empty() {
            self.session.write_request_body(part.bytes, false).await?;
        }
        match part.is_last {
            true => self.session.finish_request_body().await.map(|()| Uploading::Complete),
            false => Ok(Uploading::Going),
        }
    }

    /// Streams the body to the client, flushed as it comes. `between_reads` bounds each wait for the server.
    ///
    /// The head has gone out, so a failure can only cut the answer short: the caller has to close the connection then.
    pub(super) async fn relay(
        &mut self,
        client: &mut Client<'_>,
        between_reads: Option<Duration>,
    ) -> Result<(), Failure> {
        self.session.set_read_timeout(between_reads);
        while !self.session.response_done() {
            tokio::select! {
                biased;
                read = self.session.read_response_body() => match read.map_err(|error| broken(&error))? {
                    Some(bytes) => client.send(bytes, false).await?,
                    None if self.session.response_done() => break,
                    None => return Err(Failure::Broken(CLOSED)),
                },
                part = client.part() => {
                    if self.pass_up(part?).await.is_err() {
                        client.abandon();
                    }
                }
            }
        }
        Ok(client.send(Bytes::new(), true).await?)
    }

    /// Reads a body of at most `most` bytes within `limit`; `None` when it is larger, slower, or does not come to its end.
    pub(super) async fn collect(&mut self, most: usize, limit: Duration) -> Option<Vec<u8>> {
        timeout(limit, async {
            let mut body = Vec::new();
            while !self.session.response_done() {
                match self.session.read_response_body().await {
                    Ok(Some(bytes)) if body.len() + bytes.len() <= most => body.extend_from_slice(&bytes),
                    Ok(None) if self.session.response_done() => break,
                    Ok(_) | Err(_) => return None,
                }
            }
            Some(body)
        })
        .await
        .ok()
        .flatten()
    }

    /// Gives the connection back if the next request can use it, which is when both bodies came to their end; else closes it.
    pub(super) async fn release(mut self, connector: &Connector, client: &Client<'_>) {
        if client.is_complete() && self.session.response_done() {
            connector.release_http_session(self.session, &*self.peer, Some(self.idle_timeout)).await;
        } else {
            self.session.shutdown().await;
        }
    }
}

/// How far the request body has come.
enum Uploading {
    Going,
    Complete,
}

/// The reason of a connection that ended early.
const CLOSED: &str = "upstream_closed";

fn broken(error: &Error) -> Failure {
    match error.etype() {
        ErrorType::ReadTimedout => Failure::Late,
        ErrorType::ConnectionClosed | ErrorType::ReadError => Failure::Broken(CLOSED),
        _ => Failure::Broken("upstream_malformed"),
    }
}

/// Whether there is one reading of where the body ends. pingora takes two equal lengths for one, and what it makes of a list of codings
/// another reader may not; a client would be sent the length as it is. HTTP/1.0 has no codings (RFC 9112 section 6.1).
fn has_one_length(head: &ResponseHeader) -> bool {
    let only = |name, is_right: fn(&[u8]) -> bool| {
        let mut values = head.headers.get_all(name).iter();
        values.next().is_none_or(|value| is_right(value.as_bytes())) && values.next().is_none()
    };
    let has_coding = head.headers.contains_key(TRANSFER_ENCODING);
    only(CONTENT_LENGTH, |value| !value.is_empty() && value.iter().all(u8::is_ascii_digit))
        && only(TRANSFER_ENCODING, |value| value.eq_ignore_ascii_case(b"chunked"))
        && !(has_coding && head.version == Version::HTTP_10)
}

/// A status that an answer may end with. HTTP knows nothing above 599 (RFC 9110 section 15).
fn is_final(status: StatusCode) -> bool {
    (200..600).contains(&status.as_u16())
}
