//! `traceparent` (W3C Trace Context): a client's trace is continued, or one begins here.

use http::HeaderValue;
use http::header::HeaderName;

/// The header.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The `traceparent` to forward: the trace of `received` where that is valid, else a new one, with a span of ours as the parent.
pub fn forwarded(received: Option<&HeaderValue>) -> HeaderValue {
    let (trace, flags) = received
        .and_then(|value| value.to_str().ok())
        .and_then(continued)
        .map(|(trace, flags)| (trace.to_owned(), flags.to_owned()))
        .unwrap_or_else(|| (format!("{:032x}", fastrand::u128(1..)), "00".to_owned()));
    let value = format!("00-{trace}-{:016x}-{flags}", fastrand::u64(1..));
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static("00"))
}

/// Trace id and flags of a valid version-00 value (section 3.2.2): lower-case hex, and neither id all zeros.
fn continued(value: &str) -> Option<(&str, &str)> {
    let is_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let is_id = |text: &str, length: usize| is_hex(text, length) && text.bytes().any(|b| b != b'0');
    let mut parts = value.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_valid =
        version == "00" && is_id(trace, 32) && is_id(parent, 16) && is_hex(flags, 2) && parts.next().is_none();
    is_valid.then_some((trace, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(value: Option<&str>) -> String {
        let value = value.map(|value| HeaderValue::from_str(value).unwrap());
        forwarded(value.as_ref()).to_str().unwrap().to_owned()
    }

    #[test]
    fn a_valid_trace_is_continued_under_a_span_of_ours() {
        let sent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let got = from(Some(sent));
        assert!(
            got.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && got.ends_with("-01") && got != sent,
            "{got}"
        );
    }

    #[test]
    fn anything_else_begins_a_new_trace() {
        for value in [
            None,
            Some("x"),
            Some("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            Some("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"),
            Some("00-00000000000000000000000000000000-00f067aa0ba902b7-01"),
            Some("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"),
            Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x"),
        ] {
            let got = from(value);
            assert!(continued(&got).is_some() && !got.contains("4bf92f3577b34da6a3ce929d0e0e4736"), "{value:?} {got}");
        }
    }
}
