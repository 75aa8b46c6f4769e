//! The `introspection` source against a service that says of a token whether it is active (RFC 7662).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::backend::{Backend, Body, json, nobody, scripted};
use crate::harness::gateway::{CONTACTS, Gateway, config};
use crate::harness::token::{digest, now, opaque};
use crate::harness::wait_for;

const BASIC: &str = "client_id: gateway, client_secret: the-client-secret";
const BEARER: &str = "secret: the-bearer-secret";
const ACTIVE: &str = r#"{"active":true,"sub":"u7","workspace":"w7","scope":"contacts ai","jti":"7"}"#;

/// A gateway that asks the service at `service` and logs as much as it ever does.
async fn with_service(service: SocketAddr, credentials: &str, backend: &Backend) -> Gateway {
    let sections = format!(
        "auth: {{sources: [{{introspection: {{url: \"http://{service}/introspect\", timeout: 1s, {credentials}}}}}], failures: {{per_minute: 0}}}}\nscopes: [contacts]\nupstreams: {{main: {{servers: [\"{}\"]}}}}\nroutes:\n{CONTACTS}\nobservability: {{log: {{level: debug}}}}",
        backend.address
    );
    Gateway::start(&config(&sections)).await
}

/// A service whose every answer is 200 with `body`.
async fn saying(body: &str) -> Backend {
    let body = body.to_owned();
    Backend::answering(move |_| json(200, &body)).await
}

/// The status for a token that the service was asked about; on a busy machine that may take more than one request.
async fn status(gateway: &Gateway, token: &str) -> u16 {
    wait_for("the service", || async {
        let status = gateway.get("/api/v1/contacts", token).await.status;
        (status != 503).then_some(status)
    })
    .await
}

#[tokio::test]
async fn an_active_token_is_let_in_as_who_the_service_says() {
    let (service, backend) = (saying(ACTIVE).await, Backend::start().await);
    let gateway = with_service(service.address, BASIC, &backend).await;
    let token = opaque("good");
    for _ in 0..5 {
        assert_eq!(status(&gateway, &token).await, 200);
    }
    let asked = service.only();
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/introspect"));
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(asked.header("accept"), Some("application/json"));
    assert_eq!(String::from_utf8(asked.body).unwrap(), format!("token={token}&token_type_hint=access_token"));
    let seen = &backend.seen()[0];
    let names = ["x-workspace-id", "x-user-id", "x-token-id", "x-token-scopes"];
    assert_eq!(names.map(|name| seen.header(name).unwrap()), ["w7", "u7", "7", "ai contacts"]);
}

#[tokio::test]
async fn the_gateway_shows_the_service_who_it_is() {
    // base64 of gateway:the-client-secret
    for (credentials, expected) in
        [(BASIC, "Basic Z2F0ZXdheTp0aGUtY2xpZW50LXNlY3JldA=="), (BEARER, "Bearer the-bearer-secret")]
    {
        let (service, backend) = (saying(ACTIVE).await, Backend::start().await);
        let gateway = with_service(service.address, credentials, &backend).await;
        assert_eq!(status(&gateway, &opaque("good")).await, 200);
        assert_eq!(service.only().header("authorization"), Some(expected));
    }
}

#[tokio::test]
async fn a_token_with_an_id_is_shown_as_it_was_presented_and_belongs_to_that_id() {
    let (service, backend) = (saying(ACTIVE).await, Backend::start().await);
    let gateway = with_service(service.address, BEARER, &backend).await;
    let token = opaque("good");
    assert_eq!(status(&gateway, &format!("7|{token}")).await, 200);
    assert_eq!(status(&gateway, &format!("8|{token}")).await, 401);
    let body = service.only().body;
    assert_eq!(String::from_utf8(body).unwrap(), format!("token=7%7C{token}&token_type_hint=access_token"));
}

