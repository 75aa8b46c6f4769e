//! `diff --replay`: past requests under a new configuration.

use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::backend::Backend;
use crate::harness::gateway::{AUTH, Gateway, binary, config, simple};
use crate::harness::token::token;

/// Runs `diff old.yaml new.yaml --replay - …` with `log` on its standard input, and gives what stands behind the changes.
fn replayed(old: &str, new: &str, log: &str, more: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("old.yaml"), old).unwrap();
    std::fs::write(folder.path().join("new.yaml"), new).unwrap();
    let mut command = binary();
    command.current_dir(folder.path()).args(["diff", "old.yaml", "new.yaml", "--replay", "-"]).args(more);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(log.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_once("\n\n").map_or(text.clone(), |(_, replay)| replay.to_owned())
}

fn old() -> String {
    config(&format!("{AUTH}{ROUTES}"))
}

const ROUTES: &str = r#"
scopes: [contacts, ai]
limits: {general: {requests: 60, per: 1m}, visitors: {requests: 60, per: 1m, by: client_ip}}
upstreams: {main: {servers: ["10.0.0.1:80"]}}
routes:
  contacts: {path: /contacts/**, scope: contacts, upstream: main}
  ai: {path: /ai/**, scope: ai, upstream: main}
  me: {path: /me, access: token, upstream: main}
  status: {path: /status, access: public, limit: visitors, upstream: main}
"#;

/// An access line: how many seconds after midnight, whose, what for, and what else there is to say.
fn line(second: u32, workspace: &str, route: &str, more: Value) -> String {
    let at = format!("2026-11-27T{:02}:{:02}:{:02}.000Z", second / 3600, second / 60 % 60, second % 60);
    let mut line = json!({
        "timestamp": at, "level": "info", "message": "request", "request_id": "r", "route": route, "method": "GET",
        "path": format!("/api/v1/{route}"), "status": 200, "duration_ms": 1.5, "client_ip": "192.0.2.1", "bytes_in": 0, "bytes_out": 2
    });
    let fields = line.as_object_mut().unwrap();
    if !workspace.is_empty() {
        fields.extend(["workspace", "user", "token_id"].map(|name| (name.to_owned(), workspace.into())));
    }
    for (name, value) in more.as_object().unwrap() {
        match value {
            Value::Null => drop(fields.remove(name)),
            value => drop(fields.insert(name.clone(), value.clone())),
        }
    }
    format!("{line}\n")
}

fn a_day() -> String {
    let mut log = String::from(
        "not JSON\n{\"timestamp\":\"2026-11-27T00:00:00.000Z\",\"level\":\"info\",\"message\":\"listening\"}\n",
    );
    for second in 0..90 {
        log += &line(second, "busy", "contacts", json!({}));
        if second % 30 == 0 {
            log += &line(second, "calm", "contacts", json!({}));
            log += &line(second, "clever", "ai", json!({}));
            log += &line(second, "", "status", json!({"path": "/api/v1/%73tatus"}));
            log += &line(second, "", "contacts", json!({"status": 401, "reason": "no_token"}));
            log += &line(second, "calm", "ai", json!({"status": 403, "reason": "scope"}));
            log += &line(second, "calm", "contacts", json!({"status": 422, "reason": "pagination"}));
        }
    }
    log += &line(90, "", "none", json!({"status": 404, "reason": "no_route", "route": null}));
    log += &line(90, "", "none", json!({"status": 400, "reason": "path_bad_escape", "route": null, "path": "/%"}));
    log += &line(10, "late", "me", json!({"route": "gone"}));
    log
}

#[test]
fn what_would_be_limited_or_refused_is_told_by_workspace_and_so_is_what_a_log_cannot_tell() {
    let new = old()
        .replace("{requests: 60, per: 1m}", "{requests: 20, per: 1m}")
        .replace("ai: {path: /ai/**, scope: ai", "ai: {path: /ai/**, scope: contacts")
        .replace("access: public, limit: visitors", "access: token")
        .replace("  me: {path: /me, access: token, upstream: main}\n", "");
    insta::assert_snapshot!(replayed(&old(), &new, &a_day(), &[]), @r"
past requests: 111, of 4 workspaces, from 2026-11-27T00:00:00Z to 2026-11-27T00:01:30Z
  workspace   requests   passed    now  limited    now  refused    now  unknown
  busy              90       90     40        0     50        0      0        0
  (no token)         8        3      0        0      0        5      5        3
  clever             3        3      0        0      0        0      0        3
  late               1        1      0        0      0        0      1        0
  calm               9        6      6        0      0        3      0        3
  all              111      103     46        0     50        8      6        9
  another scope is needed, and a log does not say which scopes a token has: 6
  a token is needed, and a log does not say who would have one: 3
  no route takes it any more: 1
  the old file has another route than the log, so it was not in force then: 1
  a line is older than one before it (`sort` brings logs of several gateways in order): 1
  a line is no access line in JSON: 2
");
    insta::assert_snapshot!(replayed(&old(), &new, "", &[]), @r"
past requests: 0, of 0 workspaces
  workspace  requests   passed    now  limited    now  refused    now  unknown
  all               0        0      0        0      0        0      0        0
");
}

#[test]
fn under_the_same_configuration_nothing_differs() {
    insta::assert_snapshot!(replayed(&old(), &old(), &a_day(), &[]), @r"
past requests: 111, of 4 workspaces, from 2026-11-27T00:00:00Z to 2026-11-27T00:01:30Z
  workspace  requests   passed    now  limited    now  refused    now  unknown
  all             111      103    103        0      0        8      8        0
  the old file has another route than the log, so it was not in force then: 1
  a line is older than one before it (`sort` brings logs of several gateways in order): 1
  a line is no access line in JSON: 2
");
}

#[test]
fn twenty_workspaces_are_named_and_the_rest_is_summed_up() {
    let log: String = (0..40)
        .flat_map(|number| (0..number).map(move |_| line(0, &format!("w{number:02}"), "me", json!({}))))
        .collect();
    let new = old().replace("{requests: 60, per: 1m}", "{requests: 10, per: 1m}");
    let replay = replayed(&old(), &new, &log, &[]);
    insta::assert_snapshot!(replay, @r"
past requests: 780, of 39 workspaces, from 2026-11-27T00:00:00Z to 2026-11-27T00:00:00Z
  workspace  requests   passed    now  limited    now  refused    now  unknown
  w39              39       39     10        0     29        0      0        0
  w38              38       38     10        0     28        0      0        0
  w37              37       37     10        0     27        0      0        0
  w36              36       36     10        0     26        0      0        0
  w35              35       35     10        0     25        0      0        0
  w34              34       34     10        0     24        0      0        0
  w33              33       33     10        0     23        0      0        0
  w32              32       32     10        0     22        0      0        0
  w31              31       31     10        0     21        0      0        0
  w30              30       30     10        0     20        0      0        0
  w29              29       29     10        0     19        0      0        0
  w28              28       28     10        0     18        0      0        0
  w27              27       27     10        0     17        0      0        0
  w26              26       26     10        0     16        0      0        0
  w25              25       25     10        0     15        0      0        0
  w24              24       24     10        0     14        0      0        0
  w23              23       23     10        0     13        0      0        0
  w22              22       22     10        0     12        0      0        0
  w21              21       21     10        0     11        0      0        0
  w20              20       20     10        0     10        0      0        0
  9 more          135      135     90        0     45        0      0        0
  all             780      780    345        0    435        0      0        0
");
    let json = replayed(&old(), &new, &log, &["--format", "json"]);
    let document: Value = serde_json::from_str(&json).unwrap();
    let rows = document["replay"]["workspaces"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["workspace"], &rows[0]["now"]["limited"]), (21, &"w39".into(), &29.into()));
}

#[test]
fn lines_that_nobody_could_have_written_are_counted_and_nothing_else() {
    let huge = format!("{{\"message\":\"request\",\"path\":\"{}\"}}\n", "x".repeat(5 << 20));
    let sampled = old() + "observability: {log: {sample: 0.5}}\n";
    let log = format!("\n\u{0}\n{huge}[1]\n{}{{\"message\":", line(0, "w", "me", json!({})));
    insta::assert_snapshot!(replayed(&sampled, &sampled, &log, &[]), @r"
past requests: 1, of 1 workspaces, from 2026-11-27T00:00:00Z to 2026-11-27T00:00:00Z
  workspace  requests   passed    now  limited    now  refused    now  unknown
  all               1        1      1        0      0        0      0        0
  a line is no access line in JSON: 5
  only 0.5 of all successes are in the log (observability.log.sample): limits are met sooner than it says here
");
    let missing = binary()
        .args(["diff", "gateway.yaml", "gateway.yaml", "--replay", "/nowhere"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(1));
    insta::assert_snapshot!(String::from_utf8(missing.stderr).unwrap(), @"mailtrixy-gateway: cannot read /nowhere: entity not found; name an access log, or - for standard input");
}

#[tokio::test]
async fn a_real_log_is_replayed_as_the_gateway_decides() {
    let backend = Backend::start().await;
    let file = |requests: u32| {
        let routes = "  contacts: {path: /contacts/**, scope: contacts, upstream: main}\n";
        simple(&[backend.address], &format!("general: {{requests: {requests}, per: 1h}}"), routes)
    };
    let gateway = Gateway::start(&file(5)).await;
    for _ in 0..8 {
        gateway.get("/api/v1/contacts/7", &token("w1", "contacts")).await;
    }
    gateway.get("/api/v1/contacts/7", &token("w2", "contacts")).await;
    gateway.get("/api/v1/contacts/7", "mb_wrong").await;
    gateway.access_lines(10).await;
    let row = |requests, workspace: &str| {
        let json = replayed(&file(5), &file(requests), &gateway.output(), &["--format", "json"]);
        let document: Value = serde_json::from_str(&json).unwrap();
        let replay = &document["replay"];
        assert_eq!(replay["requests"], 10);
        let rows = replay["workspaces"].as_array().unwrap();
        let row = rows.iter().find(|row| row["workspace"] == workspace);
        row.map(|row| {
            format!(
                "{} {}, now {} {}",
                row["before"]["passed"], row["before"]["limited"], row["now"]["passed"], row["now"]["limited"]
            )
        })
    };
    assert_eq!(row(5, "w1"), None, "the same as the gateway decided");
    assert_eq!(row(3, "w1").unwrap(), "5 3, now 3 5");
    assert_eq!(row(7, "w1").unwrap(), "5 3, now 7 1");
    assert_eq!(row(3, "w2"), None);
}
