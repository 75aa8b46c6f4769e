//! HTTP/2 with a server: one connection for many requests, each on a stream of its own.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Request, Uri, Version};
use tokio::time::timeout;

use crate::policy::answer::AnswerHead;
use crate::proxy::exchange::{CLOSED, ConnectFailure, Failure};
use crate::proxy::headers::RequestHead;
use crate::proxy::transport::Transport;

/// Octets of an answer that are sent ahead of its client: of one, and of all on a connection together.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// The largest head of an answer.
const MOST_HEAD: u32 = 64 << 10;

/// A connection that takes requests.
#[derive(Clone, Debug)]
pub(super) struct Multiplexed {
    sender: SendRequest<Bytes>,
    scheme: Scheme,
    /// Whether it takes no more.
    is_spent: Arc<AtomicBool>,
}

/// One request and its answer.
#[derive(Debug)]
pub(super) struct Remote {
    connection: Multiplexed,
    request: Option<SendStream<Bytes>>,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Unasked,
    Awaited(ResponseFuture),
    Begun(RecvStream),
    Over,
}

impl Multiplexed {
    /// Begins to speak HTTP/2 on a connection, `within` some time.
    pub(super) async fn start(transport: Transport, within: Duration) -> Result<Self, ConnectFailure> {
        let scheme = if matches!(transport, Transport::Plain(_)) { Scheme::HTTP } else { Scheme::HTTPS };
        let mut codec = client::Builder::new();
        codec
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MOST_HEAD);
        let handshake = timeout(within, codec.handshake(transport)).await.map_err(|_| ConnectFailure::Late)?;
        let (sender, connection) = handshake.map_err(|_| ConnectFailure::Refused)?;
        let is_spent = Arc::<AtomicBool>::default();
        let spent = Arc::clone(&is_spent);
        // Ends when the server closes, or when nobody holds the connection or a stream of it any more.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("an HTTP/2 connection to a server ended: {error}");
            }
            spent.store(true, Ordering::Release);
        });
        Ok(Self { sender, scheme, is_spent })
    }

    /// Whether it takes another request.
    pub(super) fn is_usable(&self) -> bool {
        !self.is_spent.load(Ordering::Acquire)
    }

    /// A place for a request, waited for `within` some time: a server bounds how many there are.
    pub(super) async fn open(self, within: Duration) -> Result<Remote, ConnectFailure> {
        let ready = timeout(within, self.sender.clone().ready()).await.map_err(|_| ConnectFailure::Late)?;
        match ready {
            Ok(sender) => Ok(Remote { connection: Self { sender, ..self }, request: None, answer: Answer::Unasked }),
            Err(_) => {
                self.is_spent.store(true, Ordering::Release);
                Err(ConnectFailure::Refused)
            }
        }
    }
}

impl Remote {
    /// Sends the head of a request, and its end where it has no body.
    pub(super) fn begin(&mut self, head: RequestHead, is_complete: bool) -> Result<(), Failure> {
        let request = Request::from_parts(self.as_http2(head)?, ());
        let sent = self.connection.sender.send_request(request, is_complete);
        let (answer, request) = sent.map_err(|error| self.failure(&error))?;
        self.answer = Answer::Awaited(answer);
        self.request = (!is_complete).then_some(request);
        Ok(())
    }

    /// The head as HTTP/2 has it: the authority instead of Host, and no framing of the body beside a length (RFC 9113 section 8.3.1).
    fn as_http2(&self, sent: RequestHead) -> Result<Parts, Failure> {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = sent.method;
        head.headers = sent.fields.into();
        let host = head.headers.remove(HOST);
        let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
        head.headers.remove(TRANSFER_ENCODING);
        let mut target = http::uri::Parts::default();
        target.scheme = Some(self.connection.scheme.clone());
        target.authority = authority;
        target.path_and_query = sent.target.path_and_query().cloned();
        head.uri = Uri::from_parts(target).map_err(|_| Failure::Broken("target"))?;
        head.version = Version::HTTP_2;
        Ok(head)
    }

    /// Sends a part of the request's body as fast as the server takes it, and its end with it when it is the last.
    pub(super) async fn send(&mut self, mut bytes: Bytes, is_last: bool) -> io::Result<()> {
        let Some(stream) = &mut self.request else { return Err(io::ErrorKind::NotConnected.into()) };
        while !bytes.is_empty() {
            stream.reserve_capacity(bytes.len());
            let Some(Ok(room)) = poll_fn(|context| stream.poll_capacity(context)).await else {
                return Err(io::ErrorKind::ConnectionReset.into());
            };
            let part = bytes.split_to(room.min(bytes.len()));
            stream.send_data(part, is_last && bytes.is_empty()).map_err(io::Error::other)?;
            if is_last && bytes.is_empty() {
                self.request = None;
                return Ok(());
            }
        }
        if is_last {
            stream.send_data(Bytes::new(), true).map_err(io::Error::other)?;
            self.request = None;
        }
        Ok(())
    }

    /// Reads the head of the answer; interim ones are not shown. May be dropped and called again.
    pub(super) async fn head(&mut self) -> Result<AnswerHead, Failure> {
        let Answer::Awaited(answer) = &mut self.answer else { return Err(Failure::Broken(CLOSED)) };
        let (head, body) = answer.await.map_err(|error| self.failure(&error))?.into_parts();
        self.answer = if body.is_end_stream() { Answer::Over } else { Answer::Begun(body) };
        let lengths = head.headers.get_all(CONTENT_LENGTH).iter().count();
        if lengths > 1 || head.headers.contains_key(TRANSFER_ENCODING) {
            return Err(Failure::Broken("upstream_framing"));
        }
        match head.status.as_u16() {
            200..600 => Ok(AnswerHead { status: head.status, fields: head.headers, is_kept: true }),
            _ => Err(Failure::Broken("upstream_status")),
        }
    }

    /// Whether all of the answer has come.
    pub(super) fn is_over(&self) -> bool {
        match &self.answer {
            Answer::Begun(body) => body.is_end_stream(),
            Answer::Over => true,
            Answer::Unasked | Answer::Awaited(_) => false,
        }
    }

    /// The next part of the answer's body; `None` after its end. The server may send more as soon as this one is taken. May be dropped
    /// and called again.
    pub(super) async fn part(&mut self) -> Result<Option<Bytes>, Failure> {
        let Answer::Begun(body) = &mut self.answer else { return Ok(None) };
        match poll_fn(|context| body.poll_data(context)).await {
            None => {
                self.answer = Answer::Over;
                Ok(None)
            }
            Some(Ok(bytes)) => {
                // It fails for a stream that has ended, which the next read says.
                let _ = body.flow_control().release_capacity(bytes.len());
                Ok(Some(bytes))
            }
            Some(Err(error)) => Err(self.failure(&error)),
        }
    }

    /// Sends no further request on the connection. Those that are under way go on.
    pub(super) fn distrust(&self) {
        self.connection.is_spent.store(true, Ordering::Release);
    }

    /// What an error means for the request. A server that is going away says which ones it has not looked at, and so does one that
    /// refuses a stream (RFC 9113 section 8.7).
    fn failure(&self, error: &h2::Error) -> Failure {
        if error.is_go_away() || error.is_io() {
            self.distrust();
        }
        let is_refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        let is_left_out = error.is_go_away() && error.is_remote() && error.reason() == Some(Reason::NO_ERROR);
        match error.is_remote() && (is_refused || is_left_out) {
            true => Failure::Unprocessed,
            false => Failure::Broken(CLOSED),
        }
    }
}
