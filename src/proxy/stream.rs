//! One HTTP/2 stream: a request as HTTP/1 would have it, its body as it comes, its answer as the client has room for it.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{COOKIE, DATE, HOST};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use pingora::protocols::http::date::get_cached_date;

use crate::policy::fields::Fields;
use crate::policy::head_http2;
use crate::proxy::client::ClientFailure;

/// A request on a stream of its own.
pub(super) struct Stream {
    head: Parts,
    body: RecvStream,
    has_body: bool,
    is_read: bool,
    answer: Answer,
    sent: usize,
}

/// How far the answer is.
enum Answer {
    /// Nothing of it is sent.
    Awaited(SendResponse<Bytes>),
    /// Its head is.
    Begun(SendStream<Bytes>),
    /// All of it is.
    Complete,
}

impl Stream {
    /// The stream of a request, whose head is taken over as it is.
    pub(super) fn new(request: Request<RecvStream>, answer: SendResponse<Bytes>) -> Self {
        let (parts, body) = request.into_parts();
        let has_body = !body.is_end_stream();
        Self { head: as_http1(parts), body, has_body, is_read: !has_body, answer: Answer::Awaited(answer), sent: 0 }
    }

    /// The head of the request.
    pub(super) fn head(&self) -> &Parts {
        &self.head
    }

    /// Whether a body came, or comes, with it.
    pub(super) fn has_body(&self) -> bool {
        self.has_body
    }

    /// Whether all of that is read.
    pub(super) fn is_body_done(&self) -> bool {
        self.is_read || self.body.is_end_stream()
    }

    /// Bytes of body sent.
    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// The next part of the body, `None` after its end. The client may send more as soon as this one is taken. Trailers stay behind,
    /// as they do in HTTP/1.
    pub(super) async fn read(&mut self) -> Result<Option<Bytes>, ClientFailure> {
        match poll_fn(|context| self.body.poll_data(context)).await {
            None => {
                self.is_read = true;
                Ok(None)
            }
            Some(Ok(bytes)) => {
                // It fails for a stream that has ended, which the next read says.
                let _ = self.body.flow_control().release_capacity(bytes.len());
                Ok(Some(bytes))
            }
            Some(Err(_)) => Err(ClientFailure::Gone),
        }
    }

    /// Ends when the client does not want an answer any more.
    pub(super) async fn gone(&mut self) {
        poll_fn(|context| self.poll_gone(context)).await;
    }

    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.answer {
            Answer::Awaited(answer) => answer.poll_reset(context).map(|_| ()),
            Answer::Begun(stream) => stream.poll_reset(context).map(|_| ()),
            Answer::Complete => Poll::Pending,
        }
    }

    /// Asks for the body: `100 Continue`.
    pub(super) fn ask_for_body(&mut self) -> Result<(), ClientFailure> {
        let Answer::Awaited(answer) = &mut self.answer else { return Ok(()) };
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = StatusCode::CONTINUE;
        answer.send_informational(Response::from_parts(parts, ())).map_err(|_| ClientFailure::Gone)
    }

    /// Sends the head of the answer, and its end where it has no body.
    pub(super) fn begin(&mut self, status: StatusCode, fields: Fields) -> Result<(), ClientFailure> {
        let Answer::Awaited(answer) = &mut self.answer else { return Err(ClientFailure::Gone) };
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = status;
        parts.version = Version::HTTP_2;
        parts.headers = fields.into();
        parts.headers.entry(DATE).or_insert_with(get_cached_date);
        let is_last = self.head.method == Method::HEAD || matches!(parts.status.as_u16(), 204 | 304);
        let stream = answer.send_response(Response::from_parts(parts, ()), is_last).map_err(|_| ClientFailure::Gone)?;
        self.answer = if is_last { Answer::Complete } else { Answer::Begun(stream) };
        Ok(())
    }

    /// Sends a part of the answer's body as fast as the client takes it, and its end with it when it is the last.
    pub(super) async fn send(&mut self, mut bytes: Bytes, is_last: bool) -> Result<(), ClientFailure> {
        let Answer::Begun(stream) = &mut self.answer else { return Ok(()) };
        while !bytes.is_empty() {
            stream.reserve_capacity(bytes.len());
            let Some(Ok(room)) = poll_fn(|context| stream.poll_capacity(context)).await else {
                return Err(ClientFailure::Gone);
            };
            let part = bytes.split_to(room.min(bytes.len()));
            self.sent += part.len();
            let is_end = is_last && bytes.is_empty();
            stream.send_data(part, is_end).map_err(|_| ClientFailure::Gone)?;
            if is_end {
                self.answer = Answer::Complete;
                return Ok(());
            }
        }
        if is_last {
            stream.send_data(Bytes::new(), true).map_err(|_| ClientFailure::Gone)?;
            self.answer = Answer::Complete;
        }
        Ok(())
    }

    /// Ends the stream so that nobody takes half an answer for a whole one.
    pub(super) fn cut(&mut self) {
        match &mut self.answer {
            Answer::Awaited(answer) => answer.send_reset(Reason::INTERNAL_ERROR),
            Answer::Begun(stream) => stream.send_reset(Reason::INTERNAL_ERROR),
            Answer::Complete => {}
        }
    }
}

/// The head as HTTP/1 would have it: the target in origin form, the authority as Host, and one Cookie field (RFC 9113 section 8.2.3).
fn as_http1(mut parts: Parts) -> Parts {
    if let Some(host) = head_http2::authority(&parts).ok().and_then(|host| HeaderValue::try_from(host).ok()) {
        parts.headers.insert(HOST, host);
    }
    let crumbs: Vec<&[u8]> = parts.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        parts.headers.insert(COOKIE, cookie);
    }
    parts.uri = parts.uri.path_and_query().cloned().map_or_else(Uri::default, Uri::from);
    parts
}
