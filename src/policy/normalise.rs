//! A backend's own error body → the envelope.
//!
//! Nothing of a backend's error reaches a client unless it is known to be harmless: an envelope passes as it is, a sentence of a
//! 4xx passes when it is plain, field messages of a 422 pass, and everything else is replaced by the sentence of the status.
//! The bodies this has to read are Laravel's (Illuminate/Foundation/Exceptions/Handler.php), Symfony's, RFC 9457's, and whatever
//! php-fpm and nginx answer when PHP does not.

use http::StatusCode;
use serde_json::{Map, Value};

use crate::policy::envelope::{Envelope, sentence};
use crate::policy::json;
use crate::policy::refusal::{ErrorCode, FieldErrors};

/// `errors:` — what happens to a backend's own error bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendErrors {
    /// They become envelopes.
    Normalise {
        /// At most this much of a body is read.
        body_bytes: usize,
        /// Hosts of ours that no message may name.
        private_hosts: Vec<String>,
    },
    /// They pass untouched.
    Pass,
}

/// What became of a backend's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalised {
    /// What the client is sent.
    pub answer: Answer,
    /// Whether the body held something internal.
    pub leaked: bool,
}

/// What the client is sent for a backend's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The backend's body, byte for byte.
    Untouched,
    /// This instead.
    Replaced(Envelope),
}

/// The keys under which frameworks put what is nobody's business.
const LEAK_KEYS: [&str; 4] = ["exception", "file", "line", "trace"];

/// Laravel's "page expired": a session matter that a token client can only read as 401.
pub const PAGE_EXPIRED: u16 = 419;

/// The status a client is sent for a backend's error status.
pub fn true_status(status: StatusCode) -> StatusCode {
    if status.as_u16() == PAGE_EXPIRED { StatusCode::UNAUTHORIZED } else { status }
}

/// Whether a redirect leads to a login page, which is how Laravel says 401 to a client it takes for a browser.
pub fn is_login_redirect(status: StatusCode, location: Option<&str>) -> bool {
    let path = location.unwrap_or_default().split(['?', '#']).next().unwrap_or_default();
    status.is_redirection()
        && path.trim_end_matches('/').rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case("login"))
}

/// Reads a complete, uncompressed error body. Anything else is [`Envelope::standard`] without a look.
pub fn normalise(status: StatusCode, body: &[u8], private_hosts: &[String]) -> Normalised {
    let Some(Value::Object(object)) = json::read(body) else {
        let leaked = leaks_in_text(&String::from_utf8_lossy(body));
        return replaced(Envelope::standard(true_status(status)), leaked);
    };
    let leaked = leaks_in_object(&object);
    let clean = Cleaner { status: true_status(status), private_hosts };
    match backend_envelope(&object) {
        Some(_) if !leaked && clean.status == status => Normalised { answer: Answer::Untouched, leaked },
        Some(error) if clean.status == status => replaced(clean.rebuilt(error), leaked),
        _ => replaced(clean.translated(&object), leaked),
    }
}

fn replaced(envelope: Envelope, leaked: bool) -> Normalised {
    Normalised { answer: Answer::Replaced(envelope), leaked }
}

/// The `error` object of a body that already is an envelope.
fn backend_envelope(object: &Map<String, Value>) -> Option<&Map<String, Value>> {
    let is_failure = object.get("success") == Some(&Value::Bool(false));
    let error = object.get("error")?.as_object()?;
    (is_failure && error.get("code")?.is_string()).then_some(error)
}

struct Cleaner<'a> {
    status: StatusCode,
    private_hosts: &'a [String],
}

