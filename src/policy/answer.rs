//! The head of a backend's HTTP/1 answer, and the body that follows it.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use crate::policy::body::Incoming;

/// The most octets and fields of a head.
pub const MOST_BYTES: usize = 64 << 10;
const MOST_FIELDS: usize = 256;
/// What every head begins with.
const BEGINNING: &[u8] = b"HTTP/1.";

/// A head.
#[derive(Clone, Debug)]
pub struct AnswerHead {
    /// Its status: 100 to 599.
    pub status: StatusCode,
    /// Its fields.
    pub fields: HeaderMap,
    /// Whether its connection can have another request behind it.
    pub is_kept: bool,
}

/// Why it is no head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It is no HTTP.
    Malformed,
    /// HTTP knows nothing above 599 (RFC 9110 section 15).
    Status,
    /// There is more than one reading of where its body ends.
    Framing,
}

impl Unusable {
    /// The `reason` label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "upstream_malformed",
            Self::Status => "upstream_status",
            Self::Framing => "upstream_framing",
        }
    }
}

/// Where the head that `octets` begin with ends, looking from `seen` on; `seen` becomes how far it was looked. What cannot become a head
/// is not waited for.
pub fn end(octets: &[u8], seen: &mut usize) -> Result<Option<usize>, Unusable> {
    if !octets.iter().zip(BEGINNING).all(|(octet, expected)| octet == expected) {
        return Err(Unusable::Malformed);
    }
    let from = seen.saturating_sub(3);
    *seen = octets.len();
    let rest = octets.get(from..).unwrap_or_default();
    Ok(memchr::memchr_iter(b'\n', rest).find_map(|at| match rest.get(at + 1..)? {
        [b'\n', ..] => Some(from + at + 2),
        [b'\r', b'\n', ..] => Some(from + at + 3),
        _ => None,
    }))
}

/// Reads a complete head.
pub fn read(octets: &Bytes) -> Result<AnswerHead, Unusable> {
    let mut slots = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut parsed = httparse::Response::new(&mut slots);
    // RFC 9112 section 5.1: a space before the colon of an answer's field is taken away, where a request's is refused.
    let mut parser = httparse::ParserConfig::default();
    parser.allow_spaces_after_header_name_in_responses(true);
    match parser.parse_response(&mut parsed, octets) {
        Ok(httparse::Status::Complete(length)) if length == octets.len() => {}
        _ => return Err(Unusable::Malformed),
    }
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Unusable::Malformed)?;
    if status.as_u16() >= 600 {
        return Err(Unusable::Status);
    }
    let mut fields = HeaderMap::with_capacity(16);
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Unusable::Malformed)?;
        let value = HeaderValue::from_maybe_shared(octets.slice_ref(field.value)).map_err(|_| Unusable::Malformed)?;
        fields.append(name, value);
    }
    // RFC 9112 section 6.3: chunks win over a length, and whoever forwards the answer takes that out.
    if fields.contains_key(TRANSFER_ENCODING) {
        fields.remove(CONTENT_LENGTH);
    }
    let version = if parsed.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    if !has_one_length(&fields, version) {
        return Err(Unusable::Framing);
    }
    let is_kept = version == Version::HTTP_11 && !says_close(&fields);
    Ok(AnswerHead { status, fields, is_kept })
}

/// Whether there is one reading of where the body ends. HTTP/1.0 has no codings (RFC 9112 section 6.1).
fn has_one_length(fields: &HeaderMap, version: Version) -> bool {
    let only = |name, is_right: fn(&[u8]) -> bool| {
        let mut values = fields.get_all(name).iter();
        values.next().is_none_or(|value| is_right(value.as_bytes())) && values.next().is_none()
    };
    let is_length = |value: &[u8]| (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    only(CONTENT_LENGTH, is_length)
        && only(TRANSFER_ENCODING, |value| value.eq_ignore_ascii_case(b"chunked"))
        && !(version == Version::HTTP_10 && fields.contains_key(TRANSFER_ENCODING))
}

/// Whether `Connection` has the option `close`.
pub fn says_close(fields: &HeaderMap) -> bool {
    has_connection_option(fields, "close")
}

/// Whether `Connection` has an option (RFC 9110 section 7.6.1).
pub fn has_connection_option(fields: &HeaderMap, option: &str) -> bool {
    let values = fields.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(option))
}

