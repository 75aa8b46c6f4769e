//! Names of fields that do not pass: ours, and those of one connection.

use http::HeaderMap;
use http::header::{CONNECTION, HeaderName};

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

/// Whether a field name, squeezed to its letters and digits, is one of ours.
pub(super) fn is_ours(name: &str) -> bool {
    // All of ours begin with one of five letters; most fields do not.
    if !name.starts_with(|c: char| !c.is_ascii_alphanumeric() || matches!(c, 'x' | 't' | 'f' | 'p' | 'c')) {
        return false;
    }
    let squeezed = || name.bytes().filter(u8::is_ascii_alphanumeric);
    OURS.iter().any(|ours| squeezed().eq(ours.bytes())) || squeezed().take(FORWARDED.len()).eq(FORWARDED.bytes())
}

/// Field names that `Connection` makes hop-by-hop (RFC 9110 section 7.6.1), in lower case.
pub(super) fn nominated(headers: &HeaderMap) -> Vec<&str> {
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

pub(super) fn is_hop_by_hop(name: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

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
    fn fields_that_connection_names_are_hop_by_hop() {
        let headers: HeaderMap = [("connection", "X-A, close"), ("x-a", "1"), ("x-b", "2")]
            .into_iter()
            .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
            .collect();
        assert_eq!(nominated(&headers), ["x-a"]);
    }
}
