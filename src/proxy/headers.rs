//! What crosses the border: the request a backend is sent, and the answer a client is sent.
//!
//! Both are built anew from what is let through, in one pass over the fields; nothing is sent because it was forgotten. Identity is
//! written last, so a client's `Connection: X-User-Id` cannot take it away.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{
    ACCEPT, ACCEPT_RANGES, AUTHORIZATION, CONNECTION, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE, ETAG, EXPECT, HOST, HeaderName, LAST_MODIFIED, LOCATION,
    ORIGIN, SERVER, TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Uri};

use crate::config::settings::TrustedProxies;
use crate::pipeline::Permit;
use crate::policy::ClientIp;
use crate::policy::cors::{self, Cors};
use crate::policy::envelope::{JSON, quota_headers};
use crate::policy::fields::Fields;
use crate::policy::limit::Quota;
use crate::policy::principal::IDENTITY;
use crate::policy::refusal::Refusal;
use crate::policy::time::millis;
use crate::trace::Trace;

/// X-Request-Id
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Names that are ours to say, written without everything but letters and digits: PHP and CGI read `X_User_Id` and `X.User.Id` as
/// `X-User-Id` (CVE-2025-64484 and its like). Also those with which a client could ask for another method, path or origin than the
/// one that was authorised.
const OURS: &[&str] = &[
    "xworkspaceid",
    "xuserid",
    "xtokenid",
    "xtokenscopes",
    "xrequestid",
    "traceparent",
    "forwarded",
    "xrealip",
    "xclientip",
    "xclusterclientip",
    "xremoteip",
    "xremoteaddr",
    "xoriginatingip",
    "clientip",
    "trueclientip",
    "cfconnectingip",
    "fastlyclientip",
    "xscheme",
    "xurlscheme",
    "frontendhttps",
    // CGI hands this one to programs as HTTP_PROXY (CVE-2016-5385).
    "proxy",
    "xoriginalurl",
    "xoriginaluri",
    "xoriginalpath",
    "xoriginalhost",
    "xoriginalmethod",
    "xoverrideurl",
    "xrewriteurl",
    "xrewriteuri",
    "xhost",
    "xhttphostoverride",
    "xhttpmethod",
    "xhttpmethodoverride",
    "xmethodoverride",
];

/// All names that begin like this are ours too.
const FORWARDED: &str = "xforwarded";

/// The other end of a connection, for all of its requests.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// The same as text.
    text: HeaderValue,
}

impl Peer {
    /// The peer at an address.
    pub fn new(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, text: address_list(&[address]) }
    }
}

/// Who a request came from, as far as that can be believed, and under which id it is told.
#[derive(Debug)]
pub struct Arrival {
    /// Whom it is attributed to.
    pub client: ClientIp,
    /// Kept from the client or made here.
    pub request_id: HeaderValue,
    /// The origin of the page that asks, where a browser says one.
    pub origin: Option<HeaderValue>,
    /// How the client speaks to the first of us: encrypted or not, behind a trusted proxy to that.
    pub is_tls: bool,
    forwarded_for: HeaderValue,
}

impl Arrival {
    /// Reads the head of a request that came from `peer`.
    ///
    /// Behind trusted proxies the client is the rightmost address that is none of theirs; what stands left of it anybody may have
    /// written.
    pub fn new(headers: &HeaderMap, peer: &Peer, is_tls: bool, proxies: &TrustedProxies) -> Self {
        let (client, forwarded_for, is_tls) = match proxies.trusts(peer.address) {
            false => (peer.address, peer.text.clone(), is_tls),
            true => {
                let chain = chain(headers, peer.address, proxies);
                let client = chain.first().copied().unwrap_or(peer.address);
                (client, address_list(&chain), said_tls(headers).unwrap_or(is_tls))
            }
        };
        Self {
            client: ClientIp(client),
            request_id: request_id(headers.get(REQUEST_ID)),
            origin: headers.get(ORIGIN).cloned(),
            is_tls,
            forwarded_for,
        }
    }

    /// The id as text.
    pub fn id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }
}

/// The client and the proxies between it and us, as far back as they are trusted.
fn chain(headers: &HeaderMap, peer: IpAddr, proxies: &TrustedProxies) -> Vec<IpAddr> {
    let said: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(',').collect::<Vec<_>>())
        .collect();
    let mut chain = vec![peer];
    for address in said.iter().rev().map_while(|text| text.trim().parse::<IpAddr>().ok()) {
        chain.push(address.to_canonical());
        if !proxies.trusts(address) {
            break;
        }
    }
    chain.reverse();
    chain
}

/// Whether the proxy in front was spoken to by https, where it says so.
fn said_tls(headers: &HeaderMap) -> Option<bool> {
    match headers.get(FORWARDED_PROTO)?.as_bytes() {
        b"https" => Some(true),
        b"http" => Some(false),
        _ => None,
    }
}

