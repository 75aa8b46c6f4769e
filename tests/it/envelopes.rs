//! One envelope for every error, whoever made it.

use mailtrixy_gateway::policy::refusal::ErrorCode;

use crate::harness::backend::{Backend, Recorded, json, nobody, raw, typed};
use crate::harness::client::Response;
use crate::harness::gateway::{AUTH, CONTACTS, Gateway, config, simple};
use crate::harness::token::token;

/// A gateway whose routes lead to every kind of refusal.
async fn refusing(backend: &Backend) -> Gateway {
    let servers = format!("\"{}\"", backend.address);
    let nobody = nobody().await;
    Gateway::start(&config(&format!(
        r#"{AUTH}
scopes: [contacts, campaigns]
limits: {{once: {{requests: 1, per: 1m}}}}
upstreams:
  main: {{servers: [{servers}]}}
  away: {{servers: ["{nobody}"]}}
routes:
  contacts: {{path: /contacts/**, methods: [GET, POST], scope: contacts, limit: none, upstream: main, body_bytes: 10}}
  list: {{path: /lists, scope: contacts, limit: none, upstream: main, pagination: {{sort_by: [name]}}}}
  once: {{path: /once, scope: contacts, limit: once, upstream: main}}
  away: {{path: /away, scope: contacts, limit: none, upstream: away}}
"#
    )))
    .await
}

#[tokio::test]
async fn every_code_has_its_status_its_headers_and_its_bytes() {
    let backend = Backend::start().await;
    let gateway = refusing(&backend).await;
    let (contacts, campaigns) = (token("w", "contacts"), token("w", "campaigns"));
    gateway.get("/api/v1/once", &contacts).await;
    for code in ErrorCode::ALL {
        match code {
            ErrorCode::BadRequest => {
                let answer = gateway.get("/api/v1/contacts/%2f", &contacts).await;
                answer.assert_envelope(400, "BAD_REQUEST", "The request is malformed.");
            }
            ErrorCode::Unauthenticated => {
                let answer = gateway.send("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\n\r\n").await;
                answer.assert_envelope(401, "UNAUTHENTICATED", "Missing or invalid API token.");
                assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer realm="mailtrixy""#));
                let answer = gateway.get("/api/v1/contacts", "mb_nonsense").await;
                answer.assert_envelope(401, "UNAUTHENTICATED", "Missing or invalid API token.");
                let challenge = r#"Bearer realm="mailtrixy", error="invalid_token""#;
                assert_eq!(answer.header("www-authenticate"), Some(challenge));
            }
            ErrorCode::Forbidden => {
                let answer = gateway.get("/api/v1/contacts", &campaigns).await;
                answer.assert_envelope(403, "FORBIDDEN", "This token lacks the required scope for this endpoint.");
                let challenge = r#"Bearer error="insufficient_scope", scope="contacts""#;
                assert_eq!(answer.header("www-authenticate"), Some(challenge));
            }
            ErrorCode::NotFound => {
                let answer = gateway.get("/api/v1/nothing", &contacts).await;
                answer.assert_envelope(404, "NOT_FOUND", "The requested resource does not exist.");
            }
            ErrorCode::ValidationError => {
                let answer = gateway.get("/api/v1/lists?page=0", &contacts).await;
                assert_eq!(answer.status, 422);
                assert_eq!(
                    answer.text(),
                    r#"{"success":false,"error":{"code":"VALIDATION_ERROR","message":"The given data was invalid.","details":{"page":["The page field must be at least 1."]}}}"#
                );
            }
            ErrorCode::RateLimited => {
                let answer = gateway.get("/api/v1/once", &contacts).await;
                let message = "Rate limit exceeded, retry after the specified window.";
                answer.assert_envelope(429, "RATE_LIMITED", message);
                assert!((1..=60).contains(&answer.number("retry-after")));
                assert_eq!((answer.number("x-ratelimit-limit"), answer.number("x-ratelimit-remaining")), (1, 0));
                assert!(answer.number("x-ratelimit-reset") > crate::harness::token::now());
            }
            ErrorCode::ServerError => {
                let answer = gateway.get("/api/v1/away", &contacts).await;
                answer.assert_envelope(502, "SERVER_ERROR", "The service gave no valid answer.");
            }
        }
    }
}

#[tokio::test]
async fn a_method_that_is_not_allowed_is_answered_with_those_that_are() {
    let backend = Backend::start().await;
    let gateway = refusing(&backend).await;
    let answer = gateway.send("DELETE /api/v1/contacts/1 HTTP/1.1\r\nHost: x\r\n\r\n").await;
    answer.assert_envelope(405, "BAD_REQUEST", "This method is not allowed for this endpoint.");
    assert_eq!(answer.header("allow"), Some("GET, HEAD, POST"));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_declared_or_not() {
    let backend = Backend::start().await;
    let gateway = refusing(&backend).await;
    let token = token("w", "contacts");
    let head = format!("POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n");
    for (framing, status) in [
        ("Content-Length: 10\r\n\r\n0123456789", 200),
        ("Content-Length: 11\r\n\r\n0123456789a", 413),
        ("Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n", 200),
        ("Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n1\r\na\r\n0\r\n\r\n", 413),
    ] {
        let answer = gateway.send(&format!("{head}{framing}")).await;
        assert_eq!(answer.status, status, "{framing}");
        if status == 413 {
            answer.assert_envelope(413, "BAD_REQUEST", "The request body is too large.");
        }
    }
}

#[tokio::test]
async fn a_refusal_keeps_the_connection_for_the_next_request() {
    let backend = Backend::start().await;
    let gateway = refusing(&backend).await;
    let token = token("w", "contacts");
    let mut connection = crate::harness::client::Connection::open(gateway.address).await;
    for (request, status) in [
        ("GET /api/v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 404),
        ("POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello".to_owned(), 401),
        ("GET /api/v1/contacts/%00 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 400),
        (format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"), 200),
    ] {
        assert_eq!(connection.request(&request).await.map(|answer| answer.status), Some(status), "{request}");
    }
}

#[tokio::test]
async fn head_has_the_headers_of_an_error_and_no_body() {
    let backend = Backend::answering(|_| json(404, "")).await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    for path in ["/api/v1/nothing", "/api/v1/contacts"] {
        let request =
            format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", token("w", "contacts"));
        let mut connection = crate::harness::client::Connection::open(gateway.address).await;
        for _ in 0..2 {
            let answer = connection.request(&request).await.unwrap();
            assert_eq!((answer.status, answer.number("content-length")), (404, 110), "{path}");
        }
    }
}

/// A gateway in front of a backend that answers with the status in the path and the body in X-Answer.
async fn in_front_of_errors() -> (Gateway, Backend) {
    let backend = Backend::answering(|request: &Recorded| {
        let status = request.target.rsplit('/').next().unwrap().parse().unwrap();
        let header = |name| request.header(name).unwrap_or_default().to_owned();
        let mut response = typed(status, &header("x-type"), &header("x-answer"));
        response.headers_mut().insert("x-powered-by", "PHP/8.4".parse().unwrap());
        response.headers_mut().insert("x-ratelimit-remaining", "7".parse().unwrap());
        response.headers_mut().insert("retry-after", "9".parse().unwrap());
        if !header("x-location").is_empty() {
            response.headers_mut().insert("location", header("x-location").parse().unwrap());
        }
        response
    })
    .await;
    let limits = "general: {requests: 1000, per: 1m}";
    let routes = "  contacts: {path: /contacts/**, scope: contacts, upstream: main}\n  open: {path: /open/**, access: public, limit: none, upstream: main}\n";
    (Gateway::start(&simple(&[backend.address], limits, routes)).await, backend)
}

async fn error(gateway: &Gateway, status: u16, content_type: &str, body: &str) -> Response {
    let token = token("w", "contacts");
    gateway
        .send(&format!(
            "GET /api/v1/contacts/{status} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nX-Type: {content_type}\r\nX-Answer: {body}\r\n\r\n"
        ))
        .await
}

#[tokio::test]
async fn what_laravel_and_its_servers_answer_becomes_the_envelope() {
    let (gateway, _backend) = in_front_of_errors().await;
    let json = "application/json";
    let cases = [
        (
            404,
            json,
            r#"{"message":"No query results for model [App\\Models\\Contact] 42"}"#,
            (404, "NOT_FOUND", "The requested resource does not exist."),
        ),
        (
            403,
            json,
            r#"{"message":"This action is unauthorized."}"#,
            (403, "FORBIDDEN", "This action is unauthorized."),
        ),
        (419, json, r#"{"message":"CSRF token mismatch."}"#, (401, "UNAUTHENTICATED", "CSRF token mismatch.")),
        (500, json, r#"{"message":"Server Error"}"#, (500, "SERVER_ERROR", "An internal server error occurred.")),
        (
            500,
            json,
            r#"{"message":"x","exception":"PDOException","trace":[]}"#,
            (500, "SERVER_ERROR", "An internal server error occurred."),
        ),
        (
            502,
            "text/html",
            "<html><h1>502 Bad Gateway</h1></html>",
            (502, "SERVER_ERROR", "The service gave no valid answer."),
        ),
        (
            503,
            "text/plain",
            "maintenance",
            (503, "SERVER_ERROR", "The service is temporarily unavailable, please retry."),
        ),
        (404, "text/html", "", (404, "NOT_FOUND", "The requested resource does not exist.")),
        (
            409,
            "application/problem+json",
            r#"{"title":"Conflict","detail":"Already sent."}"#,
            (409, "BAD_REQUEST", "Already sent."),
        ),
    ];
    for (status, content_type, body, (expected, code, message)) in cases {
        let answer = error(&gateway, status, content_type, body).await;
        answer.assert_envelope(expected, code, message);
        assert_eq!(answer.header("x-powered-by"), None, "{body}");
        assert_eq!(answer.number("retry-after"), 9, "{body}");
        assert!(answer.number("x-ratelimit-remaining") > 900, "the backend's own limit is not the route's");
        let challenge = (expected == 401).then_some(r#"Bearer realm="mailtrixy", error="invalid_token""#);
        assert_eq!(answer.header("www-authenticate"), challenge, "{body}");
    }
    assert_eq!(gateway.metric(r#"gateway_backend_errors_normalised_total{upstream="main"}"#).await, cases.len() as f64);
    assert_eq!(gateway.metric(r#"gateway_backend_leaks_blocked_total{upstream="main"}"#).await, 2.0);
}

#[tokio::test]
async fn validation_errors_keep_their_fields() {
    let (gateway, _backend) = in_front_of_errors().await;
    let body = r#"{"message":"The email field is required.","errors":{"email":["The email field is required."]}}"#;
    let answer = error(&gateway, 422, "application/json", body).await;
    assert_eq!(
        answer.text(),
        r#"{"success":false,"error":{"code":"VALIDATION_ERROR","message":"The email field is required.","details":{"email":["The email field is required."]}}}"#
    );
}

#[tokio::test]
async fn an_envelope_of_the_backend_passes_byte_for_byte() {
    let (gateway, _backend) = in_front_of_errors().await;
    let body = r#"{ "success":false, "error":{"code":"CONTACT_LOCKED","message":"Locked.","details":{}} }"#;
    let answer = error(&gateway, 409, "application/json", body).await;
    assert_eq!((answer.status, answer.text().as_str()), (409, body));
}

#[tokio::test]
async fn a_redirect_to_the_login_page_is_laravel_saying_401() {
    let (gateway, _backend) = in_front_of_errors().await;
    let token = token("w", "contacts");
    let send = async |path: &str| {
        gateway.send(&format!("GET /api/v1/{path}/302 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nX-Type: text/html\r\nX-Location: http://x/login\r\n\r\n")).await
    };
    let answer = send("contacts").await;
    answer.assert_envelope(401, "UNAUTHENTICATED", "Missing or invalid API token.");
    assert_eq!(answer.header("location"), None);
    assert_eq!(send("open").await.status, 302, "a public route may well redirect there");
}

#[tokio::test]
async fn an_error_body_that_does_not_come_whole_is_replaced() {
    let token = token("w", "contacts");
    for answer in [
        "HTTP/1.1 500 X\r\nContent-Length: 100\r\n\r\nhalf".to_owned(),
        "HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel".to_owned(),
        format!("HTTP/1.1 500 X\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000)),
        "HTTP/1.1 500 X\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz".to_owned(),
        "HTTP/1.1 500 X\r\n\r\nuntil the end".to_owned(),
    ] {
        let backend = raw(answer.clone()).await;
        let gateway = Gateway::start(&simple(&[backend], "", CONTACTS)).await;
        let got = gateway.get("/api/v1/contacts", &token).await;
        got.assert_envelope(500, "SERVER_ERROR", "An internal server error occurred.");
        assert_eq!(got.header("content-encoding"), None);
    }
}

#[tokio::test]
async fn errors_pass_untouched_where_the_operator_says_so() {
    let backend = Backend::answering(|_| typed(500, "text/html", "<h1>oops</h1>")).await;
    let config = format!("errors: {{backend: pass}}\n{}", simple(&[backend.address], "", CONTACTS));
    let gateway = Gateway::start(&config).await;
    let answer = gateway.get("/api/v1/contacts", &token("w", "contacts")).await;
    assert_eq!((answer.status, answer.text().as_str()), (500, "<h1>oops</h1>"));
    assert_eq!(answer.header("content-type"), Some("text/html"));
}
