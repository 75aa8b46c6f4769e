//! Browsers: what pages of other origins are told, by whoever answers.

use crate::harness::backend::{Backend, json};
use crate::harness::client::Response;
use crate::harness::gateway::{CONTACTS, Gateway, binary, simple};
use crate::harness::token::token;

const APP: &str = "https://app.example";

async fn gateway(cors: &str) -> (Gateway, Backend) {
    let backend = Backend::answering(|request| {
        let mut answer = if request.target.ends_with("/broken") { json(500, "Whoops") } else { json(200, "{}") };
        answer.headers_mut().insert("access-control-allow-origin", "*".parse().unwrap());
        answer.headers_mut().insert("vary", "Accept".parse().unwrap());
        answer
    })
    .await;
    let routes = format!("{CONTACTS}  one: {{path: /one, scope: contacts, limit: once, upstream: main}}\n");
    let config = format!("{cors}\n{}", simple(&[backend.address], "once: {requests: 1, per: 1h}", &routes));
    (Gateway::start(&config).await, backend)
}

fn request(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

fn preflight(path: &str, origin: &str) -> String {
    let fields = format!(
        "Origin: {origin}\r\nAccess-Control-Request-Method: DELETE\r\nAccess-Control-Request-Headers: authorization\r\n"
    );
    request("OPTIONS", path, &fields)
}

/// All values of a field, in one line.
fn all(response: &Response, name: &str) -> String {
    let values = response.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
    values.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
}

/// Everything of the protocol that an answer says.
fn said(response: &Response) -> Vec<String> {
    let mut said: Vec<String> = response
        .headers
        .iter()
        .map(|(name, value)| (name.to_lowercase(), value))
        .filter(|(name, _)| name.starts_with("access-control-"))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    said.sort();
    said
}

const CORS: &str = "cors: {origins: [\"https://app.example\", \"http://localhost:3000\"], methods: [GET, DELETE], headers: [Authorization], expose: [X-Request-Id], max_age: 10m}";

#[tokio::test]
async fn a_preflight_is_answered_at_the_edge_without_a_token_and_without_a_limit() {
    let (gateway, backend) = gateway(CORS).await;
    for path in ["/api/v1/one", "/api/v1/one", "/api/v1/contacts/7", "/nothing"] {
        let answer = gateway.send(&preflight(path, APP)).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        assert_eq!(
            said(&answer),
            [
                "access-control-allow-headers: Authorization",
                "access-control-allow-methods: GET, DELETE",
                "access-control-allow-origin: https://app.example",
                "access-control-max-age: 600",
            ]
        );
        assert_eq!(
            answer.header("vary"),
            Some("Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
        );
        assert!(answer.header("x-request-id").is_some() && answer.header("x-ratelimit-limit").is_none());
    }
    let other = gateway.send(&preflight("/api/v1/one", "https://evil.example")).await;
    assert_eq!((other.status, said(&other)), (204, vec![]), "who is not allowed is told nothing");
    assert!(other.header("vary").unwrap().starts_with("Origin"));
    assert!(backend.seen().is_empty());
    assert_eq!(gateway.access_lines(5).await.len(), 5, "each is told");
    assert_eq!(gateway.get("/api/v1/one", &token("w", "contacts")).await.status, 200, "the quota is untouched");
}

#[tokio::test]
async fn every_answer_says_whose_pages_may_read_it_whoever_made_it() {
    let (gateway, _backend) = gateway(CORS).await;
    let valid = format!("Authorization: Bearer {}\r\n", token("w", "contacts"));
    for (path, authorization, status) in [
        ("/api/v1/contacts", valid.as_str(), 200),
        ("/api/v1/contacts/broken", &valid, 500),
        ("/api/v1/one", &valid, 200),
        ("/api/v1/one", &valid, 429),
        ("/api/v1/contacts", "", 401),
        ("/nothing", "", 404),
        ("/api/v1/a%2fb", "", 400),
    ] {
        let ask = |origin: &str| request("GET", path, &format!("{authorization}{origin}"));
        let allowed = gateway.send(&ask("Origin: http://localhost:3000\r\n")).await;
        assert_eq!(
            (allowed.status, said(&allowed)),
            (
                status,
                vec![
                    "access-control-allow-origin: http://localhost:3000".to_owned(),
                    "access-control-expose-headers: X-Request-Id".to_owned()
                ]
            ),
            "{path}"
        );
        assert!(all(&allowed, "vary").ends_with("Origin"), "{path}");
        for origin in ["", "Origin: https://evil.example\r\n", "Origin: null\r\n", "Origin: HTTP://LOCALHOST:3000\r\n"]
        {
            let other = gateway.send(&ask(origin)).await;
            assert_eq!(said(&other), Vec::<String>::new(), "{path} {origin}");
            assert!(all(&other, "vary").ends_with("Origin"), "{path} {origin}");
        }
    }
    let kept = gateway.send(&request("GET", "/api/v1/contacts", &valid)).await;
    assert_eq!(all(&kept, "vary"), "Accept, Origin", "what the backend says of its answer stays");
}

#[tokio::test]
async fn only_a_preflight_is_one() {
    let (gateway, backend) = gateway(CORS).await;
    let authorization = format!("Authorization: Bearer {}\r\n", token("w", "contacts"));
    for fields in ["", "Origin: https://app.example\r\n", "Access-Control-Request-Method: GET\r\n"] {
        let options = |authorization: &str| request("OPTIONS", "/api/v1/contacts", &format!("{fields}{authorization}"));
        assert_eq!(gateway.send(&options("")).await.status, 401, "{fields}");
        assert_eq!(gateway.send(&options(&authorization)).await.status, 200, "{fields}");
    }
    assert_eq!(backend.seen().len(), 3);
    let get = "Origin: https://app.example\r\nAccess-Control-Request-Method: GET\r\n";
    assert_eq!(gateway.send(&request("GET", "/api/v1/contacts", get)).await.status, 401);
}

#[tokio::test]
async fn without_the_section_options_is_a_method_like_any_other_and_the_backend_says_what_it_likes() {
    let (gateway, backend) = gateway("").await;
    assert_eq!(gateway.send(&preflight("/api/v1/contacts", APP)).await.status, 401);
    let fields = format!("Origin: {APP}\r\nAuthorization: Bearer {}\r\n", token("w", "contacts"));
    let answer = gateway.send(&request("GET", "/api/v1/contacts", &fields)).await;
    assert_eq!(
        (said(&answer), all(&answer, "vary")),
        (vec!["access-control-allow-origin: *".to_owned()], "Accept".to_owned())
    );
    backend.only();
}

#[tokio::test]
async fn everybody_may_be_allowed_and_named_origins_may_send_credentials() {
    let (open, _backend) = gateway("cors: {origins: [\"*\"], expose: []}").await;
    let answer = open.send(&request("GET", "/nothing", "Origin: https://any.example\r\n")).await;
    assert_eq!((said(&answer), answer.header("vary")), (vec!["access-control-allow-origin: *".to_owned()], None));
    let (named, _backend) = gateway("cors: {origins: [\"https://app.example\"], expose: [], credentials: true}").await;
    let answer = named.send(&request("GET", "/nothing", "Origin: https://app.example\r\n")).await;
    assert_eq!(
        said(&answer),
        ["access-control-allow-credentials: true", "access-control-allow-origin: https://app.example"]
    );
}

#[test]
fn check_refuses_origins_that_no_browser_sends() {
    let folder = tempfile::tempdir().unwrap();
    let cors = "cors:\n  origins: [\"https://*.example\", \"https://a.example/\", \"*\"]\n  methods: [GET, FETCH]\n  headers: [\"a b\"]\n  credentials: true\n";
    let patterns = cors.replace(", \"*\"", "");
    for (cors, expected) in [
        (
            cors,
            &["`*` is everybody", "with `*` any page could act", "`FETCH` is not a method", "`a b` is not the name"][..],
        ),
        (&patterns, &["`https://*.example` is not an origin", "`https://a.example/` is not an origin"]),
        ("cors: {}\n", &["`origins` is empty"]),
    ] {
        let text = format!("{cors}{}", simple(&["127.0.0.1:1".parse().unwrap()], "", CONTACTS));
        std::fs::write(folder.path().join("gateway.yaml"), text).unwrap();
        let output = binary().current_dir(folder.path()).arg("check").output().unwrap();
        let report = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{report}");
        for message in expected {
            assert!(report.contains(message), "{message}: {report}");
        }
    }
}