/// As in X-Forwarded-For.
fn address_list(addresses: &[IpAddr]) -> HeaderValue {
    let list = addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    HeaderValue::try_from(list).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// A client's own id if it is 1 to 128 characters of `[A-Za-z0-9._-]`, else a UUIDv7.
fn request_id(sent: Option<&HeaderValue>) -> HeaderValue {
    let is_id = |value: &&HeaderValue| {
        let octets = value.as_bytes();
        (1..=128).contains(&octets.len())
            && octets.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    sent.filter(is_id).cloned().unwrap_or_else(new_request_id)
}

/// A UUIDv7. It has to be one of its kind and need not be hard to guess, so the system is not asked for its random part.
fn new_request_id() -> HeaderValue {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let id = uuid::Builder::from_unix_timestamp_millis(millis(since_epoch), &random).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

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

/// Field names that `Connection` makes hop-by-hop (RFC 9110 section 7.6.1), in lower case.
fn nominated(headers: &HeaderMap) -> Vec<&str> {
    let tokens =
        headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let names = tokens.map(str::trim).filter(|token| {
        !token.is_empty() && !token.eq_ignore_ascii_case("keep-alive") && !token.eq_ignore_ascii_case("close")
    });
    // Matched against the map's own names, which are in lower case already.
    names
        .filter_map(|token| {
            headers.keys().find(|name| name.as_str().eq_ignore_ascii_case(token)).map(HeaderName::as_str)
        })
        .collect()
}

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

fn passes_to_backend(name: &HeaderName, permit: &Permit) -> bool {
    let is_on_token_route = permit.principal().is_some();
    let text = name.as_str();
    let is_answered_here = *name == HOST || *name == EXPECT;
    let is_credential = is_on_token_route && (*name == AUTHORIZATION || *name == COOKIE);
    let is_misread = text.bytes().any(|octet| matches!(octet, b'_' | b'.'));
    !(is_answered_here || is_credential || is_hop_by_hop(text) || is_misread || is_ours(text))
}

/// Whether a field name, squeezed to its letters and digits, is one of ours.
fn is_ours(name: &str) -> bool {
    // All of ours begin with one of five letters; most fields do not.
    if !name.starts_with(|c: char| !c.is_ascii_alphanumeric() || matches!(c, 'x' | 't' | 'f' | 'p' | 'c')) {
        return false;
    }
    let squeezed = || name.bytes().filter(u8::is_ascii_alphanumeric);
    OURS.iter().any(|ours| squeezed().eq(ours.bytes())) || squeezed().take(FORWARDED.len()).eq(FORWARDED.bytes())
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

/// Names WebSocket as the protocol to go on with.
pub fn upgrade(fields: &mut Fields) {
    fields.append(CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.append(UPGRADE, HeaderValue::from_static("websocket"));
}

/// What every answer on a route carries, whoever made it.
#[derive(Debug, Default)]
pub struct Told<'a> {
    /// The X-RateLimit fields, where something was counted.
    pub quota: Option<&'a Quota>,
    /// Whether the draft's fields go with them.
    pub ietf: bool,
    /// Whether the route is limited, so that a backend's own fields are not to be believed.
    pub is_limited: bool,
    /// What is said about calls from pages of other origins, where something is.
    pub cors: Option<&'a Cors>,
}

impl Told<'_> {
    /// Writes the fields of this request, of which none is there yet.
    pub fn write(&self, fields: &mut Fields, arrival: &Arrival) {
        fields.append(REQUEST_ID, arrival.request_id.clone());
        if let Some(cors) = self.cors {
            cors.write(arrival.origin.as_ref(), fields);
        }
        let Some(quota) = self.quota else { return };
        for (name, value) in quota_headers(quota) {
            fields.append(name, value);
        }
        if self.ietf {
            let (name, requests, window) = (&quota.limit.name, quota.requests, quota.limit.rate.window.as_secs());
            let policy = format!(r#""{name}";q={requests};w={window}"#);
            let state = format!(r#""{name}";r={};t={}"#, quota.remaining, quota.retry_after);
            for (name, text) in [(RATELIMIT_POLICY, policy), (RATELIMIT, state)] {
                if let Ok(value) = HeaderValue::try_from(text) {
                    fields.append(name, value);
                }
            }
        }
    }
}

/// The fields of a backend's answer that a client is sent. Hop-by-hop fields, the backend's own software, its request id, and rate
/// limits that are not the route's stay behind.
pub fn answer(received: &HeaderMap, told: &Told<'_>) -> Fields {
    let mut fields = Fields::with_capacity(received.len() + 8);
    let nominated = nominated(received);
    for (name, value) in received {
        if passes_to_client(name, told) && !nominated.contains(&name.as_str()) {
            fields.append(name.clone(), value.clone());
        }
    }
    fields
}

fn passes_to_client(name: &HeaderName, told: &Told<'_>) -> bool {
    let text = name.as_str();
    let is_limit = text.starts_with("x-ratelimit") || *name == RATELIMIT || *name == RATELIMIT_POLICY;
    let is_software = *name == SERVER
        || ["via", "x-powered-by", "x-generator", "x-aspnet-version", "x-runtime", "phpdebugbar-id", "x-clockwork-id"]
            .contains(&text)
        || text.starts_with("x-debug");
    let is_cors = told.cors.is_some() && text.starts_with(cors::PREFIX);
    !(is_hop_by_hop(text) || *name == REQUEST_ID || is_software || is_cors || (is_limit && told.is_limited))
}

/// Takes out the fields that described a body which is being replaced.
pub fn without_representation(fields: &mut Fields) {
    const DESCRIBES: [HeaderName; 11] = [
        CONTENT_LENGTH,
        CONTENT_TYPE,
        CONTENT_ENCODING,
        CONTENT_LANGUAGE,
        CONTENT_RANGE,
        CONTENT_DISPOSITION,
        ETAG,
        LAST_MODIFIED,
        ACCEPT_RANGES,
        LOCATION,
        WWW_AUTHENTICATE,
    ];
    let describes = |name: &HeaderName| {
        DESCRIBES.contains(name)
            || ["content-location", "digest", "content-md5", "content-digest", "repr-digest", "refresh", "link"]
                .contains(&name.as_str())
    };
    fields.retain(|name| !describes(name));
}

/// Whether a request may be sent again after a server may have seen it (RFC 9110 section 9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    [&Method::GET, &Method::HEAD, &Method::OPTIONS, &Method::PUT, &Method::DELETE].contains(&method)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(peer: &str, fields: &[(&str, &str)]) -> Arrival {
        let proxies = TrustedProxies(vec!["10.0.0.0/8".parse().unwrap()]);
        let headers = fields
            .iter()
            .map(|(n, v)| (HeaderName::try_from(*n).unwrap(), HeaderValue::try_from(*v).unwrap()))
            .collect();
        Arrival::new(&headers, &Peer::new(peer.parse().unwrap()), false, &proxies)
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_no_proxy_of_ours() {
        let client = |peer, chain| {
            let arrival = arrival(peer, &[("x-forwarded-for", chain)]);
            (arrival.client.0.to_string(), arrival.forwarded_for.to_str().unwrap().to_owned())
        };
        assert_eq!(client("192.0.2.9", "1.1.1.1"), ("192.0.2.9".into(), "192.0.2.9".into()));
        assert_eq!(client("10.0.0.1", "1.1.1.1, 2.2.2.2"), ("2.2.2.2".into(), "2.2.2.2, 10.0.0.1".into()));
        assert_eq!(
            client("10.0.0.1", "1.1.1.1, 2.2.2.2, 10.0.0.7"),
            ("2.2.2.2".into(), "2.2.2.2, 10.0.0.7, 10.0.0.1".into())
        );
        assert_eq!(client("10.0.0.1", "1.1.1.1, junk"), ("10.0.0.1".into(), "10.0.0.1".into()));
        assert_eq!(client("10.0.0.1", "10.0.0.2"), ("10.0.0.2".into(), "10.0.0.2, 10.0.0.1".into()));
        assert_eq!(client("::ffff:10.0.0.1", "2001:db8::1").0, "2001:db8::1");
    }

    #[test]
    fn only_a_trusted_proxy_says_that_it_was_https() {
        assert!(arrival("10.0.0.1", &[("x-forwarded-proto", "https")]).is_tls);
        assert!(!arrival("192.0.2.9", &[("x-forwarded-proto", "https")]).is_tls);
        assert!(!arrival("10.0.0.1", &[("x-forwarded-proto", "HTTPS, http")]).is_tls);
    }

    #[test]
    fn a_plain_request_id_is_kept_and_any_other_replaced() {
        let id = |sent: &str| arrival("192.0.2.9", &[("x-request-id", sent)]).id().to_owned();
        assert_eq!(id("a.B_c-9"), "a.B_c-9");
        for sent in ["", "a b", "a\"b", &"a".repeat(129)] {
            assert_eq!(uuid::Uuid::parse_str(&id(sent)).unwrap().get_version_num(), 7, "{sent}");
        }
    }

    #[test]
    fn names_of_ours_are_known_in_every_spelling() {
        for name in [
            "x-user-id",
            "x--user-id",
            "xuserid",
            "x-userid",
            "x-u-s-e-r-i-d",
            "x~user|id",
            "-x-user-id",
            "forwarded",
            "x-http-method-override",
            "traceparent",
            "trace-parent",
        ] {
            assert!(is_ours(name), "{name}");
        }
        for name in ["x-user-id2", "x-user", "user-id", "x-requested-with", "accept", "x-custom"] {
            assert!(!is_ours(name), "{name}");
        }
    }

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

    #[test]
    fn fields_that_connection_names_are_hop_by_hop() {
        let headers: HeaderMap = [("connection", "X-A, close"), ("x-a", "1"), ("x-b", "2")]
            .into_iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect();
        assert_eq!(nominated(&headers), ["x-a"]);
    }
}
