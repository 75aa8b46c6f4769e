//! `why`: the story of a request from the log of a running gateway, and a meaning for every reason there is.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;

use mailtrixy_gateway::explain::reasons::Reason;

use crate::harness::backend::{Backend, json, nobody};
use crate::harness::gateway::{CONTACTS, Gateway, binary, simple};
use crate::harness::redis::Redis;
use crate::harness::token::{claims, sign, token};

/// Runs `why` on `log`, in the gateway's folder, and shows what it says with what varies made the same.
fn why(gateway: &Gateway, id: &str, log: &str) -> String {
    let mut command = binary();
    command.current_dir(gateway.folder()).args(["why", id]);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Whoever fails before reading does not read.
    let _ = process.stdin.take().unwrap().write_all(log.as_bytes());
    let output = process.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let exit = output.status.code().unwrap();
    let text = String::from_utf8(text).unwrap();
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for at in 0..words.len() {
        let is_time = words[at].parse::<f64>().is_ok() && words.get(at + 1).is_some_and(|unit| unit.starts_with("ms"));
        if is_time {
            words[at] = "…".to_owned();
        } else if words[at].ends_with('Z') && words[at].contains("T") {
            words[at] = words[at].split('2').next().unwrap().to_owned() + "WHEN";
        }
    }
    format!("{}exit {exit}", words.join(" "))
}

fn request(path: &str, id: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: {id}\r\nAuthorization: Bearer {token}\r\n\r\n")
}

