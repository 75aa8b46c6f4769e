//! An access line, read back: one JSON object, or a line in columns.

use serde::Deserialize;

use crate::explain::columns;

/// What a line says of a request. What does not apply is not there.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AccessLine {
    /// When the request ended.
    pub timestamp: String,
    /// Its id.
    pub request_id: String,
    /// The trace it is in.
    pub trace_id: Option<String>,
    /// The route that was found.
    pub route: Option<String>,
    /// Empty where no request could be read.
    pub method: String,
    /// Without its query.
    pub path: String,
    /// What was answered; 499 where there was nobody to answer.
    pub status: u16,
    /// The code of an error.
    pub code: Option<String>,
    /// Why the gateway answered by itself.
    pub reason: Option<String>,
    /// From the complete head to the last byte of the answer.
    pub duration_ms: f64,
    /// How long the backend took, all attempts together.
    pub upstream_ms: Option<f64>,
    /// The upstream that was asked.
    pub upstream: Option<String>,
    /// The server of the last attempt.
    pub server: Option<String>,
    /// How many were asked.
    pub attempts: Option<u32>,
    /// Whose token it was.
    pub workspace: Option<String>,
    /// Who owns it.
    pub user: Option<String>,
    /// The token's public id.
    pub token_id: Option<String>,
    /// The tightest limit.
    pub limit: Option<String>,
    /// How many more would have passed.
    pub remaining: Option<u32>,
    /// A limit in shadow that would have refused it.
    pub shadow_limited: Option<String>,
    /// Whom it is attributed to.
    pub client_ip: String,
    /// Bytes of request body.
    pub bytes_in: Option<u64>,
    /// Bytes of response body.
    pub bytes_out: Option<u64>,
}

/// What a line of a log is.
#[derive(Debug, PartialEq)]
pub enum Read {
    /// The access line of the request.
    Access(Box<AccessLine>),
    /// Something else.
    Other,
    /// It names the request, and is in no format of the gateway's.
    Unreadable,
}

/// Reads a line, if it is about the request `id`.
pub fn read(line: &[u8], id: &str) -> Read {
    if memchr::memmem::find(line, id.as_bytes()).is_none() {
        return Read::Other;
    }
    let text = String::from_utf8_lossy(line);
    let text = text.trim();
    // Whoever collects logs may have put something before the object.
    let object = || text.find("{\"").and_then(|at| text.get(at..)).and_then(json);
    let columns = || columns::parse(text).map(Some);
    match if text.starts_with('{') { object() } else { columns().or_else(object) } {
        Some(Some(line)) if line.request_id == id => Read::Access(Box::new(line)),
        Some(_) => Read::Other,
        None => Read::Unreadable,
    }
}

/// `Some(None)` for an object that is no access line; `None` for what is no object.
fn json(text: &str) -> Option<Option<AccessLine>> {
    #[derive(Deserialize)]
    struct Kind {
        message: Option<String>,
    }
    let kind: Kind = serde_json::from_str(text).ok()?;
    if kind.message.as_deref() != Some("request") {
        return Some(None);
    }
    serde_json::from_str(text).ok().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_about_the_request_or_something_else() {
        let access = br#"{"message":"request","request_id":"a-1","status":200,"duration_ms":1.5,"new":{"x":1}}"#;
        assert!(matches!(read(access, "a-1"), Read::Access(line) if line.status == 200));
        assert_eq!(read(access, "a"), Read::Other, "a part of an id is another id");
        assert_eq!(read(access, "b-1"), Read::Other);
        let collected = [b"Nov 27 00:36:42 host gateway[1]: ", access.as_slice()].concat();
        assert!(matches!(read(&collected, "a-1"), Read::Access(_)));
        assert_eq!(read(br#"{"message":"a-1 was mentioned"}"#, "a-1"), Read::Other);
        assert_eq!(read(br#"{"message":"request","request_id":"a-1","#, "a-1"), Read::Unreadable);
        assert_eq!(read(b"10.0.0.1 - - GET / a-1", "a-1"), Read::Unreadable);
    }
}
