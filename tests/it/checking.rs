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
        text.ends_with("gateway.yaml: no errors, 1 warning\n")
            && text.contains("redis.url is empty, so this source is left out"),
        "{text}"
    );
    let (status, text) = run(None);
    assert_eq!(status, Some(1));
    assert!(text.contains("the variable MB_SIGNING_SECRET is not set"), "{text}");
    let (status, text) = run(Some("short"));
    assert_eq!(status, Some(1));
    assert!(text.contains("at least 32 bytes") && !text.contains("short"), "{text}");
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
    let broken = include_str!("../config/many-problems.yaml");
    std::fs::write(folder.path().join("gateway.yaml"), broken).unwrap();
    let output = binary().current_dir(folder.path()).arg("run").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let problems = check(broken).1.replace("gateway.yaml: 15 errors\n", "");
    assert_eq!(said.trim_end(), format!("mailtrixy-gateway: gateway.yaml cannot be used\n{problems}").trim_end());
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
