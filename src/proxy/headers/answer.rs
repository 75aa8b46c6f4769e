//! The answer that a client is sent.

use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, HeaderName, LAST_MODIFIED, LOCATION, SERVER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue};

use crate::policy::cors::{self, Cors};
use crate::policy::envelope::quota_headers;
use crate::policy::fields::Fields;
use crate::policy::limit::Quota;
use crate::proxy::headers::arrival::{Arrival, REQUEST_ID};
use crate::proxy::headers::names::{is_hop_by_hop, nominated};

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

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
