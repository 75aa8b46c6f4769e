//! The one error envelope, and how a [`Refusal`] looks on the wire.
//!
//! Every status has one sentence, written for the caller; nothing else ever stands in `message` of an error of ours.

use bytes::Bytes;
use http::header::{ALLOW, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::policy::limit::Quota;
use crate::policy::refusal::{ErrorCode, FieldErrors, Refusal};

/// X-RateLimit-Limit
pub const RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
/// X-RateLimit-Remaining
pub const RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
/// X-RateLimit-Reset
pub const RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// `Content-Type` of every envelope.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The challenge of a request without a token (RFC 6750 section 3: no error code then).
pub const CHALLENGE: HeaderValue = HeaderValue::from_static(r#"Bearer realm="mailtrixy""#);
/// The challenge of a request whose token is not valid.
pub const CHALLENGE_INVALID: HeaderValue =
    HeaderValue::from_static(r#"Bearer realm="mailtrixy", error="invalid_token""#);

macro_rules! sentences {
    ($($status:literal $code:literal $sentence:literal)*) => {
        /// Status → sentence and finished body. A status without a line of its own has [`OTHER_4XX`] or the 500 one.
        fn standard(status: StatusCode) -> Option<(&'static str, &'static str)> {
            match status.as_u16() {
                $($status => Some((
                    $sentence,
                    concat!(
                        r#"{"success":false,"error":{"code":""#, $code,
                        r#"","message":""#, $sentence, r#"","details":{}}}"#
                    ),
                )),)*
                _ => None,
            }
        }
    };
}

sentences! {
    400 "BAD_REQUEST" "The request is malformed."
    401 "UNAUTHENTICATED" "Missing or invalid API token."
    403 "FORBIDDEN" "This token lacks the required scope for this endpoint."
    404 "NOT_FOUND" "The requested resource does not exist."
    405 "BAD_REQUEST" "This method is not allowed for this endpoint."
    408 "BAD_REQUEST" "The request took too long to arrive."
    413 "BAD_REQUEST" "The request body is too large."
    422 "VALIDATION_ERROR" "The given data was invalid."
    429 "RATE_LIMITED" "Rate limit exceeded, retry after the specified window."
    431 "BAD_REQUEST" "The request headers are too large."
    500 "SERVER_ERROR" "An internal server error occurred."
    501 "SERVER_ERROR" "The request could not be processed."
    502 "SERVER_ERROR" "The service gave no valid answer."
    503 "SERVER_ERROR" "The service is temporarily unavailable, please retry."
    504 "SERVER_ERROR" "The service took too long to answer."
    505 "SERVER_ERROR" "The request could not be processed."
}

const OTHER_4XX: &str = "The request could not be processed.";

/// The sentence of a status.
pub fn sentence(status: StatusCode) -> &'static str {
    match standard(status) {
        Some((sentence, _)) => sentence,
        None if status.is_client_error() => OTHER_4XX,
        None => sentence(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// An answer of ours as the client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The true HTTP status.
    pub status: StatusCode,
    /// The complete JSON body.
    pub body: Bytes,
}

impl Envelope {
    /// The envelope of a status with its standard sentence and no details.
    pub fn standard(status: StatusCode) -> Self {
        match standard(status) {
            Some((_, body)) => Self { status, body: Bytes::from_static(body.as_bytes()) },
            None => Self::with(status, sentence(status), &FieldErrors::new()),
        }
    }

    /// The envelope of a status with a sentence and field errors of its own.
    pub fn with(status: StatusCode, message: &str, details: &FieldErrors) -> Self {
        Self::coded(status, ErrorCode::of(status).as_str(), message, details)
    }

    /// The same with a code that a backend chose.
    pub fn coded(status: StatusCode, code: &str, message: &str, details: &FieldErrors) -> Self {
        let details: Value = details.iter().map(|(field, messages)| (field.clone(), json!(messages))).collect();
        let body = format!(
            r#"{{"success":false,"error":{{"code":{},"message":{},"details":{details}}}}}"#,
            Value::from(code),
            Value::from(message),
        );
        Self { status, body: body.into() }
    }

    /// The success envelope that tells a caller where they stand with their limits.
    pub fn rate_limits(quotas: &[Quota]) -> Self {
        let entry = |quota: &Quota| {
            json!({
                "name": &*quota.limit.name,
                "by": quota.limit.by.to_string(),
                "limit": quota.requests,
                "window": quota.limit.rate.window.as_secs(),
                "remaining": quota.remaining,
                "reset": quota.reset.0,
            })
        };
        let body = json!({ "success": true, "data": quotas.iter().map(entry).collect::<Vec<_>>() });
        Self { status: StatusCode::OK, body: body.to_string().into() }
    }

    /// The envelope of a refusal.
    pub fn of(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Invalid(fields) => {
                let status = refusal.status();
                Self::with(status, sentence(status), fields)
            }
            other => Self::standard(other.status()),
        }
    }
}

/// The header fields that go with a refusal, beside those that every answer has.
pub fn headers(refusal: &Refusal) -> Vec<(HeaderName, HeaderValue)> {
    match refusal {
        Refusal::NoToken => vec![(WWW_AUTHENTICATE, CHALLENGE)],
        Refusal::InvalidToken(_) => vec![(WWW_AUTHENTICATE, CHALLENGE_INVALID)],
        Refusal::MissingScope(scope) => {
            let challenge = format!(r#"Bearer error="insufficient_scope", scope="{scope}""#);
            HeaderValue::try_from(challenge).map(|value| vec![(WWW_AUTHENTICATE, value)]).unwrap_or_default()
        }
        Refusal::MethodNotAllowed(methods) => {
            HeaderValue::try_from(methods.to_string()).map(|value| vec![(ALLOW, value)]).unwrap_or_default()
        }
        Refusal::RateLimited(quota) => vec![(RETRY_AFTER, HeaderValue::from(quota.retry_after))],
        Refusal::TooManyFailures(seconds) | Refusal::CircuitOpen(seconds) => {
            vec![(RETRY_AFTER, HeaderValue::from(*seconds))]
        }
        Refusal::Overloaded | Refusal::StoreUnavailable(_) | Refusal::NoHealthyServer | Refusal::UpstreamBusy => {
            vec![(RETRY_AFTER, HeaderValue::from_static("1"))]
        }
        _ => vec![],
    }
}

/// The X-RateLimit fields of an answer on a limited route.
pub fn quota_headers(quota: &Quota) -> [(HeaderName, HeaderValue); 3] {
    let is_whole = quota.requests == quota.limit.rate.requests;
    let limit = if is_whole { quota.limit.requests_header.clone() } else { HeaderValue::from(quota.requests) };
    [
        (RATELIMIT_LIMIT, limit),
        (RATELIMIT_REMAINING, HeaderValue::from(quota.remaining)),
        (RATELIMIT_RESET, HeaderValue::from(quota.reset.0)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(envelope: &Envelope) -> &str {
        std::str::from_utf8(&envelope.body).unwrap()
    }

    #[test]
    fn a_standard_envelope_is_the_documented_one() {
        assert_eq!(
            text(&Envelope::standard(StatusCode::NOT_FOUND)),
            r#"{"success":false,"error":{"code":"NOT_FOUND","message":"The requested resource does not exist.","details":{}}}"#
        );
        assert_eq!(
            text(&Envelope::standard(StatusCode::IM_A_TEAPOT)),
            r#"{"success":false,"error":{"code":"BAD_REQUEST","message":"The request could not be processed.","details":{}}}"#
        );
        assert_eq!(
            text(&Envelope::standard(StatusCode::INSUFFICIENT_STORAGE)),
            r#"{"success":false,"error":{"code":"SERVER_ERROR","message":"An internal server error occurred.","details":{}}}"#
        );
    }

    #[test]
    fn every_error_status_has_the_code_its_table_says() {
        for status in (400..600).map(|code| StatusCode::from_u16(code).unwrap()) {
            let body: Value = serde_json::from_slice(&Envelope::standard(status).body).unwrap();
            assert_eq!(body["error"]["code"], ErrorCode::of(status).as_str(), "{status}");
            assert_eq!(body["error"]["message"], sentence(status), "{status}");
            assert_eq!(body["error"]["details"], json!({}), "{status}");
            assert_eq!(body["success"], false);
        }
    }

    #[test]
    fn details_list_the_messages_of_each_field() {
        let fields = FieldErrors::from([("page".into(), vec!["The page field must be at least 1.".into()])]);
        assert_eq!(
            text(&Envelope::of(&Refusal::Invalid(fields))),
            r#"{"success":false,"error":{"code":"VALIDATION_ERROR","message":"The given data was invalid.","details":{"page":["The page field must be at least 1."]}}}"#
        );
    }

    #[test]
    fn a_message_cannot_break_out_of_its_string() {
        let envelope = Envelope::coded(StatusCode::BAD_REQUEST, "A\"B", "x\"},{", &FieldErrors::new());
        let body: Value = serde_json::from_slice(&envelope.body).unwrap();
        assert_eq!((&body["error"]["code"], &body["error"]["message"]), (&json!("A\"B"), &json!("x\"},{")));
    }
}
