//! Everything that can be wrong with gateway.yaml: `tests/config` has a broken file for each message, and beside it, in `.out`, what
//! `check` says of it. `UPDATE_EXPECTED=1` writes what is, to be looked at.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::gateway::binary;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

/// The names of the broken files.
fn files() -> Vec<String> {
    let names = std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".yaml")).collect();
    names.sort();
    names
}

fn check(file: &str, options: &[&str]) -> (Option<i32>, String) {
    let output = binary().current_dir(folder()).args(["check", "-c", file]).args(options).output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{file}");
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn every_broken_file_is_told_what_stands_beside_it() {
    let files = files();
    assert!(files.len() > 100);
    let is_to_be_written = std::env::var_os("UPDATE_EXPECTED").is_some();
    let mut different = Vec::new();
    for file in files {
        let (status, said) = check(&file, &[]);
        let has_errors = said.lines().any(|line| line.starts_with(&format!("{file}:")) && line.contains(": error: "));
        assert_eq!(status, Some(i32::from(has_errors)), "{said}");
        assert!(!said.contains("hunter") && !said.contains("12345678901234567890"), "a secret: {said}");
        let path = folder().join(file).with_extension("out");
        if is_to_be_written {
            std::fs::write(path, said).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != said {
            different.push(said);
        }
    }
    assert!(different.is_empty(), "not as expected (UPDATE_EXPECTED=1 writes it):\n{}", different.join("\n"));
}

#[test]
fn programs_are_told_the_same_as_people() {
    for file in files() {
        let ((status, said), (same, json)) = (check(&file, &[]), check(&file, &["--format", "json"]));
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!((status, &json["file"], &json["ok"]), (same, &file.as_str().into(), &(status == Some(0)).into()));
        let problems = json["problems"].as_array().unwrap();
        let heads = problems.iter().map(|problem| {
            let text = |key: &str| problem[key].as_str().unwrap().to_owned();
            let number = |key: &str| problem[key].as_u64().unwrap();
            assert!(number("end_column") > number("column"));
            format!("{file}:{}:{}: {}: {}", number("line"), number("column"), text("severity"), text("message"))
        });
        let told = said.lines().filter(|line| line.starts_with(&format!("{file}:")) && line.matches(": ").count() > 1);
        assert_eq!(heads.collect::<Vec<_>>(), told.collect::<Vec<_>>());
        let hints = said.lines().filter_map(|line| line.strip_prefix("      = "));
        assert_eq!(
            problems.iter().filter_map(|problem| problem["hint"].as_str()).collect::<Vec<_>>(),
            hints.collect::<Vec<_>>()
        );
    }
}

/// What a call is given after its first argument; `text` begins behind the opening bracket.
fn further_arguments(text: &str) -> &str {
    let (mut depth, mut first, mut is_quoted, mut is_escaped) = (0, None, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return &text[first.unwrap_or(at)..at],
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 && first.is_none() => first = Some(at),
            _ => {}
        }
    }
    ""
}

/// The fixed parts of a message that a piece of source makes.
fn fixed_parts(source: &str) -> Option<Vec<String>> {
    let literal = source.split('"').nth(1)?;
    let parts = literal.split('{').map(|part| part.split_once('}').map_or(part, |(_, behind)| behind));
    let parts: Vec<String> = parts.map(str::to_owned).filter(|part| part.len() > 3).collect();
    (!parts.is_empty()).then_some(parts)
}

/// What no file of ours can show: a certificate that ages, and events that the parser of YAML never gives in that place.
const ELSEWHERE: [&str; 4] =
    ["the certificate ", "this is not expected here", "a value is expected here", "this anchor is not defined above"];

#[test]
fn every_message_has_a_file_that_it_is_told_of() {
    let outputs: Vec<String> = files()
        .iter()
        .map(|file| std::fs::read_to_string(folder().join(file).with_extension("out")).unwrap())
        .collect();
    let heads: Vec<&str> =
        outputs.iter().flat_map(|text| text.lines()).filter(|line| line.contains(".yaml:")).collect();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config");
    let (mut messages, mut missing) = (0, Vec::new());
    for file in ["", "compile"].iter().flat_map(|below| std::fs::read_dir(source.join(below)).unwrap()) {
        let path = file.unwrap().path();
        if !path.is_file() {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let calls = ["error(", "warning("].iter().flat_map(|call| code.split(call).skip(1)).map(further_arguments);
        let prepared = code.split("let message =").skip(1).map(|rest| rest.split(";\n").next().unwrap());
        for parts in calls.chain(prepared).filter_map(fixed_parts) {
            messages += 1;
            if ELSEWHERE.contains(&parts[0].as_str()) {
                continue;
            }
            let is_told = heads.iter().any(|head| parts.iter().all(|part| head.contains(part.as_str())));
            missing.extend((!is_told).then(|| format!("{}: {parts:?}", path.display())));
        }
    }
    assert!(messages > 100, "{messages} messages were found");
    assert!(missing.is_empty(), "write a file in tests/config for each:\n{}", missing.join("\n"));
}
