//! What operations refer to: the envelope under each code, the fields of answers, the parameters of lists.

use http::StatusCode;
use http::header::{ALLOW, CACHE_CONTROL, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::{Map, Value, json};

use crate::config::settings::Config;
use crate::policy::envelope::{
    CHALLENGE, CHALLENGE_INVALID, Envelope, RATELIMIT_LIMIT, RATELIMIT_REMAINING, RATELIMIT_RESET, sentence,
};
use crate::policy::normalise::BackendErrors;
use crate::policy::pagination::{DEFAULT_PER_PAGE, MAX_PAGE, MAX_PER_PAGE};
use crate::policy::refusal::ErrorCode;

/// The security scheme.
pub(super) const SCHEME: &str = "token";
/// The field and the parameter.
pub(super) const REQUEST_ID: &str = "X-Request-Id";
/// A service's answer.
pub(super) const ANSWER: &str = "Answer";
/// A service's answer on a route with a limit.
pub(super) const COUNTED_ANSWER: &str = "CountedAnswer";
/// Where the caller stands with their limits.
pub(super) const STANDING: &str = "RateLimits";

/// Errors by the status they are listed under: those with a code or with fields of their own, and the rest by their class.
const ERRORS: [(&str, &str, &[u16]); 9] = [
    ("400", "BadRequest", &[400]),
    ("401", "Unauthenticated", &[401]),
    ("403", "Forbidden", &[403]),
    ("404", "NotFound", &[404]),
    ("422", "ValidationError", &[422]),
    ("429", "RateLimited", &[429]),
    ("503", "Unavailable", &[503]),
    ("4XX", "OtherClientError", &[405, 408, 413, 431]),
    ("5XX", "ServerError", &[500, 502, 504]),
];

/// draft-ietf-httpapi-ratelimit-headers
const IETF: [&str; 2] = ["RateLimit", "RateLimit-Policy"];

/// Status or class → the name of its response.
pub(super) fn errors() -> impl Iterator<Item = (String, &'static str)> {
    ERRORS.iter().map(|(status, name, _)| ((*status).to_owned(), *name))
}

/// Everything under `components`.
pub(super) fn components(config: &Config) -> Value {
    json!({
        "securitySchemes": {SCHEME: {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": format!("{}…", config.auth.grammar.prefix),
            "description": "An API token. What an operation lists under it is the scope that the token needs.",
        }},
        "schemas": schemas(),
        "headers": headers(config),
        "parameters": parameters(),
        "responses": responses(config),
    })
}

fn schemas() -> Value {
    json!({
        "ErrorCode": {"type": "string", "enum": ErrorCode::ALL.map(ErrorCode::as_str)},
        "Error": {
            "description": "The envelope of every error.",
            "type": "object",
            "required": ["success", "error"],
            "properties": {
                "success": {"const": false},
                "error": {
                    "type": "object",
                    "required": ["code", "message", "details"],
                    "properties": {
                        "code": {"$ref": "#/components/schemas/ErrorCode"},
                        "message": {"type": "string", "description": "One sentence for people."},
                        "details": {
                            "description": "Messages by field for VALIDATION_ERROR, else empty.",
                            "type": "object",
                            "additionalProperties": {"type": "array", "items": {"type": "string"}},
                        },
                    },
                },
            },
        },
        "RateLimit": {
            "type": "object",
            "required": ["name", "by", "limit", "window", "remaining", "reset"],
            "properties": {
                "name": {"type": "string"},
                "by": {
                    "type": "string",
                    "enum": ["workspace", "user", "token", "client_ip"],
                    "description": "Whose requests are counted together.",
                },
                "limit": {"type": "integer", "minimum": 0, "description": "Requests in a window."},
                "window": {"type": "integer", "minimum": 1, "description": "Seconds."},
                "remaining": {"type": "integer", "minimum": 0, "description": "How many are left."},
                "reset": {"type": "integer", "description": "Unix seconds at which the full limit is back."},
            },
        },
    })
}

fn headers(config: &Config) -> Value {
    let mut fields = json!({
        REQUEST_ID: {
            "required": true,
            "description": "The id of the request, in the gateway's log too.",
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$"},
        },
        title(&RATELIMIT_LIMIT): counted("Requests in a window of the tightest limit."),
        title(&RATELIMIT_REMAINING): counted("How many of them are left."),
        title(&RATELIMIT_RESET): counted("Unix seconds at which the full limit is back."),
        title(&RETRY_AFTER): {
            "description": "Seconds to wait; a service of its own may say a date.",
            "schema": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string"}]},
        },
        title(&WWW_AUTHENTICATE): {
            "description": "The challenge (RFC 6750).",
            "schema": {"type": "string", "examples": [text(&CHALLENGE), text(&CHALLENGE_INVALID)]},
        },
        title(&ALLOW): {"description": "With 405: the methods that are.", "schema": {"type": "string"}},
        title(&CACHE_CONTROL): {"schema": {"type": "string"}},
    });
    if let (true, Some(fields)) = (config.ietf_headers, fields.as_object_mut()) {
        let draft = "As in draft-ietf-httpapi-ratelimit-headers.";
        for name in IETF {
            fields.insert(name.to_owned(), json!({"description": draft, "schema": {"type": "string"}}));
        }
    }
    fields
}

fn counted(description: &str) -> Value {
    json!({"description": description, "schema": {"type": "integer", "minimum": 0}})
}

fn parameters() -> Value {
    json!({
        REQUEST_ID: {
            "name": REQUEST_ID,
            "in": "header",
            "description": "An id of your own for the request.",
            "schema": {"type": "string"},
        },
        "page": {
            "name": "page",
            "in": "query",
            "description": "Which page of the list.",
            "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 1},
        },
        "per_page": {
            "name": "per_page",
            "in": "query",
            "description": "How many entries a page has.",
            "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PER_PAGE, "default": DEFAULT_PER_PAGE},
        },
        "sort_order": {
            "name": "sort_order",
            "in": "query",
            "description": "Upwards or downwards.",
            "schema": {"type": "string", "enum": ["asc", "desc"], "default": "desc"},
        },
    })
}

fn responses(config: &Config) -> Value {
    let any = json!({"*/*": {}});
    let quota = quota_fields(config);
    let mut responses = Map::new();
    responses.insert(ANSWER.to_owned(), answer("The service's own answer, as it is.", &quota, &any));
    responses.insert(COUNTED_ANSWER.to_owned(), counted_answer(config, &any));
    let standing = json!({"application/json": {"schema": {
        "type": "object",
        "required": ["success", "data"],
        "properties": {
            "success": {"const": true},
            "data": {"type": "array", "items": {"$ref": "#/components/schemas/RateLimit"}},
        },
    }}});
    let said = "The limits that the token can meet, with what is left of them.";
    responses.insert(STANDING.to_owned(), answer(said, &[title(&CACHE_CONTROL)], &standing));
    for (_, name, statuses) in ERRORS {
        responses.insert(name.to_owned(), error(config, statuses));
    }
    responses.into()
}

/// A success on a limited route: the X-RateLimit fields are always there, so they are said anew instead of referred to.
fn counted_answer(config: &Config, content: &Value) -> Value {
    let said = "The service's own answer, as it is, with the caller's limit.";
    let mut answer = answer(said, &quota_fields(config), content);
    let all = headers(config);
    let fields = answer.get_mut("headers").and_then(Value::as_object_mut).into_iter().flatten();
    for (name, field) in fields.filter(|(name, _)| name.starts_with("X-RateLimit-")) {
        if let Some(Value::Object(said)) = all.get(name) {
            let mut said = said.clone();
            said.insert("required".to_owned(), true.into());
            *field = said.into();
        }
    }
    answer
}

fn answer(description: &str, fields: &[String], content: &Value) -> Value {
    let of = |name: &str| (name.to_owned(), json!({"$ref": format!("#/components/headers/{name}")}));
    let fields = std::iter::once(REQUEST_ID).chain(fields.iter().map(String::as_str));
    let fields: Map<String, Value> = fields.map(of).collect();
    json!({"description": description, "headers": fields, "content": content})
}

/// The envelope under the code of these statuses.
fn error(config: &Config, statuses: &[u16]) -> Value {
    let statuses: Vec<StatusCode> = statuses.iter().filter_map(|status| StatusCode::from_u16(*status).ok()).collect();
    let code = statuses.first().map_or(ErrorCode::ServerError, |status| ErrorCode::of(*status));
    let body =
        |status: StatusCode| serde_json::from_slice::<Value>(&Envelope::standard(status).body).unwrap_or_default();
    let examples: Map<String, Value> =
        statuses.iter().map(|status| (status.as_u16().to_string(), json!({"value": body(*status)}))).collect();
    let envelope = json!({"allOf": [
        {"$ref": "#/components/schemas/Error"},
        {"properties": {"error": {"properties": {"code": {"const": code.as_str()}}}}},
    ]});
    let content = match config.policy.backend_errors {
        BackendErrors::Normalise { .. } => json!({"application/json": {"schema": envelope, "examples": examples}}),
        BackendErrors::Pass => {
            let schema = json!({"anyOf": [envelope, {"description": "A service's own error."}]});
            json!({"application/json": {"schema": schema, "examples": examples}, "*/*": {}})
        }
    };
    let fields = match statuses.first().map(StatusCode::as_u16) {
        Some(401 | 403) => vec![title(&WWW_AUTHENTICATE)],
        Some(429 | 503) => vec![title(&RETRY_AFTER)],
        Some(405) => vec![title(&ALLOW)],
        _ => vec![],
    };
    let said: Vec<&str> = statuses.iter().map(|status| sentence(*status)).collect();
    answer(&said.join(" "), &[quota_fields(config), fields].concat(), &content)
}

fn quota_fields(config: &Config) -> Vec<String> {
    let mut fields = [&RATELIMIT_LIMIT, &RATELIMIT_REMAINING, &RATELIMIT_RESET].map(title).to_vec();
    if config.ietf_headers {
        fields.extend(IETF.map(str::to_owned));
    }
    fields
}

/// `x-ratelimit-limit` → `X-RateLimit-Limit`, as people write it.
fn title(name: &HeaderName) -> String {
    let word = |word: &str| match word {
        "ratelimit" => "RateLimit".to_owned(),
        "www" => "WWW".to_owned(),
        word => word.chars().take(1).flat_map(char::to_uppercase).chain(word.chars().skip(1)).collect(),
    };
    name.as_str().split('-').map(word).collect::<Vec<String>>().join("-")
}

fn text(value: &http::HeaderValue) -> &str {
    value.to_str().unwrap_or_default()
}