/// Whether `Connection` and `Upgrade` name WebSocket as the protocol to go on with (RFC 6455 section 4).
pub fn names_websocket(fields: &HeaderMap) -> bool {
    let mut protocols = fields.get_all(UPGRADE).iter();
    let only = protocols.next().filter(|_| protocols.next().is_none());
    only.is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && has_connection_option(fields, "upgrade")
}

impl AnswerHead {
    /// How long the server keeps the connection, where it says so (`Keep-Alive: timeout=5`), less a second: a request must not meet a
    /// connection that is being closed.
    pub fn kept_for(&self) -> Option<Duration> {
        let parameters = self.fields.get("keep-alive")?.to_str().ok()?.split(',');
        let seconds: u64 = parameters.filter_map(|one| one.trim().strip_prefix("timeout=")).next()?.parse().ok()?;
        Some(Duration::from_secs(seconds.saturating_sub(1)))
    }

    /// Whether a 101 changes to what was asked for.
    pub fn is_websocket(&self) -> bool {
        names_websocket(&self.fields)
    }

    /// The body behind this answer to a request with `method` (RFC 9112 section 6.3). Chunks win over a length.
    pub fn body(&self, method: &Method) -> Incoming {
        let length = || self.fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        if *method == Method::HEAD || self.status.is_informational() || matches!(self.status.as_u16(), 204 | 304) {
            return Incoming::sized(0);
        }
        match self.fields.contains_key(TRANSFER_ENCODING) {
            true => Incoming::chunked(),
            false => length().map_or(Incoming::UntilClose, Incoming::sized),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<AnswerHead, Unusable> {
        read(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_head_ends_with_its_empty_line_however_it_comes() {
        let octets = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody";
        for cut in 0..octets.len() {
            let mut seen = 0;
            let first = end(&octets[..cut], &mut seen);
            assert_eq!(first.unwrap().or_else(|| end(octets, &mut seen).unwrap()), Some(25), "{cut}");
        }
        assert_eq!(end(b"HTTP/1.1 200 OK\n\nx", &mut 0), Ok(Some(17)));
        assert_eq!(end(b"SSH-2.0", &mut 0), Err(Unusable::Malformed));
    }

    #[test]
    fn an_answer_has_the_body_that_its_head_and_the_method_say() {
        let body =
            |fields: &str, method| head(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).map(|head| head.body(&method));
        assert_eq!(body("Content-Length: 5\r\n", Method::GET), Ok(Incoming::sized(5)));
        assert_eq!(body("Content-Length: 5\r\n", Method::HEAD), Ok(Incoming::sized(0)));
        assert_eq!(body("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Method::GET), Ok(Incoming::chunked()));
        assert_eq!(body("", Method::GET), Ok(Incoming::UntilClose));
        for fields in
            ["Content-Length: 5\r\nContent-Length: 5\r\n", "Content-Length: +5\r\n", "Transfer-Encoding: x\r\n"]
        {
            assert_eq!(body(fields, Method::GET), Err(Unusable::Framing), "{fields}");
        }
        let no_content = head("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n").unwrap();
        assert_eq!(no_content.body(&Method::GET), Incoming::sized(0));
    }

    #[test]
    fn a_connection_is_kept_in_http_1_1_unless_it_says_that_it_closes() {
        let kept = |text: &str| head(text).unwrap().is_kept;
        assert!(kept("HTTP/1.1 200 OK\r\n\r\n"));
        assert!(!kept("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n"));
        assert!(!kept("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn what_is_no_status_is_no_answer() {
        for (line, expected) in [
            ("HTTP/1.1 600 OK", Unusable::Status),
            ("HTTP/1.1 099 OK", Unusable::Malformed),
            ("HTTP/1.1 20 OK", Unusable::Malformed),
            ("HTTP/2 200 OK", Unusable::Malformed),
        ] {
            assert_eq!(head(&format!("{line}\r\n\r\n")).err(), Some(expected), "{line}");
        }
    }
}
