//! The head of an HTTP/1 request: the strict subset of RFC 9112 on which all parsers agree.
//!
//! Request smuggling lives in the differences between parsers: bare line feeds, folded fields, space before a colon, two lengths,
//! a coding that one side knows. So nothing of that passes here; what does pass means the same to everybody behind us.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT, HOST, HeaderName, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};

use crate::policy::body::Incoming;
use crate::policy::refusal::Refusal;
use crate::policy::route::Methods;

/// The longest request target, in bytes. RFC 9112 section 3 asks for 8000 at least.
const MAX_TARGET: usize = 8192;

/// A head whose request has one end.
#[derive(Debug)]
pub struct Head {
    /// What it says.
    pub parts: Parts,
    /// The body behind it.
    pub body: Incoming,
    /// Why it is refused all the same. Another request can follow on its connection.
    pub flaw: Option<Refusal>,
}

/// What is wrong with a head, and whether it is clear all the same where its request ends.
pub(super) enum Flaw {
    /// The next request begins where this one says that it ends.
    Clear(Refusal),
    /// Two readers could look for it in two places.
    Unclear(Refusal),
}

impl From<Refusal> for Flaw {
    fn from(refusal: Refusal) -> Self {
        Self::Unclear(refusal)
    }
}

impl Flaw {
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::Clear(refusal) | Self::Unclear(refusal) => refusal,
        }
    }
}

/// Reads a complete head, up to and with its empty line. `max_fields` bounds the number of header fields.
///
/// Refused is a head of which it is not clear where its request ends; other flaws are in the [`Head`].
pub fn read(octets: &Bytes, max_fields: usize) -> Result<Head, Refusal> {
    let mut lines = Lines { rest: Some(octets.strip_suffix(b"\r\n\r\n").ok_or(bad("head_end"))?) };
    let mut flaw = None;
    let line = request_line(lines.next().unwrap_or_default(), &mut flaw)?;
    let mut fields = Fields { version: line.version, ..Fields::default() };
    let mut headers = HeaderMap::with_capacity(16);
    for (count, text) in lines.enumerate() {
        if count >= max_fields {
            return Err(refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_many_fields"));
        }
        let (name, text) = field(text)?;
        let value = HeaderValue::from_maybe_shared(octets.slice_ref(text)).map_err(|_| bad("head_field_value"))?;
        note(fields.take(&name, text), &mut flaw)?;
        headers.append(name, value);
    }
    let body = fields.body();
    note(fields.finish(), &mut flaw)?;
    match (flaw, body) {
        // The end of a chunked body is found by reading it, and nobody reads that of a refused request.
        (Some(refusal), Incoming::Chunked(_)) => Err(refusal),
        (flaw, body) => Ok(Head { parts: line.parts(octets, headers), body, flaw }),
    }
}

/// What a head is told that is longer than `request.header_bytes`.
pub fn too_large() -> Refusal {
    refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large")
}

/// Keeps the first flaw of a head whose framing is clear, and goes on: a worse one may follow.
fn note(verdict: Result<(), Flaw>, first: &mut Option<Refusal>) -> Result<(), Refusal> {
    match verdict {
        Err(Flaw::Clear(refusal)) => {
            first.get_or_insert(refusal);
            Ok(())
        }
        Err(Flaw::Unclear(refusal)) => Err(refusal),
        Ok(()) => Ok(()),
    }
}

/// The value of a field that complete lines of a head, which may be flawed, hold exactly once.
pub fn only_value<'h>(head: &'h [u8], name: &HeaderName) -> Option<&'h [u8]> {
    let end = head.windows(2).rposition(|pair| pair == b"\r\n")?;
    let fields = Lines { rest: head.get(..end) }.skip(1).filter_map(|line| field(line).ok());
    let mut values = fields.filter(|(other, _)| other == name);
    let (_, value) = values.next()?;
    values.next().is_none().then_some(value)
}

