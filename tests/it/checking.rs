//! `check` and `run`: the same words for the same problems.

use crate::harness::gateway::{binary, command};

fn check(text: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.yaml"), text).unwrap();
    let output = binary().current_dir(folder.path()).arg("check").output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_repositorys_own_file_is_fine_and_names_the_variable_it_needs() {
    let root = env!("CARGO_MANIFEST_DIR");
    let run = |secret: Option<&str>| {
        let mut command = binary();
        command.env_remove("MB_SIGNING_SECRET").current_dir(root).arg("check");
        secret.map(|secret| command.env("MB_SIGNING_SECRET", secret));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, text) = run(Some("a signing secret for tests, 32 bytes or more"));
    assert_eq!(status, Some(0), "{text}");
    assert!(
        text.ends_with("gateway.yaml is fine\n") && text.contains("redis.url is empty, so this source is left out"),
        "{text}"
    );
    let (status, text) = run(None);
    assert_eq!(status, Some(1));
    assert!(text.contains("the variable MB_SIGNING_SECRET is not set"), "{text}");
    let (status, text) = run(Some("short"));
    assert_eq!(status, Some(1));
    assert!(text.contains("at least 32 bytes") && !text.contains("short"), "{text}");
}

const BROKEN: &str = r#"version: 1
listeners: [{address: "0.0.0.0:8080"}, {address: somewhere}]
admin: {address: "0.0.0.0:8080"}
scopes: [contacts, unused]
auth: {sources: [{signed: {issuer: a, audience: b, keys: [{id: k, algorithm: HS256, secret: hunter2}]}}]}
limits: {general: {requests: 0, per: 1m}, lonely: {requests: 1, per: 90ms}}
upstreams:
  main: {servers: []}
  other: {servers: ["127.0.0.1"], retires: 2}
routes:
  open: {path: /open, upstream: main}
  one: {path: /one/, scope: contcts, upstream: mian, limit: genral}
  two: {path: /two, methods: [GTE], scope: contacts, upstream: main}
  three: {path: /two, methods: [POST], scope: contacts, upstream: main}
  four: {path: "/{x}", access: public, upstream: main}
"#;

#[test]
fn every_problem_is_named_at_once_with_its_place_its_line_and_a_suggestion() {
    let (status, text, _) = check(BROKEN);
    assert_eq!(status, Some(1));
    insta::assert_snapshot!(text, @r#"
gateway.yaml:2:50: error: `somewhere` is not an address to listen on
    2 | listeners: [{address: "0.0.0.0:8080"}, {address: somewhere}]
      |                                                  ^^^^^^^^^
      = an IP address and a port: 0.0.0.0:8080 or [::]:8080
gateway.yaml:3:18: error: the admin listener is one of `listeners`: it would be public
    3 | admin: {address: "0.0.0.0:8080"}
      |                  ^^^^^^^^^^^^^^
gateway.yaml:4:20: warning: no route asks for the scope `unused`
    4 | scopes: [contacts, unused]
      |                    ^^^^^^
gateway.yaml:5:93: error: the secret of an HS256 key has at least 32 bytes (RFC 7518 section 3.2)
    5 | auth: {sources: [{signed: {issuer: a, audience: b, keys: [{id: k, algorithm: HS256, secret: *******}]}}]}
      |                                                                                             ^^^^^^^
gateway.yaml:6:30: error: a limit lets 1 to 1000000 requests pass
    6 | limits: {general: {requests: 0, per: 1m}, lonely: {requests: 1, per: 90ms}}
      |                              ^
gateway.yaml:6:70: error: a window is 1s to 31d, in whole seconds
    6 | limits: {general: {requests: 0, per: 1m}, lonely: {requests: 1, per: 90ms}}
      |                                                                      ^^^^
gateway.yaml:8:19: error: the upstream `main` has no servers
    8 |   main: {servers: []}
      |                   ^
gateway.yaml:9:21: error: `127.0.0.1` is not a server
    9 |   other: {servers: ["127.0.0.1"], retires: 2}
      |                     ^^^^^^^^^^^
      = host:port, 10.0.0.7:8080 or [::1]:8080
gateway.yaml:9:35: error: unknown key `retires`
    9 |   other: {servers: ["127.0.0.1"], retires: 2}
      |                                   ^^^^^^^
      = did you mean `retries`?
gateway.yaml:11:9: error: the route `open` does not say who may use it
   11 |   open: {path: /open, upstream: main}
      |         ^
      = add `scope: …`, `access: token` (any valid token) or `access: public`
gateway.yaml:12:15: error: `/one/` is not the path of a route
   12 |   one: {path: /one/, scope: contcts, upstream: mian, limit: genral}
      |               ^^^^^
      = a path has no empty, `.` or `..` segment and no slash at its end
gateway.yaml:12:29: error: there is no scope `contcts`
   12 |   one: {path: /one/, scope: contcts, upstream: mian, limit: genral}
      |                             ^^^^^^^
      = did you mean `contacts`?
gateway.yaml:12:48: error: there is no upstream `mian`
   12 |   one: {path: /one/, scope: contcts, upstream: mian, limit: genral}
      |                                                ^^^^
      = did you mean `main`?
gateway.yaml:12:61: error: there is no limit `genral`
   12 |   one: {path: /one/, scope: contcts, upstream: mian, limit: genral}
      |                                                             ^^^^^^
      = did you mean `general`?
gateway.yaml:13:31: error: `GTE` is not a method of a route
   13 |   two: {path: /two, methods: [GTE], scope: contacts, upstream: main}
      |                               ^^^
      = did you mean `GET`?
gateway.yaml:15:3: error: the limit `general` is counted by workspace, which nobody has on a public route
   15 |   four: {path: "/{x}", access: public, upstream: main}
      |   ^^^^
      = use a limit with `by: client_ip`, or `limit: none`
"#);
}

#[test]
fn a_rule_that_is_empty_is_a_problem_and_not_no_rule() {
    let (status, text, _) = check(
        "version: 1\nlisteners: [{address: \"0.0.0.0:8080\"}]\nauth: {expiration: , sources: [{redis: {}}]}\nscopes: [a]\nlimits: {general: {requests: 1, per: 1m}}\nupstreams: {main: {servers: [\"127.0.0.1:1\"]}}\nroutes:\n  one: {path: /one, scope: , upstream: main}\n  two: {path: /two, scope: a, methods: [], limit: [], upstream: main}\n  three: {path: /**, access: token, upstream: main}\n",
    );
    assert_eq!(status, Some(1));
    for problem in [
        "the key `expiration` has no value",
        "the key `scope` has no value",
        "`methods` is empty: the route would take no request",
        "`limit` is an empty list",
        "no source in `auth.sources` could know one",
    ] {
        assert!(text.contains(problem), "{problem}: {text}");
    }
}

#[test]
fn run_refuses_to_start_with_the_same_words() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.yaml"), BROKEN).unwrap();
    let output = binary().current_dir(folder.path()).arg("run").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        said.trim_end(),
        format!("mailtrixy-gateway: gateway.yaml cannot be used\n{}", check(BROKEN).1).trim_end()
    );
}

#[test]
fn a_file_that_is_not_there_and_words_that_are_not_understood_are_told_apart() {
    let output = command(&["check", "-c", "/nowhere/gateway.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        said,
        "mailtrixy-gateway: cannot read /nowhere/gateway.yaml: entity not found; name another file with -c\n"
    );
    assert_eq!(command(&["serve"]).status.code(), Some(2));
    assert_eq!(command(&["--help"]).status.code(), Some(0));
}

#[tokio::test]
async fn an_address_that_is_taken_is_fatal_and_clear() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = crate::harness::gateway::simple(&[taken.local_addr().unwrap()], "", crate::harness::gateway::CONTACTS);
    let config = config.replacen("127.0.0.1:0", &taken.local_addr().unwrap().to_string(), 1);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("gateway.yaml"), config).unwrap();
    let output = binary().current_dir(folder.path()).arg("run").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.starts_with(&format!("mailtrixy-gateway: cannot listen on {}", taken.local_addr().unwrap())),
        "{said}"
    );
}
