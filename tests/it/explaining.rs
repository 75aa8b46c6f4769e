//! `explain` says what a running gateway does, and changes nothing by it.

use std::collections::BTreeSet;
use std::process::{Output, Stdio};

use crate::harness::backend::Backend;
use crate::harness::gateway::{Gateway, binary, with_redis};
use crate::harness::redis::Redis;
use crate::harness::token::{claims, now, opaque, sign, token};

/// What is below /api/v1 in these tests.
const ROUTES: &str = r#"
  contacts: {path: /contacts/**, scope: contacts, limit: contacts, upstream: main, body_bytes: 1KiB}
  list: {path: /contacts, methods: [GET], scope: contacts, limit: [contacts, mine], upstream: main, pagination: {sort_by: [created_at, name]}}
  one: {path: "/contacts/{id}", methods: [PUT], access: token, limit: none, upstream: main}
  open: {path: /open, methods: [GET], access: public, limit: by-address, upstream: main}
  ai: {path: /ai/**, scope: ai, limit: contacts, cost: 2, upstream: main, streaming: true}
"#;

const LIMITS: &str = "limits: {contacts: {requests: 1000, per: 1m}, mine: {requests: 5, per: 1h, by: user, mode: shadow}, by-address: {requests: 1000, per: 1m, by: client_ip}}";

fn config(redis: &Redis, backend: &Backend) -> String {
    let whole = with_redis(redis, &[backend.address], "");
    let (before, _) = whole.split_once("routes:\n").unwrap();
    let before = before.replacen("limits: {}", LIMITS, 1).replacen("[contacts]", "[contacts, ai]", 1);
    format!("{before}routes:{ROUTES}")
}

/// Runs a command beside the gateway, on its configuration, with `input`.
fn beside(gateway: &Gateway, arguments: &[&str], input: &str) -> Output {
    use std::io::Write as _;
    let mut command = binary();
    command.current_dir(gateway.folder()).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    // Whoever does not read it is not asked to.
    let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
    process.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What `explain` says, with and without a token on its standard input.
fn explain(gateway: &Gateway, request: (&str, &str), token: Option<&str>) -> (Option<i32>, String) {
    let mut arguments = vec!["explain", request.0, request.1];
    arguments.extend(token.map(|_| ["--token", "-"]).into_iter().flatten());
    let output = beside(gateway, &arguments, token.unwrap_or_default());
    let printed = [output.stdout.as_slice(), &output.stderr].concat();
    let printed = String::from_utf8(printed).unwrap();
    for secret in token.into_iter().flat_map(crate::harness::token::secrets) {
        assert!(!printed.contains(&secret), "the token in {printed}");
    }
    (output.status.code(), printed)
}

/// Tokens of every kind, by name.
async fn tokens(redis: &Redis) -> Vec<(&'static str, Option<String>)> {
    let known = ["known", "expired", "disabled", "old", "revoked", "broken"].map(opaque);
    let [valid, expired, disabled, old, revoked, broken] = &known;
    redis.write_token(valid, "7", &[]).await;
    redis.write_token(expired, "8", &["expires_at", "1000"]).await;
    redis.write_token(disabled, "9", &["disabled", "1"]).await;
    redis.write_token(revoked, "11", &[]).await;
    redis.revoke("id", "11").await;
    redis.write_token(broken, "12", &["workspace", ""]).await;
    let signed = |change: fn(&mut serde_json::Value)| {
        let mut claims = claims("w1", "contacts ai");
        change(&mut claims);
        sign(&claims)
    };
    let all = [
        ("valid", valid.clone()),
        ("own row", format!("7|{valid}")),
        ("other row", format!("8|{valid}")),
        ("zero row", format!("07|{valid}")),
        ("expired", expired.clone()),
        ("disabled", disabled.clone()),
        ("unknown", old.clone()),
        ("revoked", revoked.clone()),
        ("broken", broken.clone()),
        ("mistyped", format!("{}00000000", &valid[..43])),
        ("signed", signed(|_| ())),
        ("signed, ended", signed(|claims| claims["exp"] = (now() - 60).into())),
        ("signed, elsewhere", signed(|claims| claims["aud"] = "other".into())),
        ("signed, changed", signed(|_| ()) + "A"),
        ("signed, all", signed(|claims| claims["scope"] = "*".into())),
        ("signed, none", signed(|claims| claims["scope"] = "".into())),
    ];
    [("none", None)].into_iter().chain(all.map(|(name, token)| (name, Some(token)))).collect()
}

/// Requests whose verdict depends on themselves, each with a valid token.
const REQUESTS: &[(&str, &str)] = &[
    ("GET", "/api/v1/contacts"),
    ("GET", "/api/v1//contacts/../contacts/%37?x=1"),
    ("HEAD", "/api/v1/contacts"),
    ("PUT", "/api/v1/contacts/7"),
    ("PUT", "/api/v1/contacts/7/notes"),
    ("POST", "/api/v1/open"),
    ("GET", "/api/v1/open"),
    ("GET", "/contacts"),
    ("GET", "/"),
    ("GET", "/api/v1/contacts/a%2Fb"),
    ("GET", "/api/v1/contacts;x=1"),
    ("GET", "/api/v1/contacts/%00"),
    ("GET", "/api/v1/contacts/%2525"),
    ("GET", "/api/v1/../../x"),
    ("GET", "/api/v1/index.php/contacts"),
    ("GET", "/api/v1/con tacts"),
    ("GET", "/api/v1/contacts#here"),
    ("GET", "http://other/api/v1/contacts"),
    ("GET", "contacts"),
    ("TRACE", "/api/v1/contacts"),
    ("CONNECT", "/api/v1/contacts"),
    ("BREW", "/api/v1/contacts"),
    ("G(T", "/api/v1/contacts"),
    ("7", "/api/v1/contacts"),
    ("OPTIONS", "*"),
    ("POST", "/api/v1/contacts?_method=DELETE"),
    ("GET", "/api/v1/contacts?_method=DELETE"),
    ("GET", "/api/v1/contacts?page=2&per_page=100&sort_by=name&sort_order=asc&q=x"),
    ("GET", "/api/v1/contacts?page=0"),
    ("GET", "/api/v1/contacts?per.page=5"),
    ("GET", "/api/v1/contacts?sort_by=password&sort_order=up"),
    ("GET", "/api/v1/contacts?page=1&page=2"),
    ("GET", "/api/v1/ai/chat"),
    ("GET", "/api/v1/rate-limits"),
    ("POST", "/api/v1/rate-limits"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_says_of_every_request_what_the_gateway_answers_and_why() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let tokens = tokens(&redis).await;
    let valid = tokens.iter().find(|(name, _)| *name == "valid").unwrap().1.clone();
    let gateway = Gateway::start(&config(&redis, &backend)).await;
    let long = format!("/api/v1/{}", "x".repeat(8200));
    let huge = format!("/api/v1/{}", "x".repeat(17 << 10));
    let mut cases: Vec<(&str, &str, Option<String>)> =
        REQUESTS.iter().map(|(method, target)| (*method, *target, valid.clone())).collect();
    cases.extend([("GET", long.as_str(), valid.clone()), ("GET", huge.as_str(), valid)]);
    cases.extend(tokens.iter().map(|(_, token)| ("GET", "/api/v1/ai/chat", token.clone())));
    cases.extend(tokens.iter().map(|(_, token)| ("GET", "/api/v1/contacts", token.clone())));
    for (number, (method, target, token)) in cases.iter().enumerate() {
        let (exit, printed) = explain(&gateway, (method, target), token.as_deref());
        let id = format!("case-{number}");
        let authorization = token.as_ref().map(|token| format!("Authorization: Bearer {token}\r\n"));
        let answer = gateway
            .send(&format!(
                "{method} {target} HTTP/1.1\r\nHost: x\r\nX-Request-Id: {id}\r\n{}\r\n",
                authorization.unwrap_or_default()
            ))
            .await;
        let line = gateway.log_lines(1, |line| line["request_id"] == id).await.remove(0);
        let verdict = printed.lines().find(|line| line.starts_with("yes: ") || line.starts_with("no: "));
        let verdict = verdict.unwrap_or_else(|| panic!("{method} {target}: no verdict in {printed}"));
        let expected = match line["reason"].as_str() {
            None => "yes: ".to_owned(),
            Some(reason) => {
                format!("no: {} {}, reason {reason}", answer.status, line["code"].as_str().unwrap())
            }
        };
        assert!(verdict.starts_with(&expected), "{method} {target} {number}: {verdict} instead of {expected}");
        assert_eq!(exit, Some(i32::from(answer.status != 200)), "{method} {target}: {printed}");
    }
}

#[tokio::test]
async fn explain_takes_nothing_writes_nothing_and_asks_no_backend() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let known = opaque("known");
    redis.write_token(&known, "7", &[]).await;
    redis.revoke("id", "other").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, config(&redis, &backend)).unwrap();
    let keys: BTreeSet<String> = redis.command::<Vec<String>>(&["KEYS", "*"]).await.into_iter().collect();
    let arguments = ["explain", "GET", "/api/v1/contacts", "--token", &known, "-c", path.to_str().unwrap()];
    let output = binary().args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let now: BTreeSet<String> = redis.command::<Vec<String>>(&["KEYS", "*"]).await.into_iter().collect();
    assert_eq!(now, keys);
    for command in ["eval", "evalsha", "zadd", "set"] {
        assert_eq!(redis.calls(command).await, 0, "{command}");
    }
    assert!(backend.seen().is_empty());
}

/// What varies from run to run, made the same.
fn plain(text: &str, changes: &[(&str, &str)]) -> String {
    let text = changes.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
    let moment = |line: &str| match line.find("valid until ") {
        Some(at) => format!("{}valid until … {}", &line[..at], line.rsplit_once(' ').unwrap().1),
        None => line.to_owned(),
    };
    text.lines().map(moment).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn explain_shows_each_step_with_its_line() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateway = Gateway::start(&config(&redis, &backend)).await;
    let mut claims = claims("w1", "contacts");
    claims["jti"] = "t-1".into();
    let address = backend.address.to_string();
    let shown = |request, token: Option<&str>| plain(&explain(&gateway, request, token).1, &[(&address, "BACKEND")]);
    insta::assert_snapshot!(shown(("GET", "/api/v1//contacts?page=2"), Some(&sign(&claims))), @r"
      ok  path      /api/v1/contacts, the canonical form of /api/v1//contacts
      ok  route     list: GET, HEAD /api/v1/contacts (gateway.yaml:20)
                    not, as less specific: contacts: any method, /api/v1/contacts/** (gateway.yaml:19)
      ok  token     workspace w1, user user-1, token t-1
                    valid until … (gateway.yaml:9)
      ok  access    needs the scope contacts; the token has contacts (gateway.yaml:20)
          limit     contacts: 1000 in 1m by workspace (gateway.yaml:15, gateway.yaml:20)
                    without its store each gateway counts its share
          limit     mine: 5 in 1h by user; in shadow: it refuses nobody (gateway.yaml:15, gateway.yaml:20)
                    without its store each gateway counts its share
      ok  list      page from 1; per_page 1 to 100, else 25; sort_by created_at, name, else created_at; sort_order asc or desc, else desc (gateway.yaml:20)
          body      at most 2.0 MiB
          upstream  main: BACKEND (gateway.yaml:17)
                    1s to connect, 2s to answer; 1 retry (gateway.yaml:17)
          sent      GET /api/v1/contacts?page=2&per_page=25&sort_by=created_at&sort_order=desc
                    x-workspace-id: w1
                    x-user-id: user-1
                    x-token-id: t-1
                    x-token-scopes: contacts
                    Authorization in its one form, X-Request-Id, traceparent, X-Forwarded-For, -Proto and -Host

    yes: it would be forwarded to main
    ");
    insta::assert_snapshot!(shown(("GET", "/api/v1/ai/chat"), Some(&sign(&claims))), @r"
      ok  path      /api/v1/ai/chat is canonical
      ok  route     ai: any method, /api/v1/ai/** (gateway.yaml:23)
      ok  token     workspace w1, user user-1, token t-1
                    valid until … (gateway.yaml:9)
      NO  access    needs the scope ai; the token has contacts (gateway.yaml:23)
          limit     contacts: 1000 in 1m by workspace, of which this takes 2 (gateway.yaml:15, gateway.yaml:23)
                    without its store each gateway counts its share
          body      at most 2.0 MiB
          upstream  main: BACKEND (gateway.yaml:17)
                    1s to connect, 2s to answer, then as long as it streams; 1 retry (gateway.yaml:17)

    no: 403 FORBIDDEN, reason scope
        the client reads: This token lacks the required scope for this endpoint.
        because the token is valid, and does not hold the scope that the route asks for (gateway.yaml:23)
        to pass: a token with the scope ai
    ");
    insta::assert_snapshot!(shown(("PUT", "/api/v1/contacts/7"), None), @r"
      ok  path      /api/v1/contacts/7 is canonical
      ok  route     one: PUT /api/v1/contacts/{id} (gateway.yaml:21)
                    not, as less specific: contacts: any method, /api/v1/contacts/** (gateway.yaml:19)
      NO  token     none was given, and the route needs one (gateway.yaml:9)
          access    any valid token (gateway.yaml:21)
          limit     none (gateway.yaml:21)
          body      at most 2.0 MiB
          upstream  main: BACKEND (gateway.yaml:17)
                    1s to connect, 2s to answer; 1 retry (gateway.yaml:17)

    no: 401 UNAUTHENTICATED, reason no_token
        the client reads: Missing or invalid API token.
        because the route needs a token, and the request has no Authorization: Bearer field (gateway.yaml:21)
        to pass: a token: --token T, or --token - from standard input
    ");
    insta::assert_snapshot!(shown(("POST", "/open"), None), @r"
      ok  path      /open is canonical
      NO  route     no route has this path
                    did you mean `/api/v1/open`?

    no: 404 NOT_FOUND, reason no_route
        the client reads: The requested resource does not exist.
        because no route has this path (gateway.yaml:6, gateway.yaml:18)
        to pass: is the path right, with its base_path? Else add a route
    ");
}

#[tokio::test]
async fn without_its_redis_explain_says_in_time_that_it_cannot_know() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateway = Gateway::start(&config(&redis, &backend)).await;
    drop(redis);
    let (exit, printed) = explain(&gateway, ("GET", "/api/v1/contacts"), Some(&opaque("known")));
    assert!(printed.contains("no: 503 SERVER_ERROR, reason token_store"), "{printed}");
    assert_eq!(exit, Some(1));
    let (exit, printed) = explain(&gateway, ("GET", "/api/v1/contacts"), Some(&token("w", "contacts")));
    assert!(printed.contains("a revoked token would look as good"), "{printed}");
    assert_eq!(exit, Some(0));
}

#[test]
fn a_question_that_is_no_request_or_has_no_configuration_is_told_so() {
    let asked = |arguments: &[&str]| {
        let output = binary().args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (exit, why) = asked(&["explain", "GET", "/\r\nX: y", "-c", "gateway.yaml"]);
    assert_eq!(
        (exit, why.as_str()),
        (Some(1), "mailtrixy-gateway: a method, a path and a token have no line breaks\n")
    );
    let (exit, why) = asked(&["explain", "GET", "/", "-c", "nowhere.yaml"]);
    assert!(exit == Some(1) && why.contains("cannot read nowhere.yaml"), "{why}");
    assert_eq!(asked(&["explain", "GET"]).0, Some(2));
}