pub(super) fn bad(reason: &'static str) -> Refusal {
    refused(StatusCode::BAD_REQUEST, reason)
}

pub(super) fn refused(status: StatusCode, reason: &'static str) -> Refusal {
    Refusal::BadRequest(status, reason)
}

/// Splits at CRLF alone: a bare CR or LF stays in its line, where it is refused as a control character.
struct Lines<'h> {
    rest: Option<&'h [u8]>,
}

impl<'h> Iterator for Lines<'h> {
    type Item = &'h [u8];

    fn next(&mut self) -> Option<&'h [u8]> {
        let rest = self.rest?;
        let is_line_end = |at: &usize| at.checked_sub(1).and_then(|before| rest.get(before)) == Some(&b'\r');
        match memchr::memchr_iter(b'\n', rest).find(is_line_end) {
            Some(at) => {
                self.rest = rest.get(at + 1..);
                rest.get(..at - 1)
            }
            None => self.rest.take(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Version {
    #[default]
    Http10,
    Http11,
}

/// The parts of a request line.
struct RequestLine<'h> {
    method: Method,
    target: &'h [u8],
    version: Version,
}

/// `method SP request-target SP HTTP-version` (RFC 9112 section 3), with single spaces. A `flaw` of its target leaves its form clear.
fn request_line<'h>(line: &'h [u8], flaw: &mut Option<Refusal>) -> Result<RequestLine<'h>, Refusal> {
    let mut parts = line.split(|octet| *octet == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad("head_request_line"));
    };
    self::method(method)?;
    if target.is_empty() {
        return Err(bad("head_request_line"));
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        other if other.starts_with(b"HTTP/") => {
            return Err(refused(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "head_version"));
        }
        _ => return Err(bad("head_request_line")),
    };
    match self::target(method, target) {
        // What follows a CONNECT may be meant for the tunnel.
        Err(refusal) if method == b"CONNECT" => return Err(refusal),
        verdict => *flaw = verdict.err(),
    }
    Ok(RequestLine { method: Method::from_bytes(method).map_err(|_| bad("head_method"))?, target, version })
}

impl RequestLine<'_> {
    /// A target that is refused, and is none for `http::Uri` either, is told as `/`.
    fn parts(self, octets: &Bytes, headers: HeaderMap) -> Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = self.method;
        parts.uri =
            PathAndQuery::from_maybe_shared(octets.slice_ref(self.target)).map_or_else(|_| Uri::default(), Uri::from);
        parts.version = match self.version {
            Version::Http10 => http::Version::HTTP_10,
            Version::Http11 => http::Version::HTTP_11,
        };
        parts.headers = headers;
        parts
    }
}

/// A token of a plausible length.
pub(super) fn method(method: &[u8]) -> Result<(), Refusal> {
    let is_method = (1..=32).contains(&method.len()) && method.iter().all(|octet| is_token(*octet));
    if is_method { Ok(()) } else { Err(bad("head_method")) }
}

/// The origin form, or the asterisk of OPTIONS; a tunnel and an echo of one's own headers are never routed, whatever their target.
pub(super) fn target(method: &[u8], target: &[u8]) -> Result<(), Refusal> {
    if matches!(method, b"CONNECT" | b"TRACE") {
        return Err(Refusal::MethodNotAllowed(Methods::ALL));
    }
    if target.len() > MAX_TARGET {
        return Err(refused(StatusCode::URI_TOO_LONG, "head_target_too_long"));
    }
    let is_asterisk = target == b"*" && method == b"OPTIONS";
    let is_origin_form = target.starts_with(b"/") && target.iter().all(|octet| is_target(*octet));
    if is_asterisk || is_origin_form { Ok(()) } else { Err(bad("head_target")) }
}

/// What may stand in an origin-form target: visible ASCII without what `http::Uri` and RFC 3986 agree to exclude.
fn is_target(octet: u8) -> bool {
    octet.is_ascii_graphic() && !matches!(octet, b'"' | b'#' | b'<' | b'>' | b'`')
}

