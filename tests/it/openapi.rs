//! `openapi`: a document that other tools take, and that the gateway keeps to.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use mailtrixy_gateway::demo;
use serde_json::{Value, json};

use crate::harness::gateway::{AUTH, Gateway, binary, config};
use crate::harness::token::token;
use crate::harness::tools::tool;

/// What is printed for a configuration.
fn document(text: &str, arguments: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.yaml"), text).unwrap();
    let output = binary().current_dir(folder.path()).arg("openapi").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn repositorys() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/gateway.yaml")).unwrap()
}

fn run(mut command: Command) -> String {
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

fn everything() -> String {
    config(&format!("{AUTH}{EVERYTHING}"))
}

const EVERYTHING: &str = r#"
scopes: [contacts]
limits:
  general: {requests: 60, per: 1m}
  paced: {requests: 10, per: 1s, algorithm: gcra, burst: 5, by: user}
  trial: {requests: 1, per: 1m, mode: shadow}
  courtesy: {requests: 5, per: 1m, by: client_ip, on_store_failure: allow}
rate_limit_headers: {ietf: true}
errors: {backend: pass}
upstreams: {secret-name: {servers: ["inside.example:9101"]}}
routes:
  list: {path: /contacts, methods: [GET], scope: contacts, limit: [general, paced], cost: 2, upstream: secret-name, pagination: {sort_by: [name]}}
  one: {path: "/contacts/{id}", methods: [GET], access: token, limit: [general, trial], upstream: secret-name}
  contacts: {path: /contacts/**, scope: contacts, limit: none, upstream: secret-name, body_bytes: 1KiB}
  status: {path: /status, methods: [GET], access: public, limit: courtesy, upstream: secret-name}
  chat: {path: /chat, methods: [POST, GET], access: token, upstream: secret-name, streaming: true, websocket: true}
"#;

#[test]
fn the_document_is_valid_by_the_rules_of_openapi() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("openapi.json");
    for text in [repositorys(), everything()] {
        let document = document(&text, &["--server", "https://api.example.com/"]);
        assert_eq!(document["servers"], json!([{"url": "https://api.example.com"}]));
        std::fs::write(&path, document.to_string()).unwrap();
        let mut command = Command::new(tool("python/bin/openapi-spec-validator"));
        command.args(["--schema", "3.1"]).arg(&path);
        assert!(run(command).contains("OK"));
    }
}

#[test]
fn an_operation_says_what_its_route_asks_for() {
    let document = document(&everything(), &[]);
    let of = |path: &str, method: &str| document["paths"][format!("/api/v1{path}")][method].clone();
    let list = of("/contacts", "get");
    assert_eq!(list["security"], json!([{"token": ["contacts"]}]));
    assert_eq!(
        list["x-rate-limits"],
        json!([
            {"name": "general", "requests": 60, "window": 60, "by": "workspace", "algorithm": "fixed_window"},
            {"name": "paced", "requests": 10, "window": 1, "by": "user", "algorithm": "gcra", "burst": 5},
        ])
    );
    assert_eq!(list["x-cost"], 2);
    assert_eq!(list["parameters"].as_array().unwrap().len(), 5);
    assert_eq!(list["parameters"][3]["schema"]["enum"], json!(["name"]));
    assert_eq!(list["responses"]["2XX"]["$ref"], "#/components/responses/CountedAnswer");
    let status = of("/status", "get");
    assert_eq!(status["security"], json!([]));
    assert_eq!(status["responses"]["2XX"]["$ref"], "#/components/responses/Answer");
    assert_eq!(
        (&of("/chat", "post")["x-streaming"], &of("/chat", "post")["x-websocket"]),
        (&json!(true), &json!(null))
    );
    assert_eq!(of("/chat", "get")["x-websocket"], true);
    assert_eq!(of("/chat", "put"), Value::Null);
    let standing = of("/rate-limits", "get");
    assert_eq!(standing["security"], json!([{"token": []}]));
    assert_eq!(standing["responses"]["200"]["$ref"], "#/components/responses/RateLimits");
    assert!(document["components"]["headers"]["RateLimit-Policy"].is_object());
}

#[test]
fn an_operation_is_of_the_route_that_the_gateway_would_find() {
    let document = document(&everything(), &[]);
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    let below = ["", "/{id}", "/{id}/{path}"].map(|rest| format!("/api/v1/contacts{rest}"));
    assert_eq!(paths, ["/api/v1/chat", &below[0], &below[1], &below[2], "/api/v1/rate-limits", "/api/v1/status"]);
    let route = |path: &str, method: &str| document["paths"][path][method]["tags"][0].as_str().unwrap().to_owned();
    assert_eq!(route(&below[0], "get"), "list");
    assert_eq!(route(&below[0], "post"), "contacts");
    assert_eq!(document["paths"][&below[0]]["post"]["x-max-body-bytes"], 1024);
    assert_eq!(route(&below[1], "get"), "one");
    assert_eq!(route(&below[1], "delete"), "contacts");
    assert_eq!(route(&below[2], "get"), "contacts");
    assert_eq!(document["paths"][&below[2]]["parameters"][1]["x-below"], true);
    let items = document["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let ids: Vec<&str> = items.filter_map(|operation| operation.get("operationId")?.as_str()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
}

#[test]
fn every_code_has_a_response_with_the_body_that_the_gateway_sends() {
    let document = document(&repositorys(), &[]);
    let envelope = json!({"components": document["components"], "$ref": "#/components/schemas/Error"});
    let mut codes = BTreeSet::new();
    for (name, response) in document["components"]["responses"].as_object().unwrap() {
        let content = &response["content"]["application/json"];
        let code = &content["schema"]["allOf"][1]["properties"]["error"]["properties"]["code"]["const"];
        for (status, example) in content["examples"].as_object().into_iter().flatten() {
            let body = &example["value"];
            assert_eq!(body["error"]["code"], *code, "{name} {status}");
            assert!(jsonschema::is_valid(&envelope, body), "{name} {status}");
            codes.insert(code.as_str().unwrap().to_owned());
        }
    }
    let known = mailtrixy_gateway::policy::refusal::ErrorCode::ALL.map(|code| code.as_str().to_owned());
    assert_eq!(codes, BTreeSet::from(known));
}

#[test]
fn nothing_of_the_inside_is_told() {
    for text in [repositorys(), everything()] {
        let document = document(&text, &[]).to_string();
        for word in ["127.0.0.1", "secret-name", "inside.example", "trial", "HS256", "redis", "upstream"] {
            assert!(!document.contains(word), "{word}");
        }
    }
}

#[test]
fn a_configuration_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = binary().current_dir(folder.path()).args(["openapi", "-c", "nowhere.yaml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("mailtrixy-gateway: cannot read nowhere.yaml"));
}

/// The repository's gateway.yaml on ports of the system's choice, before the sample backends. All limits but one are far away.
async fn gateway() -> Gateway {
    let mut environment = vec![("ADMIN_ADDRESS", "127.0.0.1:0".to_owned())];
    let mut backends = Vec::new();
    for name in ["contacts", "campaigns", "ai", "core"] {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let variable = match name {
            "contacts" => "CONTACTS_SERVER",
            "campaigns" => "CAMPAIGNS_SERVER",
            "ai" => "AI_SERVER",
            _ => "CORE_SERVER",
        };
        environment.push((variable, listener.local_addr().unwrap().to_string()));
        backends.push(demo::Backend { name, listener });
    }
    demo::serve(backends).unwrap();
    let mut text = repositorys().replace("0.0.0.0:8080", "127.0.0.1:0");
    for requests in ["60", "120", "30", "20"] {
        text = text.replace(&format!("{{requests: {requests}, "), "{requests: 100000, ");
    }
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Gateway::start_with(&text, &environment).await
}

/// Schemathesis sends what the document allows and what it does not, and compares every answer with it: its status, fields and body,
/// that a token is asked for, that other methods are refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fuzzer_finds_no_answer_that_the_document_does_not_tell_of() {
    let gateway = gateway().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("openapi.json");
    let document = document(&std::fs::read_to_string(gateway.config_path()).unwrap(), &[]);
    std::fs::write(&path, document.to_string()).unwrap();
    let mut command = Command::new(tool("python/bin/schemathesis"));
    command.current_dir(folder.path()).arg("run").arg(&path);
    command.args(["--url", &format!("http://{}", gateway.address)]);
    command.args(["--header", &format!("Authorization: Bearer {}", token("w", "*"))]);
    command.args(["--phases", "coverage,fuzzing", "--seed", "1", "--max-examples", "5"]);
    command.args(["--request-timeout", "20", "--no-color", "--warnings", "off"]);
    // What a service takes in a body is the service's to say, so that it refuses one is no contradiction.
    command.args(["--exclude-checks", "positive_data_acceptance"]);
    let said = tokio::task::spawn_blocking(move || run(command)).await.unwrap();
    let items = document["paths"].as_object().unwrap().values().map(|item| item.as_object().unwrap());
    let operations: usize = items.map(|item| item.keys().filter(|key| *key != "parameters").count()).sum();
    assert!(said.contains(&format!("Tested: {operations}")), "{said}");
    let metrics = gateway.admin("/metrics").await.text();
    let requests = || metrics.lines().filter(|line| line.starts_with("gateway_requests_total{"));
    for status in [200, 400, 401, 404, 405, 422, 429] {
        let was_met = requests().any(|line| line.contains(&format!("status=\"{status}\"")));
        assert!(was_met, "the fuzzer never met {status}");
    }
}
