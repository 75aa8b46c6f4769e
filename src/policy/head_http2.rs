//! The head of an HTTP/2 request, where its codec leaves a choice: the same rules as for HTTP/1, so that what passes here can be sent
//! on as HTTP/1 and means the same (RFC 9113 section 8).

use http::header::HOST;
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{StatusCode, Uri};

use crate::policy::head::{self, Fields, Flaw, bad, refused};
use crate::policy::refusal::Refusal;

/// What a field costs beside its name and value when it is written as HTTP/1: a colon, a space and a line end.
const FIELD_OVERHEAD: usize = 4;

/// Checks a head. It may be as large as an HTTP/1 head of `max_bytes`, and have `max_fields` fields.
pub fn check(head: &Parts, max_bytes: usize, max_fields: usize) -> Result<(), Refusal> {
    let too_large = |reason| Err(refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, reason));
    if size(head) > max_bytes {
        return too_large("head_too_large");
    }
    if head.headers.len() > max_fields {
        return too_large("head_too_many_fields");
    }
    let method = head.method.as_str().as_bytes();
    head::method(method)?;
    head::target(method, target(&head.uri).as_bytes())?;
    if !matches!(head.uri.scheme_str(), Some("http" | "https")) {
        return Err(bad("head_scheme"));
    }
    let mut fields = Fields::default();
    fields.take(&HOST, authority(head)?.as_bytes()).map_err(Flaw::refusal)?;
    for (name, value) in head.headers.iter().filter(|(name, _)| **name != HOST) {
        // RFC 9113 section 8.2.1; HTTP/1 would read the value without it.
        if value.as_bytes().trim_ascii() != value.as_bytes() {
            return Err(bad("head_field_value"));
        }
        fields.take(name, value.as_bytes()).map_err(Flaw::refusal)?;
    }
    fields.finish().map_err(Flaw::refusal)
}

/// `:path`
pub fn target(uri: &Uri) -> &str {
    uri.path_and_query().map_or("", PathAndQuery::as_str)
}

/// The one host that a request names, as `:authority`, as Host, or as both alike (RFC 9113 section 8.3.1).
pub fn authority(head: &Parts) -> Result<String, Refusal> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let (host, another) = (hosts.next(), hosts.next());
    let host = host.map(|value| value.to_str()).transpose().map_err(|_| bad("head_host"))?;
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    match (authority, host, another) {
        (_, _, Some(_)) | (None, None, None) => Err(bad("head_host")),
        (Some(authority), Some(host), None) if !authority.eq_ignore_ascii_case(host) => Err(bad("head_host")),
        (Some(named), _, None) | (None, Some(named), None) => Ok(named.to_owned()),
    }
}

fn size(head: &Parts) -> usize {
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD);
    let authority = head.uri.authority().map_or(0, |authority| authority.as_str().len());
    head.method.as_str().len() + target(&head.uri).len() + authority + fields.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn head(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn verdict(method: &str, uri: &str, fields: &[(&str, &str)]) -> String {
        match check(&head(method, uri, fields), 1000, 10) {
            Ok(()) => "ok".into(),
            Err(refusal) => format!("{} {}", refusal.status().as_u16(), refusal.reason()),
        }
    }

    #[test]
    fn a_plain_request_passes() {
        assert_eq!(verdict("GET", "https://a/b?c", &[("x", "y"), ("content-length", "0")]), "ok");
        assert_eq!(verdict("GET", "https://a/", &[("host", "A")]), "ok");
        assert_eq!(verdict("GET", "http://a:80/", &[("expect", "100-continue")]), "ok");
    }

    #[test]
    fn what_http_1_refuses_is_refused() {
        for (method, uri, fields, expected) in [
            ("TRACE", "https://a/", &[][..], "405 method"),
            ("CONNECT", "https://a/", &[], "405 method"),
            ("GET", "ftp://a/", &[], "400 head_scheme"),
            ("GET", "https://u@a/", &[], "400 head_host"),
            ("GET", "https://a/", &[("host", "b")], "400 head_host"),
            ("GET", "https://a/", &[("host", "a"), ("host", "a")], "400 head_host"),
            ("GET", "https://a/\"", &[], "400 head_target"),
            ("POST", "https://a/", &[("content-length", "1"), ("content-length", "1")], "400 head_two_lengths"),
            ("POST", "https://a/", &[("content-length", "+1")], "400 head_content_length"),
            ("POST", "https://a/", &[("expect", "x")], "417 head_expectation"),
            ("GET", "https://a/", &[("x", " y")], "400 head_field_value"),
            ("GET", "https://a/", &[("x", "y\t")], "400 head_field_value"),
        ] {
            assert_eq!(verdict(method, uri, fields), expected, "{method} {uri} {fields:?}");
        }
        assert_eq!(verdict("GET", "/", &[]), "400 head_scheme");
    }

    #[test]
    fn a_head_is_bounded() {
        let long = "a".repeat(1000);
        assert_eq!(verdict("GET", "https://a/", &[("x", &long)]), "431 head_too_large");
        assert_eq!(verdict("GET", "https://a/", &[("x", "y"); 11]), "431 head_too_many_fields");
    }
}