/// tchar of RFC 9110 section 5.6.2
fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

/// `field-name ":" OWS field-value OWS`; no folding, no space before the colon. The value may still hold a control character.
fn field(line: &[u8]) -> Result<(HeaderName, &[u8]), Refusal> {
    let colon = memchr::memchr(b':', line).ok_or(bad("head_field"))?;
    let (name, value) = line.split_at(colon);
    let name = HeaderName::from_bytes(name).map_err(|_| bad("head_field_name"))?;
    Ok((name, without_blanks(value.get(1..).unwrap_or_default())))
}

/// Without the blanks around it: space and tab, and no other white space.
fn without_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The fields that decide where a request ends and whom it is for.
#[derive(Default)]
pub(super) struct Fields {
    version: Version,
    hosts: usize,
    content_lengths: usize,
    transfer_encodings: usize,
    length: u64,
}

impl Fields {
    pub(super) fn take(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Flaw> {
        match *name {
            HOST => {
                self.hosts += 1;
                if !is_host(value) {
                    return Err(Flaw::Clear(bad("head_host")));
                }
            }
            CONTENT_LENGTH => {
                self.content_lengths += 1;
                self.length = length(value).ok_or(bad("head_content_length"))?;
            }
            TRANSFER_ENCODING => {
                self.transfer_encodings += 1;
                if !value.eq_ignore_ascii_case(b"chunked") {
                    let is_coding = !value.is_empty() && value.iter().all(|octet| is_token(*octet));
                    return Err(Flaw::Unclear(match is_coding {
                        true => refused(StatusCode::NOT_IMPLEMENTED, "head_transfer_coding"),
                        false => bad("head_transfer_encoding"),
                    }));
                }
            }
            EXPECT if !value.eq_ignore_ascii_case(b"100-continue") => {
                return Err(Flaw::Clear(refused(StatusCode::EXPECTATION_FAILED, "head_expectation")));
            }
            _ => {}
        }
        Ok(())
    }

    /// One Host in HTTP/1.1 (RFC 9112 section 3.2), at most one length, of one kind (section 6.1).
    pub(super) fn finish(self) -> Result<(), Flaw> {
        let lengths = self.content_lengths + self.transfer_encodings;
        match self {
            _ if lengths > 1 => Err(bad("head_two_lengths").into()),
            Self { version: Version::Http10, transfer_encodings: 1.., .. } => Err(bad("head_transfer_encoding").into()),
            Self { hosts: 2.., .. } => Err(bad("head_host").into()),
            Self { hosts: 0, version: Version::Http11, .. } => Err(Flaw::Clear(bad("head_host"))),
            _ => Ok(()),
        }
    }

    /// The body, once [`Fields::finish`] finds nothing wrong with its framing.
    fn body(&self) -> Incoming {
        if self.transfer_encodings > 0 { Incoming::chunked() } else { Incoming::sized(self.length) }
    }
}

/// A Content-Length in its one form: a zero in front would be octal to whoever reads numbers as C writes them.
fn length(value: &[u8]) -> Option<u64> {
    let is_octal = value.len() > 1 && value.starts_with(b"0");
    let is_length = (1..=18).contains(&value.len()) && !is_octal && value.iter().all(u8::is_ascii_digit);
    is_length.then(|| value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

/// `uri-host [":" port]` (RFC 9110 section 7.2) as names and addresses are really written.
pub(super) fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value.iter().rposition(|octet| *octet == b':') {
        Some(at) if !value.ends_with(b"]") => {
            (value.get(..at).unwrap_or_default(), value.get(at + 1..).unwrap_or_default())
        }
        _ => (value, &b"0"[..]),
    };
    let is_port = !port.is_empty() && port.len() <= 5 && port.iter().all(u8::is_ascii_digit);
    let is_name = |host: &[u8]| {
        !host.is_empty() && host.iter().all(|octet| octet.is_ascii_alphanumeric() || b"-._~".contains(octet))
    };
    let is_v6 = |host: &[u8]| {
        let inner = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]"));
        inner
            .and_then(|inner| std::str::from_utf8(inner).ok())
            .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())
    };
    is_port && host.len() <= 255 && (is_name(host) || is_v6(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verdict(head: &str) -> String {
        let told = |refusal: Refusal| format!("{} {}", refusal.status().as_u16(), refusal.reason());
        match read(&Bytes::copy_from_slice(head.as_bytes()), 100) {
            Ok(head) => head.flaw.map_or_else(|| "ok".into(), told),
            Err(refusal) => told(refusal),
        }
    }

    fn with(fields: &str) -> String {
        verdict(&format!("POST /a HTTP/1.1\r\nHost: x\r\n{fields}\r\n"))
    }

    #[test]
    fn a_plain_request_passes() {
        assert_eq!(verdict("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "ok");
        assert_eq!(verdict("GET / HTTP/1.0\r\n\r\n"), "ok");
        assert_eq!(verdict("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), "ok");
        assert_eq!(with("Content-Length: 0\r\nX-Empty:\r\nX-Tab: a\tb\r\nX-Text: \u{e9}\r\n"), "ok");
        assert_eq!(with("transfer-encoding: Chunked\r\n"), "ok");
        assert_eq!(with("Expect: 100-Continue\r\n"), "ok");
        for host in ["a.b-c", "a:80", "[::1]", "[::1]:80", "127.0.0.1:8080"] {
            assert_eq!(verdict(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), "ok", "{host}");
        }
    }

    #[test]
    fn a_request_line_has_one_form() {
        let line = |line: &str| verdict(&format!("{line}\r\nHost: x\r\n\r\n"));
        for (text, expected) in [
            ("GET  / HTTP/1.1", "400 head_request_line"),
            ("GET / HTTP/1.1 ", "400 head_request_line"),
            (" GET / HTTP/1.1", "400 head_request_line"),
            ("GET /\tHTTP/1.1", "400 head_request_line"),
            ("GET /", "400 head_request_line"),
            ("GET / http/1.1", "400 head_request_line"),
            ("G(T / HTTP/1.1", "400 head_method"),
            ("GET / HTTP/2.0", "505 head_version"),
            ("GET / HTTP/1.2", "505 head_version"),
            ("GET / HTTP/0.9", "505 head_version"),
            ("GET http://x/ HTTP/1.1", "400 head_target"),
            ("GET x HTTP/1.1", "400 head_target"),
            ("GET * HTTP/1.1", "400 head_target"),
            ("GET /a#b HTTP/1.1", "400 head_target"),
            ("GET /a`b HTTP/1.1", "400 head_target"),
            ("GET /\u{e9} HTTP/1.1", "400 head_target"),
            ("GET /a\u{1}b HTTP/1.1", "400 head_target"),
            ("CONNECT x:443 HTTP/1.1", "405 method"),
            ("TRACE / HTTP/1.1", "405 method"),
        ] {
            assert_eq!(line(text), expected, "{text:?}");
        }
        assert_eq!(line(&format!("GET /{} HTTP/1.1", "a".repeat(MAX_TARGET))), "414 head_target_too_long");
    }

    #[test]
    fn a_field_has_one_form() {
        for (fields, expected) in [
            ("X : a\r\n", "400 head_field_name"),
            (" X: a\r\n", "400 head_field_name"),
            ("X: a\r\n folded\r\n", "400 head_field"),
            ("X: a\r\n\tY: folded\r\n", "400 head_field_name"),
            ("X: a\nY: b\r\n", "400 head_field_value"),
            ("X: a\rY: b\r\n", "400 head_field_value"),
            ("X: a\0\r\n", "400 head_field_value"),
            ("X: a\u{7f}\r\n", "400 head_field_value"),
            (": a\r\n", "400 head_field_name"),
            ("X\r\n", "400 head_field"),
            ("X\u{e9}: a\r\n", "400 head_field_name"),
        ] {
            assert_eq!(with(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn where_a_body_ends_is_never_in_doubt() {
        for (fields, expected) in [
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "400 head_two_lengths"),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", "400 head_two_lengths"),
            ("Content-Length: 5, 5\r\n", "400 head_content_length"),
            ("Content-Length: +5\r\n", "400 head_content_length"),
            ("Content-Length: -5\r\n", "400 head_content_length"),
            ("Content-Length: 0x5\r\n", "400 head_content_length"),
            ("Content-Length: 05\r\n", "400 head_content_length"),
            ("Content-Length: \r\n", "400 head_content_length"),
            ("Content-Length: 5 5\r\n", "400 head_content_length"),
            ("Content-Length: 9999999999999999999\r\n", "400 head_content_length"),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "400 head_two_lengths"),
            ("Transfer-Encoding: gzip, chunked\r\n", "400 head_transfer_encoding"),
            ("Transfer-Encoding: chunked, identity\r\n", "400 head_transfer_encoding"),
            ("Transfer-Encoding: \"chunked\"\r\n", "400 head_transfer_encoding"),
            ("Transfer-Encoding: chunked;a=b\r\n", "400 head_transfer_encoding"),
            ("Transfer-Encoding:\r\n", "400 head_transfer_encoding"),
            ("Transfer-Encoding: identity\r\n", "501 head_transfer_coding"),
            ("Transfer-Encoding: xchunked\r\n", "501 head_transfer_coding"),
            ("Expect: 200-maybe\r\n", "417 head_expectation"),
        ] {
            assert_eq!(with(fields), expected, "{fields:?}");
        }
        assert_eq!(verdict("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), "400 head_transfer_encoding");
    }

    #[test]
    fn a_request_names_one_host() {
        assert_eq!(verdict("GET / HTTP/1.1\r\n\r\n"), "400 head_host");
        assert_eq!(with("Host: x\r\n"), "400 head_host");
        for host in ["", "a b", "a,b", "a@b", "a/b", "a:", "a:x", "a:999999", "[::1", "[x]", "::1"] {
            assert_eq!(verdict(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), "400 head_host", "{host}");
        }
    }

    #[test]
    fn what_leaves_no_doubt_where_the_request_ends_is_told_apart() {
        let is_clear = |head: &str| match read(&Bytes::copy_from_slice(head.as_bytes()), 100) {
            Ok(head) => head.flaw.is_some(),
            Err(_) => false,
        };
        for clear in [
            "TRACE / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nExpect: y\r\n\r\n",
        ] {
            assert!(is_clear(clear), "{clear}");
            let unclear = clear.replace("\r\n\r\n", "\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
            assert!(!is_clear(&unclear), "{unclear}");
        }
        assert!(!is_clear("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"));
    }

    #[test]
    fn a_value_is_found_in_a_flawed_head_where_it_is_whole_and_alone() {
        let found = |head: &'static str| only_value(head.as_bytes(), &HeaderName::from_static("x-id"));
        assert_eq!(found("GET / HTTP/1.1\r\nA B: c\r\nX-Id: a\r\n\r\n"), Some(&b"a"[..]));
        assert_eq!(found("GET / HTTP/1.1\r\nX-Id: a\r\nHos"), Some(&b"a"[..]));
        for head in ["GET / HTTP/1.1\r\nX-Id: a", "X-Id: a\r\n\r\n", "G\r\nX-Id: a\r\nx-id: a\r\n", ""] {
            assert_eq!(found(head), None, "{head:?}");
        }
    }

    #[test]
    fn the_number_of_fields_is_bounded() {
        assert_eq!(with(&"X: a\r\n".repeat(99)), "ok");
        assert_eq!(with(&"X: a\r\n".repeat(100)), "431 head_too_many_fields");
    }

    proptest! {
        #[test]
        fn no_input_panics(head in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&head.into(), 10);
        }
    }
}
