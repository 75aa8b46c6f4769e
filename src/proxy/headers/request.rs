//! The request that a backend is sent.

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method, Uri};

use crate::pipeline::Permit;
use crate::policy::envelope::JSON;
use crate::policy::fields::Fields;
use crate::policy::principal::IDENTITY;
use crate::policy::refusal::Refusal;
use crate::proxy::headers::arrival::{Arrival, FORWARDED_FOR, FORWARDED_PROTO, REQUEST_ID};
use crate::proxy::headers::names::{is_hop_by_hop, is_ours, nominated};
use crate::trace::Trace;

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The head of a request that goes to a backend.
#[derive(Debug)]
pub struct RequestHead {
    /// As the client said.
    pub method: Method,
    /// Path and query.
    pub target: Uri,
    /// All fields.
    pub fields: Fields,
}

/// The request a backend is sent for a permitted one. `has_body` says whether a body follows; without a Content-Length it is chunked.
pub fn request(
    sent: &Parts,
    permit: &Permit,
    arrival: &Arrival,
    trace: &Trace,
    host: &HeaderValue,
    has_body: bool,
) -> Result<RequestHead, Refusal> {
    let mut fields = Fields::with_capacity(sent.headers.len() + 12);
    let nominated = nominated(&sent.headers);
    for (name, value) in &sent.headers {
        if passes_to_backend(name, permit) && !nominated.contains(&name.as_str()) {
            fields.append(name.clone(), value.clone());
        }
    }
    if !accepts_json_or_something_special(fields.get(&ACCEPT)) {
        fields.set(ACCEPT, JSON);
    }
    if has_body && fields.get(&CONTENT_LENGTH).is_none() {
        fields.append(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    identify(&mut fields, permit);
    fields.append(HOST, host.clone());
    fields.append(REQUEST_ID, arrival.request_id.clone());
    trace.write(&sent.headers, &mut fields);
    fields.append(FORWARDED_FOR, arrival.forwarded_for.clone());
    fields.append(FORWARDED_PROTO, HeaderValue::from_static(if arrival.is_tls { "https" } else { "http" }));
    if let Some(host) = authority(sent) {
        fields.append(FORWARDED_HOST, host);
    }
    Ok(RequestHead { method: sent.method.clone(), target: permit.target(&sent.uri)?, fields })
}

/// Which host the client asked for: Host in HTTP/1, `:authority` in HTTP/2.
fn authority(sent: &Parts) -> Option<HeaderValue> {
    let host = sent.headers.get(HOST).cloned();
    host.or_else(|| sent.uri.authority().and_then(|authority| HeaderValue::try_from(authority.as_str()).ok()))
}

fn identify(fields: &mut Fields, permit: &Permit) {
    if let Some(principal) = permit.principal() {
        for (name, value) in IDENTITY.into_iter().zip(principal.headers()) {
            fields.append(name, value.clone());
        }
    }
    if let Some(authorization) = permit.authorization() {
        fields.append(AUTHORIZATION, authorization.clone());
    }
}

fn passes_to_backend(name: &HeaderName, permit: &Permit) -> bool {
    let is_on_token_route = permit.principal().is_some();
    let text = name.as_str();
    let is_answered_here = *name == HOST || *name == EXPECT;
    let is_credential = is_on_token_route && (*name == AUTHORIZATION || *name == COOKIE);
    let is_misread = text.bytes().any(|octet| matches!(octet, b'_' | b'.'));
    !(is_answered_here || is_credential || is_hop_by_hop(text) || is_misread || is_ours(text))
}

/// Laravel answers HTML, or a redirect to a login page, unless the client wants JSON (Illuminate's `expectsJson`). A client that asks
/// for a type of its own (text/csv, text/event-stream) gets it; one that takes anything, or HTML, is a client of a JSON API.
fn accepts_json_or_something_special(accept: Option<&HeaderValue>) -> bool {
    let Some(accept) = accept.and_then(|value| value.to_str().ok()) else { return false };
    let is_general = |range: &str| {
        matches!(
            range,
            "" | "*/*"
                | "text/*"
                | "application/*"
                | "text/html"
                | "application/xhtml+xml"
                | "application/xml"
                | "image/*"
        ) || range.starts_with("image/")
    };
    let ranges = || accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
    let is_json_first = ranges().next().is_some_and(|first| first.contains("/json") || first.contains("+json"));
    is_json_first || ranges().any(|range| !is_general(range) && !range.contains("json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_takes_anything_takes_json() {
        let asked = |accept: &'static str| accepts_json_or_something_special(Some(&HeaderValue::from_static(accept)));
        for accept in [
            "*/*",
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
            "text/html, application/json",
        ] {
            assert!(!asked(accept), "{accept}");
        }
        assert!(!accepts_json_or_something_special(None));
        for accept in [
            "application/json",
            "application/vnd.api+json, */*",
            "text/csv",
            "text/event-stream",
            "text/event-stream, */*",
        ] {
            assert!(asked(accept), "{accept}");
        }
    }
}
