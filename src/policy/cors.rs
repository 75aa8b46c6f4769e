//! Which pages of other origins may call this API from a browser (the Fetch standard's CORS protocol).
//!
//! The browser enforces; the gateway says. An origin that is not allowed is told nothing, and its browser keeps the answer from it.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};

use crate::policy::fields::Fields;

/// What every field of the protocol begins with; a backend's own are not passed on.
pub const PREFIX: &str = "access-control-";

const TRUE: HeaderValue = HeaderValue::from_static("true");
const ANY: HeaderValue = HeaderValue::from_static("*");
const VARY_BY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const VARY_BY_PREFLIGHT: HeaderValue =
    HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers");

/// The rules, with the fields that say them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Whose pages.
    pub origins: Origins,
    /// With which methods.
    pub methods: HeaderValue,
    /// With which fields of a request.
    pub headers: HeaderValue,
    /// Which fields of an answer they may read; none when empty.
    pub expose: HeaderValue,
    /// Whether a browser sends what it knows of the user by itself, cookies above all.
    pub credentials: bool,
    /// How many seconds a browser may remember an answer to a preflight.
    pub max_age: HeaderValue,
}

/// Whose pages may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Everybody's. Never with credentials.
    Any,
    /// These, compared octet by octet.
    These(Vec<HeaderValue>),
}

impl Cors {
    /// The fields of the answer to a preflight; `None` for a request that is none.
    pub fn preflight(&self, method: &Method, asked: &HeaderMap) -> Option<Fields> {
        let is_preflight = method == Method::OPTIONS && asked.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let origin = asked.get(ORIGIN).filter(|_| is_preflight)?;
        let mut fields = Fields::default();
        fields.append(VARY, VARY_BY_PREFLIGHT);
        if let Some(allowed) = self.allowed(Some(origin)) {
            self.allow(allowed, &mut fields);
            fields.append(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
            fields.append(ACCESS_CONTROL_ALLOW_HEADERS, self.headers.clone());
            fields.append(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        }
        Some(fields)
    }

    /// Writes the fields of any other answer to a request from a page of `origin`. None of the protocol's own are there yet.
    pub fn write(&self, origin: Option<&HeaderValue>, fields: &mut Fields) {
        // A cache must not give one origin the answer to another; where all have the same there is nothing to tell apart.
        if self.origins != Origins::Any {
            fields.append(VARY, VARY_BY_ORIGIN);
        }
        if let Some(allowed) = self.allowed(origin) {
            self.allow(allowed, fields);
            if !self.expose.is_empty() {
                fields.append(ACCESS_CONTROL_EXPOSE_HEADERS, self.expose.clone());
            }
        }
    }

    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match &self.origins {
            Origins::Any => origin.map(|_| ANY),
            Origins::These(origins) => origin.filter(|origin| origins.contains(origin)).cloned(),
        }
    }

    fn allow(&self, origin: HeaderValue, fields: &mut Fields) {
        fields.append(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            fields.append(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
    }
}

/// Whether a text is an origin as a browser sends it: scheme, host in lower case, and a port where it is not the scheme's own.
pub fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|number| number.to_string() == port);
    let is_own = matches!((scheme, port), ("http", Some("80")) | ("https", Some("443")));
    let is_host = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || b"-.[:]".contains(&octet);
    matches!(scheme, "http" | "https")
        && !host.is_empty()
        && host.bytes().all(is_host)
        && port.is_none_or(is_port)
        && !is_own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: Origins, credentials: bool) -> Cors {
        Cors {
            origins,
            methods: HeaderValue::from_static("GET"),
            headers: HeaderValue::from_static("authorization"),
            expose: HeaderValue::from_static("x-request-id"),
            credentials,
            max_age: HeaderValue::from(600),
        }
    }

    #[test]
    fn only_an_origin_that_is_listed_is_told_anything() {
        let cors = cors(Origins::These(vec![HeaderValue::from_static("https://a.example")]), true);
        let told = |origin: &'static str| {
            let mut fields = Fields::default();
            cors.write(Some(&HeaderValue::from_static(origin)), &mut fields);
            assert_eq!(fields.get(&VARY), Some(&VARY_BY_ORIGIN), "{origin}");
            fields.iter().count() > 1
        };
        assert!(told("https://a.example"));
        for origin in [
            "null",
            "*",
            "",
            "https://a.example.evil",
            "https://evil-a.example",
            "http://a.example",
            "https://A.example",
        ] {
            assert!(!told(origin), "{origin}");
        }
    }

    #[test]
    fn everybody_is_told_the_same_without_a_difference_by_origin() {
        let mut fields = Fields::default();
        cors(Origins::Any, false).write(Some(&HeaderValue::from_static("null")), &mut fields);
        assert_eq!((fields.get(&ACCESS_CONTROL_ALLOW_ORIGIN), fields.get(&VARY)), (Some(&ANY), None));
        let mut fields = Fields::default();
        cors(Origins::Any, false).write(None, &mut fields);
        assert_eq!(fields, Fields::default(), "no page asked");
    }

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for origin in
            ["https://a.example", "http://localhost:3000", "https://[::1]:8443", "http://127.0.0.1", "http://a:443"]
        {
            assert!(is_origin(origin), "{origin}");
        }
        for other in [
            "*",
            "null",
            "",
            "a.example",
            "https://",
            "https://a.example/",
            "https://*.example",
            "https://A.example",
            "https://a.example:443",
            "http://a.example:80",
            "https://a:x",
            "https://a:080",
            "https://a:",
            "ftp://a",
            "https://u@a",
            "https://a b",
        ] {
            assert!(!is_origin(other), "{other}");
        }
    }
}
