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
gateway.yaml:6:30: error: a limit lets 1 to 1000000000 requests pass
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
      = host:port, 10.0.0.7:8080, [::1]:8080, unix:/path or host:port?weight=2 (1 to 100)
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

const BROKEN_SOURCES: &str = r#"version: 1
listeners: [{address: "0.0.0.0:8080"}]
auth:
  sources:
    - sql: {query: "SELECT 1"}
    - sql: {url: "", timeout: 1s}
    - sql: {url: "mysql://root:hunter2@db/app", url_file: nowhere}
    - sql: {url_file: /nowhere/url}
    - sql: {url: "sqlite://tokens:hunter2@file"}
    - sql: {url: "mysql://root:hunter2@db:port/app"}
    - sql: {url: "mysql://root:hunter2@db/app", query: "SELECT 1 WHERE token = $1", last_used_at: true}
    - sql: {url: "postgres://root:hunter2@db/app", query: "SELECT 1 WHERE token = ?", timeout: 0s}
    - sql: {url: "postgres://root:hunter2@db/app", pool: 0, poll: 3}
    - introspection: {url: "http://tokens.example/introspect", secret: hunter2}
    - introspection: {url: "https://tokens.example/introspect", client_id: gateway}
    - introspection: {url: "http://127.0.0.1:1/introspect", client_id: gateway, client_secret: hunter2, secret: hunter2}
    - introspection: {url: "http://[::1]:1/introspect", secret: "", timeout: 0s}
    - introspection: {url: "http://localhost/introspect", secret_file: /nowhere/secret}
    - introspection: {url: "https://tokens.example/introspect", client_id: gateway, client_secret: ""}
    - signed: {issuer: "", audience: "", keys: []}
    - signed: {issuer: a, audience: b, jwks: {url: "http://localhost.example/jwks.json", refresh: 9s}}
    - signed: {issuer: a, audience: b, jwks: {url: "file:///jwks.json"}}
    - signed: {issuer: a, audience: b, keys: [{id: k, algorithm: EdDSA, secret: hunter2}, {id: k, algorithm: RS256}], jwks: {url: ""}}
scopes: [contacts]
limits: {general: {requests: 1, per: 1m}}
upstreams: {main: {servers: ["127.0.0.1:1"]}}
routes:
  contacts: {path: /contacts, scope: contacts, upstream: main}
"#;