#[tokio::test]
async fn a_token_that_is_not_active_is_401_and_remembered() {
    let service = saying(r#"{"active":false,"sub":"u7","workspace":"w7","scope":"contacts"}"#).await;
    let backend = Backend::start().await;
    let gateway = with_service(service.address, BEARER, &backend).await;
    let token = opaque("ended");
    assert_eq!(status(&gateway, &token).await, 401);
    let answer = gateway.get("/api/v1/contacts", &token).await;
    answer.assert_envelope(401, "UNAUTHENTICATED", "Missing or invalid API token.");
    assert!(backend.seen().is_empty() && service.seen().len() == 1);
}

#[tokio::test]
async fn exp_ends_a_token_that_is_cached() {
    let end = now() + 2;
    let said = json!({"active": true, "sub": "u", "workspace": "w", "scope": "contacts", "exp": end});
    let (service, backend) = (saying(&said.to_string()).await, Backend::start().await);
    let gateway = with_service(service.address, BEARER, &backend).await;
    let (token, past) = (opaque("good"), opaque("past"));
    wait_for("the token to end", || async {
        let (asked, status) = (now(), status(&gateway, &token).await);
        assert!(status == 401 || status == 200 && asked < end, "{status}");
        (status == 401).then(|| assert!(now() >= end))
    })
    .await;
    assert_eq!(service.seen().len(), 1, "nobody has to be asked whether it has ended");
    assert_eq!(status(&gateway, &past).await, 401, "active, says the service, and past its end");
}

/// What an answer that says nothing about a token looks like.
fn useless_answers() -> [(&'static str, http::Response<Body>); 9] {
    let padded = format!("{}{}", ACTIVE, " ".repeat(64 << 10));
    let mut redirect = json(302, ACTIVE);
    redirect.headers_mut().insert("location", "/elsewhere".parse().unwrap());
    [
        ("a text that says true", json(200, &ACTIVE.replace("true", r#""true""#))),
        ("a number", json(200, &ACTIVE.replace("true", "1"))),
        ("neither", json(200, &ACTIVE.replace(r#""active":true,"#, ""))),
        ("both", json(200, &ACTIVE.replace(r#""active":true,"#, r#""active":false,"active":true,"#))),
        ("no JSON", json(200, "<html>active</html>")),
        ("more than 64 KiB", json(200, &padded)),
        ("a redirect", redirect),
        ("an error", json(500, ACTIVE)),
        ("another success", json(203, ACTIVE)),
    ]
}

#[tokio::test]
async fn an_answer_that_says_nothing_is_503_and_neither_yes_nor_no() {
    for at in 0..useless_answers().len() {
        let (what, _) = &useless_answers()[at];
        let service = Backend::answering(move |_| useless_answers().into_iter().nth(at).unwrap().1).await;
        let backend = Backend::start().await;
        let gateway = with_service(service.address, BEARER, &backend).await;
        let answer = gateway.get("/api/v1/contacts", &opaque("good")).await;
        assert_eq!(answer.status, 503, "{what}");
        answer.assert_envelope(503, "SERVER_ERROR", "The service is temporarily unavailable, please retry.");
        assert_eq!(answer.number("retry-after"), 1);
        assert_eq!(service.only().target, "/introspect", "{what}: a redirect is not followed");
        assert!(backend.seen().is_empty(), "{what}");
    }
}

#[tokio::test]
async fn an_active_token_of_nobody_is_500() {
    let (service, backend) = (saying(r#"{"active":true,"scope":"contacts"}"#).await, Backend::start().await);
    let gateway = with_service(service.address, BEARER, &backend).await;
    let token = opaque("good");
    assert_eq!(status(&gateway, &token).await, 500);
    let told = gateway.log_lines(1, |line| line["source"] == "introspection").await;
    assert_eq!(told[0]["digest"], digest(&token)[..6]);
}

#[tokio::test]
async fn a_service_that_is_away_or_slow_is_503_in_time_and_neither_token_nor_secret_is_logged() {
    let silent = scripted(|stream| async move {
        let _held = stream;
        std::future::pending::<()>().await;
    })
    .await;
    for (service, credentials) in [(silent, BASIC), (nobody().await, BEARER)] {
        let backend = Backend::start().await;
        let gateway = with_service(service, credentials, &backend).await;
        let (token, asked) = (opaque("good"), Instant::now());
        let answer = gateway.get("/api/v1/contacts", &token).await;
        answer.assert_envelope(503, "SERVER_ERROR", "The service is temporarily unavailable, please retry.");
        assert_eq!(answer.number("retry-after"), 1);
        assert!(asked.elapsed() < Duration::from_secs(10));
        assert_eq!(gateway.metric(r#"gateway_store_up{store="introspection"}"#).await, 0.0);
        gateway.access_lines(1).await;
        let output = gateway.output();
        for secret in [&token[3..], "the-client-secret", "the-bearer-secret"] {
            assert!(!output.contains(secret), "{output}");
        }
    }
}