impl Cleaner<'_> {
    /// An envelope that held a leak: its code, its sentence where that is harmless, its field messages.
    fn rebuilt(&self, error: &Map<String, Value>) -> Envelope {
        let is_code = |code: &&str| {
            (1..=64).contains(&code.len())
                && code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
                && !leaks_in_text(code)
        };
        let code = error.get("code").and_then(Value::as_str).filter(is_code);
        let code = code.unwrap_or_else(|| ErrorCode::of(self.status).as_str());
        Envelope::coded(self.status, code, self.message(error.get("message")), &field_errors(error.get("details")))
    }

    /// A framework's JSON: `message` and `errors` of Laravel, `detail` or `title` of RFC 9457.
    fn translated(&self, object: &Map<String, Value>) -> Envelope {
        let said = ["message", "detail", "title"].into_iter().find_map(|key| object.get(key));
        let fields = match self.status {
            StatusCode::UNPROCESSABLE_ENTITY => field_errors(object.get("errors")),
            _ => FieldErrors::new(),
        };
        Envelope::with(self.status, self.message(said), &fields)
    }

    /// The backend's sentence where a client may read it, else the standard one. A 5xx never speaks for itself.
    fn message<'v>(&self, said: Option<&'v Value>) -> &'v str {
        said.and_then(Value::as_str)
            .filter(|text| self.status.is_client_error() && is_plain_sentence(text) && !self.names_a_host(text))
            .unwrap_or_else(|| sentence(self.status))
    }

    /// An address, a port or a host of ours: `cURL error 7: Failed to connect to 127.0.0.1 port 9000`.
    fn names_a_host(&self, text: &str) -> bool {
        let lower = text.to_lowercase();
        let words: Vec<&str> = lower.split(|c: char| c.is_whitespace() || "()'\",;!?@".contains(c)).collect();
        let is_number = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
        let port_follows = words.windows(2).any(|pair| matches!(pair, [word, next] if word.trim_end_matches(':') == "port" && next.starts_with(|c: char| c.is_ascii_digit())));
        port_follows
            || words.iter().any(|word| {
                let word = word.trim_end_matches(['.', ':']);
                let host = word.split(':').next().unwrap_or_default();
                let has_port = word.split_once(':').is_some_and(|(host, port)| is_number(port) && !is_number(host));
                let is_v4 = host.split('.').count() == 4 && host.split('.').all(is_number);
                has_port
                    || is_v4
                    || word.parse::<std::net::Ipv6Addr>().is_ok()
                    || word.contains("::")
                    || host == "localhost"
                    || self.private_hosts.iter().any(|own| own == host)
            })
    }
}

/// 1 to 200 characters that a sentence is made of, and nothing that looks like the inside of a program.
fn is_plain_sentence(text: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || ".,;:!?'\"()%@- ".contains(c);
    (1..=200).contains(&text.chars().count())
        && text.chars().all(is_plain)
        && !text.trim().is_empty()
        && !leaks_in_text(text)
}

/// `field → list of messages`; messages that leak are left out, and a field with none left says that it is invalid.
fn field_errors(errors: Option<&Value>) -> FieldErrors {
    let mut fields = FieldErrors::new();
    let Some(errors) = errors.and_then(Value::as_object) else { return fields };
    for (field, messages) in errors {
        let messages = match messages {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            Value::String(one) => vec![one.as_str()],
            _ => vec![],
        };
        if messages.is_empty() || field.contains('\\') || leaks_in_text(field) {
            continue;
        }
        let mut clean: Vec<String> =
            messages.into_iter().filter(|text| !leaks_in_text(text)).map(str::to_owned).collect();
        if clean.is_empty() {
            clean.push("The value is invalid.".to_owned());
        }
        fields.insert(field.clone(), clean);
    }
    fields
}

/// Whether a body's object, at any depth, holds a key or a text of a program's inside.
fn leaks_in_object(object: &Map<String, Value>) -> bool {
    object.iter().any(|(key, value)| match (key.as_str(), value) {
        // A form may well have a field called `file`: where keys are field names, they count only if their value is no list of messages.
        ("errors" | "details", Value::Object(fields)) => fields.iter().any(|(field, value)| match value {
            Value::Array(messages) => leaks_in_text(field) || messages.iter().any(leaks_in_value),
            value => is_leak_key(field) || leaks_in_text(field) || leaks_in_value(value),
        }),
        (key, value) => is_leak_key(key) || leaks_in_text(key) || leaks_in_value(value),
    })
}

