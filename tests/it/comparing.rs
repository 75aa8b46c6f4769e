//! `diff`: what it says of two files, and what it lets pass with `--deny-weaker`.

use crate::harness::certificates::acquainted;
use crate::harness::gateway::{AUTH, binary, config};

/// Runs `diff old.yaml new.yaml` on two texts: the status, what was printed, and what was complained of.
fn diff(old: &str, new: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    let folder = acquainted();
    std::fs::write(folder.path().join("old.yaml"), old).unwrap();
    std::fs::write(folder.path().join("new.yaml"), new).unwrap();
    let mut command = binary();
    command.current_dir(folder.path()).args(["diff", "old.yaml", "new.yaml"]).args(arguments);
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// What is said of the change from `old` to a text in which pieces are replaced.
#[track_caller]
fn said(old: &str, replaced: &[(&str, &str)]) -> String {
    let (status, output, errors) = diff(old, &changed(old, replaced), &[]);
    assert_eq!((status, errors.as_str()), (Some(0), ""), "{output}");
    output
}

#[track_caller]
fn changed(text: &str, replaced: &[(&str, &str)]) -> String {
    replaced.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

fn small() -> String {
    config(&format!("{AUTH}{SMALL}"))
}

const SMALL: &str = r#"
scopes: [contacts, ai]
limits:
  general: {requests: 60, per: 1m}
  costly: {requests: 10, per: 1m, on_store_failure: deny}
  visitors: {requests: 30, per: 1m, by: client_ip}
upstreams:
  main: {servers: ["10.0.0.1:80", "10.0.0.2:80"]}
  other: {servers: ["10.0.0.3:80"]}
routes:
  list: {path: /contacts, methods: [GET], scope: contacts, upstream: main, pagination: {sort_by: [created_at, name]}}
  contacts: {path: /contacts/**, scope: contacts, upstream: main}
  ai: {path: /ai/**, scope: ai, limit: [general, costly], upstream: other, streaming: true}
  me: {path: /me, methods: [GET, PUT], access: token, upstream: main}
  status: {path: /status, methods: [GET], access: public, limit: visitors, upstream: main}
"#;

#[test]
fn a_file_is_no_change_to_itself_nor_to_what_means_the_same() {
    let repositorys = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/gateway.yaml")).unwrap();
    assert_eq!(said(&repositorys, &[]), "no change for clients\n");
    let same = [
        ("general: {requests: 60, per: 1m}", "general: {per: 60s, requests: 60, by: workspace}  # as ever"),
        ("limits:\n", "request: {body_bytes: 2048KiB, headers: 100}\nlimits:\n"),
        ("  costly: {requests", "  dear: {requests"),
        ("[general, costly]", "[dear, general]"),
        ("\"10.0.0.1:80\", \"10.0.0.2:80\"", "\"10.0.0.2:80\", \"10.0.0.1:80\""),
        ("  contacts: {path: /contacts/**, scope", "  people: {path: /contacts/**, scope"),
        ("methods: [GET, PUT]", "methods: [PUT, HEAD, GET]"),
        ("  me: {", "  status: {"),
        ("  status: {path: /status", "  me: {path: /status"),
    ];
    assert_eq!(said(&small(), &same), "no change for clients\n");
}

#[test]
fn what_opens_comes_first_with_the_requests_it_is_about() {
    insta::assert_snapshot!(said(&small(), &[
        ("  ai: {path: /ai/**, scope: ai,", "  ai: {path: /ai/**, scope: contacts,"),
        ("  me: {path: /me, methods: [GET, PUT], access: token, upstream: main}\n", "  export: {path: \"/contacts/{id}/export\", methods: [GET], access: public, limit: visitors, upstream: main}\n  ping: {path: /ping, access: public, limit: none, upstream: main}\n  team: {path: /team, scope: contacts, upstream: main}\n  me: {path: /me, methods: [GET], access: token, upstream: main}\n"),
        ("  status: {path: /status, methods: [GET], access: public, limit: visitors", "  status: {path: /status, methods: [GET, POST], scope: ai, limit: general"),
    ]), @r"
open to more callers
  new.yaml:22: weaker: route `ai`: the scope `contacts` is needed instead of `ai`: other tokens come in, and those of `ai` alone are refused
  new.yaml:23: weaker: GET, HEAD /api/v1/contacts/{id}/export (route `export`, was `contacts`): public, without a token; the scope `contacts` was needed
  new.yaml:24: weaker: /api/v1/ping (route `ping`): public, without a token; no route took it
more gets through
  new.yaml:15: weaker: limit `general`: what it counted together is counted apart, by `general`, `visitors`
  new.yaml:23: weaker: GET, HEAD /api/v1/contacts/{id}/export (route `export`, was `contacts`): the limit is `visitors` (30 in 1m by client_ip) instead of `general` (60 in 1m by workspace)
  new.yaml:27: weaker: route `status`: the limit is `general` (60 in 1m by workspace) instead of `visitors` (30 in 1m by client_ip)
refused from now on
  new.yaml:27: route `status`: the scope `ai` is needed; nobody had to show a token
  old.yaml:23: PUT /api/v1/me (route `me`): no route takes it any more
answered from now on
  new.yaml:25: /api/v1/team (route `team`): answered with the scope `contacts`; no route took it
  new.yaml:27: POST /api/v1/status (route `status`): answered with the scope `ai`; no route took it
");
}

#[test]
fn limits_are_compared_by_what_they_let_pass() {
    insta::assert_snapshot!(said(&small(), &[
        ("general: {requests: 60, per: 1m}", "general: {requests: 600, per: 10m, by: user}"),
        ("costly: {requests: 10, per: 1m, on_store_failure: deny}", "costly: {requests: 5, per: 1m, mode: shadow}"),
        ("visitors: {requests: 30,", "visitors: {requests: 20, algorithm: sliding_log,"),
    ]), @r"
more gets through
  new.yaml:13: weaker: limit `general`: lets 600 in 10m pass; it was 60 in 1m
  new.yaml:13: weaker: limit `general`: counted by user; it was by workspace
  new.yaml:14: weaker: limit `costly`: without its store requests are counted by each gateway alone; they were all refused
  new.yaml:14: weaker: limit `costly`: in shadow: it counts and no longer refuses
less gets through
  new.yaml:14: limit `costly`: lets 5 in 1m pass; it was 10 in 1m
  new.yaml:15: limit `visitors`: lets 20 in 1m (sliding_log) pass; it was 30 in 1m
");
    insta::assert_snapshot!(said(&small(), &[
        ("limits:\n", "limits:\n  own: {requests: 20, per: 1m}\n"),
        ("contacts: {path: /contacts/**, scope: contacts,", "contacts: {path: /contacts/**, scope: contacts, limit: own,"),
        ("limit: [general, costly]", "limit: costly, cost: 2"),
        ("access: token,", "access: token, limit: [general, own],"),
    ]), @r"
more gets through
  new.yaml:13: weaker: limit `general`: what it counted together is counted apart, by `general`, `own`
  new.yaml:23: weaker: route `ai`: without the limit `general` (60 in 1m by workspace)
less gets through
  new.yaml:22: route `contacts`: the limit is `own` (20 in 1m by workspace) instead of `general` (60 in 1m by workspace)
  new.yaml:23: route `ai`: a request takes 2 of its limits; it took 1
  new.yaml:24: route `me`: also under the limit `own` (20 in 1m by workspace)
");
}

#[test]
fn the_rest_is_told_by_what_it_does() {
    insta::assert_snapshot!(said(&small(), &[
        ("scopes: [contacts", "trusted_proxies: [10.0.0.0/8]\nrequest: {header_bytes: 32KiB, idle_timeout: 30s, body_bytes: 10MiB}\nerrors: {backend: pass}\nrate_limit_headers: {ietf: true}\ncors: {origins: [\"https://a.example\"]}\nscopes: [contacts"),
        ("auth:\n", "auth:\n  checksum: off\n  expiration: 4h\n"),
        ("issuer: mailtrixy", "leeway: 5m, issuer: mailtrixy"),
        ("id: k1", "id: k2"),
        ("sort_by: [created_at, name]", "sort_by: [name, email]"),
        ("\"10.0.0.2:80\"]}", "\"10.0.0.9:80?weight=2\"], timeouts: {response: 5s}, retries: 0}"),
        ("streaming: true", "timeouts: {response: 2m}, body_bytes: 1KiB"),
    ]), @r"
open to more callers
  new.yaml:8: weaker: the checksum of opaque tokens is not looked at
  new.yaml:11: weaker: signed tokens of `mailtrixy` live 5m beyond their end; it was 30s
  new.yaml:13: weaker: X-Forwarded-For and X-Forwarded-Proto of 10.0.0.0/8 are believed: whoever sends from there chooses the client's address
  new.yaml:11: the issuer `mailtrixy` for `mailtrixy-api`: tokens signed with the new key `k2` (HS256) come in
  new.yaml:17: pages of https://a.example may call from a browser
clients are told more
  new.yaml:15: weaker: a backend's own error bodies pass, with whatever they tell of its insides
more gets through
  new.yaml:14: weaker: routes `contacts`, `list`, `me`, `status`: a request body may have 10MiB; it was 2MiB
  new.yaml:14: weaker: request.header_bytes is 32KiB; it was 16KiB
refused from now on
  new.yaml:9: opaque tokens end 4h after they were made; age ended none
  new.yaml:11: the issuer `mailtrixy` for `mailtrixy-api`: tokens signed with the old key `k1` are refused
  new.yaml:27: route `list`: sort_by may no longer be `created_at`: 422
less gets through
  new.yaml:14: request.idle_timeout is 30s; it was 1m
  new.yaml:29: route `ai`: a request body may have 1KiB; it was 2MiB
answered from now on
  new.yaml:27: route `list`: sort_by may be `email`
answered in another way
  new.yaml:16: RateLimit and RateLimit-Policy are sent beside X-RateLimit-*
  new.yaml:24: routes `contacts`, `list`, `me`, `status`: a server has 5s to begin its answer; it was 15s
  new.yaml:24: upstream `main`: its servers are 10.0.0.1:80, 10.0.0.9:80?weight=2; they were 10.0.0.1:80, 10.0.0.2:80
  new.yaml:24: upstream `main`: `retries` changed
  new.yaml:27: route `list`: a list without sort_by is sorted by `name`; it was `created_at`
  new.yaml:29: route `ai`: a server has 2m to begin its answer; it was 15s
  new.yaml:29: route `ai`: no longer so that an answer may take as long as it likes once it has begun
");
}

#[test]
fn listeners_are_compared_by_who_can_connect_and_need_a_restart() {
    let tls = "tls: {certificate: server.crt, key: server.key, min_version: \"1.3\", client_ca: ca.crt}";
    let encrypted =
        changed(&small(), &[("{address: \"127.0.0.1:0\"}]", &format!("{{address: \"127.0.0.1:8443\", {tls}}}]"))]);
    insta::assert_snapshot!(said(&encrypted, &[
        (", min_version: \"1.3\", client_ca: ca.crt", ""),
        ("listeners: [", "listeners: [{address: \"0.0.0.0:8080\", http2: cleartext}, "),
        ("admin: {address: \"127.0.0.1:0\"}", "admin: {address: \"0.0.0.0:9090\"}"),
        ("threads: 1", "threads: 2"),
    ]), @r"
open to more callers
  new.yaml:3: weaker: clients can connect to 0.0.0.0:8080 without encryption
  new.yaml:3: weaker: 127.0.0.1:8443 takes TLS 1.2 again
  new.yaml:3: weaker: 127.0.0.1:8443 asks clients for no certificate any more
  new.yaml:4: weaker: the admin listener is 0.0.0.0:9090: other machines reach the console and /metrics
only after a restart or a hand-over
  new.yaml:2: `threads` changed: a reload leaves it as it is
  new.yaml:3: `listeners` changed: a reload leaves it as it is
  new.yaml:4: `admin` changed: a reload leaves it as it is
");
    insta::assert_snapshot!(said(&small(), &[("{address: \"127.0.0.1:0\"}]", &format!("{{address: \"127.0.0.1:0\", {tls}}}]"))]), @r"
refused from now on
  new.yaml:3: 127.0.0.1:0 is encrypted: clients without TLS are refused
answered in another way
  new.yaml:3: HTTP/2 is spoken on 127.0.0.1:0
only after a restart or a hand-over
  new.yaml:3: `listeners` changed: a reload leaves it as it is
");
}

#[test]
fn weaker_protection_is_denied_only_where_that_is_asked_for() {
    let weaker = [("scope: ai", "access: token"), ("path: /me,", "path: /you,")];
    let (status, output, errors) = diff(&small(), &changed(&small(), &weaker), &["--deny-weaker"]);
    assert_eq!(status, Some(1));
    insta::assert_snapshot!(output, @r"
open to more callers
  new.yaml:22: weaker: route `ai`: any valid token will do; the scope `ai` was needed
  new.yaml:23: weaker: GET, HEAD, PUT /api/v1/you (route `me`): any valid token will do; no route took it
refused from now on
  old.yaml:23: GET, HEAD, PUT /api/v1/me (route `me`): no route takes it any more
");
    insta::assert_snapshot!(errors, @"mailtrixy-gateway: 2 of 3 changes take protection away: see `weaker:`, and leave --deny-weaker out if they are meant");
    let (status, again, errors) = diff(&small(), &changed(&small(), &weaker), &[]);
    assert_eq!((status, again, errors), (Some(0), output, String::new()));
    let stricter = [("access: token", "scope: ai")];
    let (status, _, errors) = diff(&small(), &changed(&small(), &stricter), &["--deny-weaker"]);
    assert_eq!((status, errors), (Some(0), String::new()));
}

#[test]
fn programs_are_told_in_json() {
    let (status, output, _) =
        diff(&small(), &changed(&small(), &[("scope: ai", "access: token")]), &["--format", "json"]);
    assert_eq!(status, Some(0));
    insta::assert_snapshot!(output, @r#"
{
  "changes": [
    {
      "effect": "opened",
      "weaker": true,
      "file": "new.yaml",
      "line": 22,
      "text": "route `ai`: any valid token will do; the scope `ai` was needed"
    }
  ]
}
"#);
    let (_, output, _) = diff(&small(), &small(), &["--format", "json"]);
    let empty: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(empty, serde_json::json!({"changes": []}));
}

#[test]
fn a_broken_file_is_reported_as_check_does() {
    let (status, output, errors) = diff(&small(), &changed(&small(), &[("scope: ai", "scope: ia")]), &[]);
    assert_eq!(status, Some(1));
    insta::assert_snapshot!(output + &errors, @r"
new.yaml:22:29: error: there is no scope `ia`
   22 |   ai: {path: /ai/**, scope: ia, limit: [general, costly], upstream: other, streaming: true}
      |                             ^^
      = did you mean `ai`?
mailtrixy-gateway: new.yaml cannot be used, so there is nothing to compare
");
    let missing = binary().current_dir(acquainted().path()).args(["diff", "a.yaml", "b.yaml"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    insta::assert_snapshot!(String::from_utf8(missing.stderr).unwrap(), @"mailtrixy-gateway: cannot read a.yaml: entity not found; name two configuration files");
}

#[test]
fn a_route_that_asks_for_a_token_may_be_counted_by_what_that_says() {
    let closed = [("access: public, limit: visitors", "access: token, limit: counted")];
    let limits = ("limits:\n", "limits:\n  counted: {requests: 30, per: 1m}\n");
    insta::assert_snapshot!(said(&changed(&small(), &[limits]), &closed), @r"
refused from now on
  new.yaml:25: route `status`: a valid token is needed; nobody had to show a token
less gets through
  new.yaml:25: route `status`: the limit is `counted` (30 in 1m by workspace) instead of `visitors` (30 in 1m by client_ip)
");
    let open = [("access: public, limit: visitors", "access: public, limit: none")];
    insta::assert_snapshot!(said(&small(), &open), @r"
more gets through
  new.yaml:24: weaker: route `status`: without the limit `visitors` (30 in 1m by client_ip)
");
}

#[test]
fn a_route_that_moves_keeps_its_protection_or_is_told() {
    let moved = [
        (
            "  ai: {path: /ai/**, scope: ai, limit: [general, costly]",
            "  ai: {path: /brain/**, scope: contacts, limit: costly",
        ),
        ("  status: {path: /status,", "  status: {path: /up,"),
    ];
    insta::assert_snapshot!(said(&small(), &moved), @r"
open to more callers
  new.yaml:22: weaker: /api/v1/brain/** (route `ai`): the scope `contacts` is needed instead of `ai`: other tokens come in, and those of `ai` alone are refused
  new.yaml:24: weaker: GET, HEAD /api/v1/up (route `status`): public, without a token; no route took it
more gets through
  new.yaml:22: weaker: /api/v1/brain/** (route `ai`): without the limit `general` (60 in 1m by workspace)
refused from now on
  old.yaml:22: /api/v1/ai/** (route `ai`): no route takes it any more
  old.yaml:24: GET, HEAD /api/v1/status (route `status`): no route takes it any more
answered from now on
  new.yaml:22: /api/v1/brain/** (route `ai`): answered with the scope `contacts`; no route took it
");
}

#[test]
fn sources_and_stores_are_named_without_their_secrets() {
    let introspection = "- introspection: {url: \"https://name:hidden@id.example/ask?key=hidden\", secret: hidden}";
    let old = changed(
        &small(),
        &[
            ("  sources:\n", &format!("  sources:\n    {introspection}\n    - redis: {{key_prefix: \"t:\"}}\n")),
            ("auth:\n", "redis: {url: \"redis://:hidden@a:6379\"}\nauth:\n"),
        ],
    );
    let new = [
        ("redis://:hidden@a:6379", "redis://:hidden2@b:6379"),
        ("secret: hidden}", "secret: hidden3}"),
        ("    - redis: {key_prefix: \"t:\"}\n", "    - sql: {url: \"mysql://u:hidden@h/d\"}\n"),
        ("keys: [{", "jwks: {url: \"https://keys.example/hidden\"}, keys: [{"),
    ];
    let text = said(&old, &new);
    assert!(!text.contains("hidden"), "{text}");
    insta::assert_snapshot!(text, @r"
open to more callers
  new.yaml:11: tokens come in that the MySQL database knows
  new.yaml:12: the issuer `mailtrixy` for `mailtrixy-api`: tokens signed with a key published at keys.example come in
refused from now on
  old.yaml:11: tokens are refused that only Redis under `t:` knows
answered in another way
  new.yaml:7: `redis.url` is another: counts, revocations and tokens are those that are found there
  new.yaml:10: the service at id.example is asked in another way
");
    insta::assert_snapshot!(said(&old, &[("redis: {url: \"redis://:hidden@a:6379\"}\n", "")]), @r"
more gets through
  old.yaml:7: weaker: without Redis each gateway counts limits by itself, and revocations are not heard of
refused from now on
  old.yaml:11: tokens are refused that only Redis under `t:` knows
");
}
