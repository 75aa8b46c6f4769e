//! Writes answers of our own: the one place where an envelope meets a connection.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use crate::policy::envelope::{self, Envelope, JSON};
use crate::policy::fields::Fields;
use crate::policy::refusal::Refusal;
use crate::proxy::client::{Client, ClientFailure};
use crate::proxy::headers::{Arrival, REQUEST_ID, Told};

/// The reason of a body that is not framed as it should.
pub(super) const BODY_FRAMING: &str = "body_framing";
/// The longest unread request body for which a refusal keeps the connection: reading it costs less than a new connection.
const WORTH_READING: u64 = 64 << 10;

/// Refuses a request. The connection stays usable where the rest of the request can be told from the next one.
pub(super) async fn refuse(
    client: &mut Client<'_>,
    refusal: &Refusal,
    told: &Told<'_>,
    arrival: &Arrival,
) -> Result<usize, ClientFailure> {
    let mut fields = Fields::from(envelope::headers(refusal));
    told.write(&mut fields, arrival);
    match refusal {
        // Nobody knows where the next request would begin, or when.
        Refusal::BodyTimeout | Refusal::BodyTooLarge | Refusal::BadRequest(_, BODY_FRAMING) => client.end_connection(),
        _ => keep_if_drainable(client),
    }
    write(client, &Envelope::of(refusal), fields).await
}

/// Answers a preflight: 204 and what the browser has to know.
pub(super) async fn preflight(
    client: &mut Client<'_>,
    mut fields: Fields,
    arrival: &Arrival,
) -> Result<(), ClientFailure> {
    fields.append(REQUEST_ID, arrival.request_id.clone());
    keep_if_drainable(client);
    client.begin(StatusCode::NO_CONTENT, fields)?;
    client.send(Bytes::new(), true).await
}

/// Writes an envelope under `fields`, which describe no body yet. Returns how many bytes of body went out.
pub(super) async fn write(
    client: &mut Client<'_>,
    envelope: &Envelope,
    mut fields: Fields,
) -> Result<usize, ClientFailure> {
    fields.append(CONTENT_TYPE, JSON);
    fields.append(CONTENT_LENGTH, HeaderValue::from(envelope.body.len()));
    let body = if client.head().method == Method::HEAD { Bytes::new() } else { envelope.body.clone() };
    let length = body.len();
    client.begin(envelope.status, fields)?;
    client.send(body, true).await?;
    Ok(length)
}

/// The Content-Length of a request, whose form the edge has checked.
pub(super) fn declared_length(fields: &HeaderMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Frames a body whose length is not known: in chunks where the client understands them (HTTP/1.1), else by closing (HTTP/1.0).
pub(super) fn frame(asked: &Parts, status: StatusCode, fields: &mut Fields) {
    let has_body = asked.method != Method::HEAD && !matches!(status.as_u16(), 204 | 304);
    if has_body && asked.version == Version::HTTP_11 && fields.get(&CONTENT_LENGTH).is_none() {
        fields.append(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// By itself a connection ends after an answer to a request whose body was not read. A small body that is on its way is read instead,
/// when the session ends; one that the client only sends after `100 Continue` will never come.
fn keep_if_drainable(client: &mut Client<'_>) {
    let fields = &client.head().headers;
    if declared_length(fields).is_some_and(|length| length <= WORTH_READING) && !fields.contains_key(EXPECT) {
        client.keep_connection();
    }
}

/// A complete HTTP/1.1 answer for a connection on which no request could be read: the head is not HTTP, or did not come.
pub(super) fn raw(refusal: &Refusal, request_id: &HeaderValue) -> Vec<u8> {
    let envelope = Envelope::of(refusal);
    let status = envelope.status;
    let mut answer =
        format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or("Error")).into_bytes();
    let mut fields = vec![
        (CONTENT_TYPE, JSON),
        (CONTENT_LENGTH, HeaderValue::from(envelope.body.len())),
        (http::header::DATE, pingora::protocols::http::date::get_cached_date()),
        (http::header::CONNECTION, HeaderValue::from_static("close")),
        (REQUEST_ID, request_id.clone()),
    ];
    fields.extend(envelope::headers(refusal));
    for (name, value) in &fields {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"\r\n");
    answer.extend_from_slice(&envelope.body);
    answer
}