fn is_leak_key(key: &str) -> bool {
    LEAK_KEYS.iter().any(|leak| key.eq_ignore_ascii_case(leak))
}

fn leaks_in_value(value: &Value) -> bool {
    match value {
        Value::String(text) => leaks_in_text(text),
        Value::Array(items) => items.iter().any(leaks_in_value),
        Value::Object(object) => leaks_in_object(object),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// SQL, a PHP class name, a file of the application, a stack frame.
fn leaks_in_text(text: &str) -> bool {
    let lower = text.to_lowercase();
    let is_sql = [
        "sqlstate",
        "(sql:",
        "select * from",
        "insert into `",
        "insert into \"",
        "delete from `",
        "delete from \"",
        " where `",
        " where \"",
    ]
    .iter()
    .any(|mark| lower.contains(mark));
    let is_file = [".php", "/var/www", "/vendor/", "stack trace", "#0 "].iter().any(|mark| lower.contains(mark));
    is_sql || is_file || has_class_name(text)
}

/// `App\Models\Contact`: a backslash between two identifiers.
fn has_class_name(text: &str) -> bool {
    let octets = text.as_bytes();
    let is_identifier = |octet: Option<&u8>| octet.is_some_and(|o| o.is_ascii_alphanumeric() || *o == b'_');
    octets.iter().enumerate().any(|(at, octet)| {
        *octet == b'\\' && at > 0 && is_identifier(octets.get(at - 1)) && is_identifier(octets.get(at + 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(status: u16, body: &str) -> (String, bool) {
        let hosts = ["contacts-backend".to_owned()];
        let normalised = normalise(StatusCode::from_u16(status).unwrap(), body.as_bytes(), &hosts);
        let text = match normalised.answer {
            Answer::Untouched => "untouched".to_owned(),
            Answer::Replaced(envelope) => {
                let body: Value = serde_json::from_slice(&envelope.body).unwrap();
                let error = &body["error"];
                let word = |key: &str| error[key].as_str().unwrap().to_owned();
                format!("{} {} {} {}", envelope.status.as_u16(), word("code"), word("message"), error["details"])
            }
        };
        (text, normalised.leaked)
    }

    fn standard(status: u16) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        format!("{} {} {} {{}}", status.as_u16(), ErrorCode::of(status).as_str(), sentence(status))
    }

    #[test]
    fn an_envelope_passes_byte_for_byte() {
        for body in [
            r#"{"success":false,"error":{"code":"NOT_FOUND","message":"No such contact.","details":{}}}"#,
            r#"{ "error": {"code":"CONTACT_LOCKED"}, "success": false, "more": [1] }"#,
            r#"{"success":false,"error":{"code":"VALIDATION_ERROR","message":"x","details":{"file":["The file field is required."]}}}"#,
        ] {
            assert_eq!(read(409, body), ("untouched".into(), false), "{body}");
        }
    }

    #[test]
    fn an_envelope_that_leaks_is_rebuilt_from_what_is_clean() {
        assert_eq!(
            read(
                409,
                r#"{"success":false,"error":{"code":"CONTACT_LOCKED","message":"Locked.","details":{},"trace":[{"file":"/var/www/a.php"}]}}"#
            ),
            ("409 CONTACT_LOCKED Locked. {}".into(), true)
        );
        assert_eq!(
            read(
                500,
                r#"{"success":false,"error":{"code":"SERVER_ERROR","message":"SQLSTATE[23000]: Integrity","details":{}}}"#
            ),
            ("500 SERVER_ERROR An internal server error occurred. {}".into(), true)
        );
    }

    #[test]
    fn a_code_that_leaks_is_the_one_of_the_status() {
        let body = r#"{"success":false,"error":{"code":"SQLSTATE_42S02","message":"No."}}"#;
        assert_eq!(read(409, body), ("409 BAD_REQUEST No. {}".into(), true));
    }

    #[test]
    fn an_envelope_that_hides_a_leak_behind_a_second_name_does_not_pass() {
        let body = r#"{"success":false,"error":{"code":"X","trace":["index.php"]},"error":{"code":"X"}}"#;
        assert_eq!(read(409, body), (standard(409), true));
    }

    #[test]
    fn a_programs_inside_is_found_among_the_details_too() {
        let body = r#"{"success":false,"error":{"code":"X","message":"No.","details":{"exception":"RuntimeException","line":42}}}"#;
        assert_eq!(read(409, body), ("409 X No. {\"exception\":[\"RuntimeException\"]}".into(), true));
    }

    #[test]
    fn laravels_validation_errors_become_details() {
        assert_eq!(
            read(422, r#"{"message":"The email field is required. (and 1 more error)","errors":{"email":["The email field is required."],"file":["The file field is required."]}}"#),
            (r#"422 VALIDATION_ERROR The email field is required. (and 1 more error) {"email":["The email field is required."],"file":["The file field is required."]}"#.into(), false)
        );
        assert_eq!(
            read(422, r#"{"message":"x","errors":{"a":"one","b":{"c":1}}}"#).0,
            r#"422 VALIDATION_ERROR x {"a":["one"]}"#
        );
        assert_eq!(
            read(422, r#"{"message":"x","errors":{"a":["SQLSTATE[HY000]"]}}"#),
            (r#"422 VALIDATION_ERROR x {"a":["The value is invalid."]}"#.into(), true)
        );
        assert_eq!(
            read(422, r#"{"message":"x","errors":{"/var/www/a.php":["Invalid."],"a":["Required."]}}"#),
            (r#"422 VALIDATION_ERROR x {"a":["Required."]}"#.into(), true)
        );
    }

    #[test]
    fn laravels_defaults_become_the_standard_sentences_where_they_say_too_much() {
        for (status, body, leaked) in [
            (404, r#"{"message":"No query results for model [App\\Models\\Contact] 42"}"#, true),
            (404, r#"{"message":"The route api/v1/x could not be found."}"#, false),
            (404, r#"{"message":""}"#, false),
            (
                405,
                r#"{"message":"The PUT method is not supported for route api/v1/x. Supported methods: GET, HEAD, POST."}"#,
                false,
            ),
            (500, r#"{"message":"Server Error"}"#, false),
            (503, r#"{"message":"Service Unavailable"}"#, false),
            (
                500,
                r#"{"message":"x","exception":"Illuminate\\Database\\QueryException","file":"/var/www/x.php","line":760,"trace":[]}"#,
                true,
            ),
            (502, "<html><head><title>502 Bad Gateway</title></head></html>", false),
            (500, "<!DOCTYPE html><pre>#0 /var/www/html/public/index.php(17)</pre>", true),
            (400, "Bad Request", false),
            (400, "", false),
            (400, "[]", false),
            (400, "\"text\"", false),
            (400, r#"{"success":true,"data":{}}"#, false),
            (400, r#"{"success":false,"error":"text"}"#, false),
            (400, r#"{"message":"cURL error 7: Failed to connect to 127.0.0.1 port 9000"}"#, false),
            (400, r#"{"message":"Connection refused: redis:6379"}"#, false),
            (400, r#"{"message":"Could not reach contacts-backend."}"#, false),
            (400, r#"{"message":"Could not reach localhost."}"#, false),
            (400, r#"{"message":"Dial to port 5432 failed"}"#, false),
            (400, r#"{"message":"Login of root@contacts-backend failed"}"#, false),
            (400, r#"{"message":"Login of user@10.0.0.5 failed"}"#, false),
            (400, r#"{"message":"Connect to 2001:db8:1:2:3:4:5:6 failed"}"#, false),
            (400, r#"{"message":"a_b"}"#, false),
        ] {
            assert_eq!(read(status, body), (standard(status), leaked), "{body}");
        }
    }

    #[test]
    fn a_plain_sentence_of_a_4xx_is_kept() {
        for (status, body, said) in [
            (403, r#"{"message":"This action is unauthorized."}"#, "This action is unauthorized."),
            (429, r#"{"message":"Too Many Attempts."}"#, "Too Many Attempts."),
            (
                409,
                r#"{"type":"about:blank","title":"Conflict","detail":"The campaign is already sent.","status":409}"#,
                "The campaign is already sent.",
            ),
            (409, r#"{"title":"Conflict"}"#, "Conflict"),
            (400, r#"{"message":"Das Feld „x“ fehlt"}"#, sentence(StatusCode::BAD_REQUEST)),
            (400, r#"{"message":"Größe (in %) fehlt: Straße, 12:30!"}"#, "Größe (in %) fehlt: Straße, 12:30!"),
            (400, r#"{"message":"Please select a contact from the list."}"#, "Please select a contact from the list."),
        ] {
            let expected =
                format!("{status} {} {said} {{}}", ErrorCode::of(StatusCode::from_u16(status).unwrap()).as_str());
            assert_eq!(read(status, body).0, expected, "{body}");
        }
        let long = format!(r#"{{"message":"{}"}}"#, "a".repeat(201));
        assert_eq!(read(400, &long).0, standard(400));
    }

    #[test]
    fn page_expired_is_unauthenticated_even_as_an_envelope() {
        assert_eq!(read(419, r#"{"message":"CSRF token mismatch."}"#).0, "401 UNAUTHENTICATED CSRF token mismatch. {}");
        assert_eq!(read(419, r#"{"success":false,"error":{"code":"X"}}"#).0, standard(401));
        assert_eq!(read(419, "").0, standard(401));
    }

    #[test]
    fn a_redirect_to_a_login_page_is_recognised() {
        let is = |status, location| is_login_redirect(StatusCode::from_u16(status).unwrap(), Some(location));
        assert!(is(302, "http://localhost/login") && is(302, "/login?next=x") && is(303, "/auth/Login/"));
        assert!(!is(302, "/contacts/7") && !is(201, "/login") && !is(302, "/login/help") && !is(302, "/prelogin"));
    }

    /// JSON as backends make it: the words that matter and texts that leak, at any depth.
    fn body() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "[A-Za-z .]{0,20}",
            Just("App\\Models\\Contact".to_owned()),
            Just("SQLSTATE[42S02]".to_owned()),
            Just("/var/www/html/x.php".to_owned()),
        ];
        let leaf = prop_oneof![
            text.prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            let key = prop::sample::select(vec![
                "success",
                "error",
                "code",
                "message",
                "details",
                "errors",
                "exception",
                "file",
                "line",
                "trace",
                "email",
            ]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key, inner), 0..6)
                    .prop_map(|entries| entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_a_backend_says_the_client_reads_an_envelope_without_leaks(status in 400u16..600, body in body()) {
            let text = body.to_string();
            let normalised = normalise(StatusCode::from_u16(status).unwrap(), text.as_bytes(), &[]);
            match normalised.answer {
                Answer::Replaced(envelope) => {
                    let value: Value = serde_json::from_slice(&envelope.body).unwrap();
                    prop_assert!(backend_envelope(value.as_object().unwrap()).is_some());
                    prop_assert!(!leaks_in_value(&value), "{}", value);
                }
                Answer::Untouched => prop_assert!(!leaks_in_value(&body) && backend_envelope(body.as_object().unwrap()).is_some()),
            }
        }
    }
}