#[test]
fn every_problem_of_a_token_source_is_named_with_its_place_and_without_its_secrets() {
    let (status, text, _) = check(BROKEN_SOURCES);
    assert_eq!(status, Some(1));
    assert!(!text.contains("hunter2"), "{text}");
    insta::assert_snapshot!(text, @r##"
gateway.yaml:5:7: error: an sql source needs `url` or `url_file`
    5 |     - sql: {query: "SELECT 1"}
      |       ^
gateway.yaml:6:18: error: auth.sources.1.sql.url is empty
    6 |     - sql: {url: **, timeout: 1s}
      |                  ^^
gateway.yaml:7:18: error: `url` and `url_file` are both given
    7 |     - sql: {url: *****************************, url_file: nowhere}
      |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = keep one of them
gateway.yaml:8:23: error: /nowhere/url cannot be read: entity not found
    8 |     - sql: {url_file: /nowhere/url}
      |                       ^^^^^^^^^^^^
gateway.yaml:9:18: error: this is not the url of a database
    9 |     - sql: {url: ******************************}
      |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      = mysql://user:password@host/database or postgres://user:password@host/database
gateway.yaml:10:18: error: this is not a url that can be connected to
   10 |     - sql: {url: **********************************}
      |                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
gateway.yaml:11:56: error: the query does not ask for the digest: it has no `?`
   11 |     - sql: {url: *****************************, query: "SELECT 1 WHERE token = $1", last_used_at: true}
      |                                                        ^^^^^^^^^^^^^^^^^^^^^^^^^^^
gateway.yaml:11:99: error: `last_used_at` is kept in personal_access_tokens, which `query` may not be about
   11 |     - sql: {url: *****************************, query: "SELECT 1 WHERE token = $1", last_used_at: true}
      |                                                                                                   ^^^^
      = take one of them out
gateway.yaml:12:7: error: an sql source needs some time and at least one connection
   12 |     - sql: {url: ********************************, query: "SELECT 1 WHERE token = ?", timeout: 0s}
      |       ^
gateway.yaml:12:59: error: the query does not ask for the digest: it has no `$1`
   12 |     - sql: {url: ********************************, query: "SELECT 1 WHERE token = ?", timeout: 0s}
      |                                                           ^^^^^^^^^^^^^^^^^^^^^^^^^^
gateway.yaml:13:7: error: an sql source needs some time and at least one connection
   13 |     - sql: {url: ********************************, pool: 0, poll: 3}
      |       ^
gateway.yaml:13:61: error: unknown key `poll`
   13 |     - sql: {url: ********************************, pool: 0, poll: 3}
      |                                                             ^^^^
      = did you mean `pool`?
gateway.yaml:14:28: error: this is not a url by https, or by http to this machine
   14 |     - introspection: {url: **********************************, secret: *******}
      |                            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
gateway.yaml:15:7: error: an introspection source shows who it is in one way
   15 |     - introspection: {url: ***********************************, client_id: gateway}
      |       ^
      = `client_id` with `client_secret`, or `secret` alone
gateway.yaml:16:7: error: an introspection source shows who it is in one way
   16 |     - introspection: {url: *******************************, client_id: gateway, client_secret: *******, secret: *******}
      |       ^
      = `client_id` with `client_secret`, or `secret` alone
gateway.yaml:17:65: error: auth.sources.12.introspection.secret is empty
   17 |     - introspection: {url: ***************************, secret: **, timeout: 0s}
      |                                                                 ^^
gateway.yaml:17:78: error: the timeout is 0: nobody could answer in time
   17 |     - introspection: {url: ***************************, secret: **, timeout: 0s}
      |                                                                              ^^
gateway.yaml:18:72: error: /nowhere/secret cannot be read: entity not found
   18 |     - introspection: {url: *****************************, secret_file: /nowhere/secret}
      |                                                                        ^^^^^^^^^^^^^^^
gateway.yaml:19:100: error: auth.sources.14.introspection.client_secret is empty
   19 |     - introspection: {url: ***********************************, client_id: gateway, client_secret: **}
      |                                                                                                    ^^
gateway.yaml:20:24: error: `issuer` is empty: any token would do
   20 |     - signed: {issuer: "", audience: "", keys: []}
      |                        ^^
gateway.yaml:20:38: error: `audience` is empty: any token would do
   20 |     - signed: {issuer: "", audience: "", keys: []}
      |                                      ^^
gateway.yaml:20:48: error: a signed source needs `keys` or `jwks`
   20 |     - signed: {issuer: "", audience: "", keys: []}
      |                                                ^
gateway.yaml:21:52: error: this is not a url by https, or by http to this machine
   21 |     - signed: {issuer: a, audience: b, jwks: {url: ************************************, refresh: 9s}}
      |                                                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
gateway.yaml:21:99: error: a key set is read again at most every 10s
   21 |     - signed: {issuer: a, audience: b, jwks: {url: ************************************, refresh: 9s}}
      |                                                                                                   ^^
gateway.yaml:22:52: error: this is not a url by https, or by http to this machine
   22 |     - signed: {issuer: a, audience: b, jwks: {url: *******************}}
      |                                                    ^^^^^^^^^^^^^^^^^^^
gateway.yaml:23:47: error: a key for EdDSA is given by `public_key` or `public_key_file` alone
   23 |     - signed: {issuer: a, audience: b, keys: [{id: k, algorithm: EdDSA, secret: *******}, {id: k, algorithm: RS256}], jwks: {url: **}}
      |                                               ^
gateway.yaml:23:91: error: a key for RS256 needs `public_key` or `public_key_file`
   23 |     - signed: {issuer: a, audience: b, keys: [{id: k, algorithm: EdDSA, secret: *******}, {id: k, algorithm: RS256}], jwks: {url: **}}
      |                                                                                           ^
gateway.yaml:23:131: error: this is not a url by https, or by http to this machine
   23 |     - signed: {issuer: a, audience: b, keys: [{id: k, algorithm: EdDSA, secret: *******}, {id: k, algorithm: RS256}], jwks: {url: **}}
      |                                                                                                                                   ^^
"##);
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
