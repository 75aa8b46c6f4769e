//! The contract of success bodies: `{"success":true,"data":…}`, and on a list `meta` beside them.
//!
//! It is the application's own (Laravel's resources have no `success`, and its paginators more than `meta`), so a deploy that forgets
//! the wrapping breaks clients without an error anywhere. Here it is only judged; nobody is refused for it.

use std::fmt;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// `errors.contract: watch` — how closely the contract is watched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Watch {
    /// The part of all success bodies that is looked at, above 0 and up to 1.
    pub sample: f64,
    /// A longer body is not looked at, compressed or decoded.
    pub bytes: usize,
}

/// What a route answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whatever stands in `data`.
    Resource,
    /// A page of a list, which `meta` tells about.
    List,
}

/// What of a body is not as agreed; the `field` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drift {
    /// It is no JSON object, or one in which a name stands twice.
    Body,
    /// `success` is not true.
    Success,
    /// There is no `data`.
    Data,
    /// `meta` is no object.
    Meta,
}

impl Drift {
    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Success => "success",
            Self::Data => "data",
            Self::Meta => "meta",
        }
    }

    /// What is wrong, for the log.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Body => "a success body is not one JSON object",
            Self::Success => "`success` of a success body is not true",
            Self::Data => "a success body has no `data`",
            Self::Meta => "`meta` of a list is not an object",
        }
    }
}

/// Whether an answer has a body that the contract is about: a success, whole, and JSON.
pub fn covers(status: StatusCode, fields: &HeaderMap) -> bool {
    let has_body = status.is_success()
        && ![StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::PARTIAL_CONTENT].contains(&status);
    let media_type = fields.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim();
    has_body && media_type.eq_ignore_ascii_case("application/json")
}

/// Everything about a complete, uncompressed body that is not as agreed.
pub fn judge(body: &[u8], kind: Kind) -> Vec<Drift> {
    // What is derived would take a list for the fields in their order.
    let is_object = body.trim_ascii_start().starts_with(b"{");
    let Some(found) = serde_json::from_slice::<Found>(body).ok().filter(|_| is_object) else {
        return vec![Drift::Body];
    };
    let is_list = kind == Kind::List;
    [
        (Drift::Success, found.success != Value::True),
        (Drift::Data, found.data == Value::Absent),
        (Drift::Meta, is_list && found.meta != Value::Object),
    ]
    .into_iter()
    .filter_map(|(drift, is_so)| is_so.then_some(drift))
    .collect()
}

/// The names of the contract; others are the application's.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Found {
    success: Value,
    data: Value,
    meta: Value,
}

/// As much of a value as matters. Nothing of it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Value {
    #[default]
    Absent,
    True,
    Object,
    Other,
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(if value { Value::True } else { Value::Other })
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Object)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_is_as_agreed_passes() {
        for body in [
            r#"{"success":true,"data":[]}"#,
            r#" { "data" : null , "success" : true , "message" : "Sent." } "#,
            r#"{"success":true,"data":{"success":false,"meta":1},"meta":null}"#,
            r#"{"success":true,"data":"é\"}","links":[{"a":[1.5,-2,null]}]}"#,
        ] {
            assert_eq!(judge(body.as_bytes(), Kind::Resource), [], "{body}");
        }
        assert_eq!(judge(br#"{"meta":{"page":1},"success":true,"data":[{"id":7}]}"#, Kind::List), []);
    }

    #[test]
    fn each_field_that_is_not_as_agreed_is_named() {
        for (body, drifts) in [
            (r#"{"data":[]}"#, &[Drift::Success][..]),
            (r#"{"success":false,"data":[]}"#, &[Drift::Success]),
            (r#"{"success":1,"data":[]}"#, &[Drift::Success]),
            (r#"{"success":"true","data":[]}"#, &[Drift::Success]),
            (r#"{"Success":true,"data":[]}"#, &[Drift::Success]),
            (r#"{"success":true}"#, &[Drift::Data]),
            (r#"{"success":true,"Data":1}"#, &[Drift::Data]),
            (r#"{"id":7,"name":"Ada"}"#, &[Drift::Success, Drift::Data]),
            ("{}", &[Drift::Success, Drift::Data]),
        ] {
            assert_eq!(judge(body.as_bytes(), Kind::Resource), drifts, "{body}");
        }
        for meta in ["", r#","meta":null"#, r#","meta":[]"#, r#","meta":"2""#, r#","meta":true"#, r#","Meta":{}"#] {
            let body = format!(r#"{{"success":true,"data":[]{meta}}}"#);
            assert_eq!(judge(body.as_bytes(), Kind::List), [Drift::Meta], "{body}");
        }
    }

    #[test]
    fn what_is_no_object_with_one_reading_is_no_body_of_the_contract() {
        for body in [
            "",
            "null",
            "[true,1,{}]",
            r#"[{"success":true}]"#,
            "<html>",
            r#"{"success":true,"data":[]"#,
            r#"{"success":true,"data":[]} {}"#,
            r#"{"success":true,"data":1,"success":false}"#,
            "\u{feff}{}",
        ] {
            assert_eq!(judge(body.as_bytes(), Kind::List), [Drift::Body], "{body}");
        }
    }

    #[test]
    fn however_deep_a_body_is_it_costs_no_stack() {
        let deep = format!(r#"{{"success":true,"data":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(judge(deep.as_bytes(), Kind::Resource), []);
    }

    #[test]
    fn it_is_about_whole_successes_in_json() {
        let about = |status: u16, media_type: &'static str| {
            let fields = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))]);
            covers(StatusCode::from_u16(status).unwrap(), &fields)
        };
        assert!(about(200, "application/json") && about(201, "Application/JSON; charset=utf-8"));
        for status in [204, 205, 206, 302, 304, 404, 500] {
            assert!(!about(status, "application/json"), "{status}");
        }
        for media_type in ["text/csv", "application/problem+json", "application/jsonl", "text/event-stream", ""] {
            assert!(!about(200, media_type), "{media_type}");
        }
        assert!(!covers(StatusCode::OK, &HeaderMap::new()));
    }
}