#[tokio::test]
async fn each_request_has_its_story() {
    let backend = Backend::answering(|request| match request.target.ends_with("/broken") {
        true => json(500, r#"{"message":"oh"}"#),
        false => json(200, r#"{"success":true}"#),
    })
    .await;
    let redis = Redis::start().await;
    let routes =
        CONTACTS.replace("none", "few") + "  gone: {path: /gone, access: token, limit: none, upstream: gone}\n";
    let limits = "few: {requests: 2, per: 1h}";
    let gone = format!("upstreams:\n  gone: {{servers: [\"{}\"], retries: 0}}", nobody().await);
    let config = simple(&[backend.address], limits, &routes).replacen("upstreams:", &gone, 1);
    let gateway = Gateway::start(&format!("redis: {{url: \"{}\"}}\n{config}", redis.url())).await;
    let mut claims = claims("w1", "contacts");
    claims["jti"] = "t-1".into();
    let mine = sign(&claims);
    for (path, id, token) in [
        ("/api/v1/contacts", "passed", mine.as_str()),
        ("/api/v1/contacts/broken", "failed", &mine),
        ("/api/v1/contacts", "limited", &mine),
        ("/api/v1/gone", "gone", &mine),
        ("/api/v1/contacts", "twice", "mb_no"),
        ("/nowhere", "twice", &mine),
    ] {
        gateway.send(&request(path, id, token)).await;
    }
    gateway.access_lines(6).await;
    let (log, address) = (gateway.output(), backend.address.to_string());
    let told = |id| why(&gateway, id, &log).replace(&address, "BACKEND");
    insta::assert_snapshot!(told("passed"), @r"
    WHEN  GET /api/v1/contacts from 127.0.0.1 was answered 200 after … ms.
      It took the route contacts (gateway.yaml:18).
      The caller was workspace w1, user user-1, with the token t-1.
      The limit few was the tightest, with 1 left (gateway.yaml:13).
      The upstream main was asked, at last BACKEND, … ms of it there and … ms in the gateway and with the client (gateway.yaml:16).
      The server's answer was passed on.
    exit 0
    ");
    insta::assert_snapshot!(told("failed"), @r"
    WHEN  GET /api/v1/contacts/broken from 127.0.0.1 was answered 500 SERVER_ERROR after … ms.
      It took the route contacts (gateway.yaml:18).
      The caller was workspace w1, user user-1, with the token t-1.
      The limit few was the tightest, with 0 left (gateway.yaml:13).
      The upstream main was asked, at last BACKEND, … ms of it there and … ms in the gateway and with the client (gateway.yaml:16).
      The server itself answered this; the gateway at most put it into the envelope.
      What to do: look for failed in the log of BACKEND.
    exit 0
    ");
    insta::assert_snapshot!(told("limited"), @r"
    WHEN  GET /api/v1/contacts from 127.0.0.1 was answered 429 RATE_LIMITED after … ms.
      It took the route contacts (gateway.yaml:18).
      The caller was workspace w1, user user-1, with the token t-1.
      The limit few refused it, with 0 left (gateway.yaml:13).
      No server was asked.
      Reason limit: the limit is used up (gateway.yaml:13).
      What to do: wait as long as Retry-After says; if callers reach it in ordinary use, raise it.
    exit 0
    ");
    insta::assert_snapshot!(why(&gateway, "gone", &log).lines().skip(1).filter(|line| !line.contains(" was asked")).collect::<Vec<_>>().join("\n"), @r"
      It took the route gone (gateway.yaml:19).
      The caller was workspace w1, user user-1, with the token t-1.
      Reason upstream_refused: no server of the upstream takes connections (gateway.yaml:15).
      What to do: start it; is its address right?
    exit 0
    ");
    insta::assert_snapshot!(told("twice"), @r"
    WHEN  GET /api/v1/contacts from 127.0.0.1 was answered 401 UNAUTHENTICATED after … ms.
      It took the route contacts (gateway.yaml:18).
      No server was asked.
      Reason token_malformed: what was presented does not look like a token: its prefix, its length or its checksum is not right.
      What to do: was it cut or mistyped? `mailtrixy-gateway token inspect` tells.
    WHEN  GET /nowhere from 127.0.0.1 was answered 404 NOT_FOUND after … ms.
      It came to no route.
      No server was asked.
      Reason no_route: no route has this path (gateway.yaml:6, gateway.yaml:17).
      What to do: is the path right, with its base_path? Else add a route.
    exit 0
    ");
    insta::assert_snapshot!(told("never"), @r"
    mailtrixy-gateway: never is not in this log; is it the log of that gateway and of that time? With observability.log.sample below 1 most successes have no line, and above level: info no fault of a caller has one
    exit 1
    ");
}

#[tokio::test]
async fn a_log_for_people_tells_the_same_story() {
    let backend = Backend::start().await;
    let config = simple(&[backend.address], "", CONTACTS) + "observability: {log: {format: text}}\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.yaml"), config).unwrap();
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    gateway.send(&request("/api/v1/contacts", "a-1", &token("w", "ai"))).await;
    let line = gateway.access_lines(1).await.remove(0);
    let text = format!(
        "{} INFO  403   403µs GET    /api/v1/contacts                     reason=scope route=contacts workspace=w user=user-1 token={} client=127.0.0.1 id=a-1\n",
        line["timestamp"].as_str().unwrap(),
        line["token_id"].as_str().unwrap(),
    );
    assert_eq!(why(&gateway, "a-1", &text), why(&gateway, "a-1", &gateway.output()));
}

#[tokio::test]
async fn what_cannot_be_read_is_left_out_counted_and_said() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    let log = format!(
        "{}\nprefix a-1 and no more\n{{\"message\":\"request\",\"request_id\":\"a-1\",\"method\":\"GET\",\"path\":\"/\\u001b[2J\",\"status\":200,\"route\":\"x\\ny\"}}\n",
        "a-1".repeat(100_000)
    );
    insta::assert_snapshot!(why(&gateway, "a-1", &log), @r"
      GET /\u{1b}[2J from  was answered 200 after … ms.
      It took the route x\ny.
      The gateway answered it by itself, as it should.
    mailtrixy-gateway: 1 lines are longer than any access line and were left out
    mailtrixy-gateway: 1 lines name the request and are neither JSON nor in the columns of log.format: text; was something put before them?
    exit 0
    ");
}

/// The literals in the arguments of every call of `function` in the code.
fn literals_in_calls(code: &str, function: &str) -> Vec<String> {
    let calls = code.match_indices(function).filter_map(|(at, _)| {
        let arguments = &code[at + function.len()..];
        let mut depth = 1;
        let end = arguments.find(|character| {
            depth += match character {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            depth == 0
        })?;
        Some(&arguments[..end])
    });
    calls.flat_map(|arguments| arguments.split('"').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// Every reason that the code can produce, found where it is made.
fn reasons_of_the_code() -> BTreeSet<String> {
    fn walk(folder: &Path, text: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            // The first tells of reasons and makes none, the second is for tests alone.
            if entry.ends_with("src/explain") || entry.ends_with("console/hostile.rs") {
                continue;
            }
            if entry.is_dir() {
                walk(&entry, text);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                text.push(std::fs::read_to_string(&entry).unwrap());
            }
        }
    }
    let mut files = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut reasons = BTreeSet::new();
    for file in files {
        let code: Vec<&str> = file
            .lines()
            .take_while(|line| !line.starts_with("#[cfg(test)]"))
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        let code = code.join("\n");
        for call in [
            " bad(",
            "(bad(",
            "refused(StatusCode",
            "too_large(",
            "Refusal::BadRequest(",
            "Refusal::Internal(",
            "Refusal::BadGateway(",
            "Failure::Broken(",
        ] {
            reasons.extend(literals_in_calls(&code, call));
        }
        for (definition, end) in [
            ("fn reason(self", "\n    }\n"),
            ("fn reason(&self", "\n    }\n"),
            ("const CLOSED: ", ";"),
            ("const BODY_FRAMING: ", ";"),
        ] {
            let bodies = code.split(definition).skip(1).filter_map(|rest| rest.split(end).next());
            let values =
                bodies.flat_map(str::lines).map(|line| line.rsplit_once("=> ").map_or(line, |(_, value)| value));
            reasons.extend(values.filter_map(|value| value.split('"').nth(1)).map(str::to_owned));
        }
    }
    reasons
}

#[test]
fn every_reason_that_the_code_can_give_is_explained_and_no_other() {
    let explained: BTreeSet<String> = Reason::all().map(|reason| reason.name.to_owned()).collect();
    let known = reasons_of_the_code();
    let missing: Vec<_> = known.difference(&explained).collect();
    let invented: Vec<_> = explained.difference(&known).collect();
    assert_eq!((missing, invented), (vec![], vec![]));
    assert!(known.len() > 60, "{}", known.len());
}
