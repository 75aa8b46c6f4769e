//! Text → [`Document`], with every problem of the reading at once.
//!
//! serde stops at its first error. So what an error is about is noted with its place, taken out of the tree, and the rest is read
//! again: the next error then is the next problem, and what is left in the end is a document that can be compiled for more.

use serde_path_to_error::{Path, Segment};

use crate::config::document::Document;
use crate::config::problem::{Blot, Problem, did_you_mean, one_of};
use crate::config::yaml::{Node, Value};

/// Looks a variable of the environment up.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A file as read: the document, and the tree that knows where everything was written.
pub struct Reading {
    /// What could be read; a part of a section that has a problem is left out.
    pub document: Document,
    /// The file as written.
    pub tree: Node,
}

/// Keys whose values are not shown, not even in a message about them.
const SECRETS: [&str; 5] = ["secret", "client_secret", "password", "url", "otlp"];
/// Keys that may be written without a value: an empty url is none.
pub(super) const MAY_BE_EMPTY: [&[&str]; 2] = [&["redis", "url"], &["observability", "tracing", "otlp"]];

/// Reads `text`. `None` when there is nothing to go on with; then `problems` says why. `blots` becomes what is not to be shown of it.
pub fn read(
    text: &str,
    environment: Environment<'_>,
    problems: &mut Vec<Problem>,
    blots: &mut Vec<Blot>,
) -> Option<Reading> {
    // Until it is known where the secrets are, a line that names one is not shown.
    blots.extend(suspicious(text));
    let mut tree = Node::parse(text, problems)?;
    *blots = secrets(&tree);
    tree.each_scalar(&mut |scalar, place| match expand(scalar, environment) {
        Ok(Some(expanded)) => *scalar = expanded,
        Ok(None) => {}
        Err(message) => problems.push(
            Problem::error(place, message).hint("set it, or give a default: ${NAME:-default}; $${ is a literal ${"),
        ),
    });
    // A key without a value would be the same as none, and what a rule asks for would silently be nothing.
    tree.each_entry(&mut Vec::new(), &mut |path, entry| {
        let may_be_empty = MAY_BE_EMPTY.iter().any(|allowed| allowed.split_last() == Some((&entry.key.as_str(), path)));
        if entry.node.is_null() && !may_be_empty {
            let problem = Problem::error(entry.place, format!("the key `{}` has no value", entry.key));
            problems.push(problem.hint("write one, or take the key out"));
        }
    });
    let mut readable = tree.clone();
    loop {
        match serde_path_to_error::deserialize::<_, Document>(readable.to_json()) {
            Ok(document) => return Some(Reading { document, tree }),
            Err(error) => {
                let message = error.inner().to_string();
                let obstacle = Obstacle::new(steps(error.path()), &message);
                problems.extend(obstacle.problem(&tree, &message));
                let path: Vec<&str> = obstacle.path.iter().map(String::as_str).collect();
                if !readable.remove(&path) {
                    return None;
                }
            }
        }
    }
}

/// Lines that name a secret, in a text that may not even be YAML; all that follow, too, where the secret has lines of its own.
fn suspicious(text: &str) -> Vec<Blot> {
    let names_one = |line: &str| SECRETS.iter().any(|key| line.contains(key));
    let lines = text.lines().enumerate().filter(|(_, line)| names_one(line));
    let blot = |(at, line): (usize, &str)| {
        let has_more_lines = line.trim_end().ends_with(['|', '>', '-', '+']);
        Blot { from: (at + 1, 0), to: if has_more_lines { (usize::MAX, 0) } else { (at + 2, 0) } }
    };
    lines.map(blot).collect()
}

/// Where secrets are written out. One that is referred to (`${NAME}`) is not in the file.
fn secrets(tree: &Node) -> Vec<Blot> {
    let mut blots = Vec::new();
    tree.each_entry(&mut Vec::new(), &mut |_, entry| {
        let is_secret = SECRETS.contains(&entry.key.as_str());
        let is_reference = |text: &str| {
            text.starts_with("${") && text.ends_with('}') && !text.contains(":-") && text.matches('$').count() == 1
        };
        if is_secret && !matches!(&entry.node.value, Value::Scalar { text, .. } if is_reference(text)) {
            let (place, (line, column)) = (entry.node.place, entry.node.end);
            blots.push(Blot { from: (place.line, place.column), to: (line, column) });
        }
    });
    blots
}

/// The value with its variables filled in; `None` when it has none.
fn expand(value: &str, environment: Environment<'_>) -> Result<Option<String>, String> {
    let mut rest = value;
    let mut expanded = String::new();
    let mut changed = false;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(kept) = before.strip_suffix('$') {
            expanded.push_str(kept);
            expanded.push_str("${");
            rest = from.get(2..).unwrap_or_default();
        } else {
            let (reference, after) =
                from.get(2..).and_then(|inner| inner.split_once('}')).ok_or("`${` is not closed by `}`")?;
            expanded.push_str(before);
            expanded.push_str(&variable(reference, environment)?);
            rest = after;
        }
        changed = true;
    }
    expanded.push_str(rest);
    Ok(changed.then_some(expanded))
}

fn variable(reference: &str, environment: Environment<'_>) -> Result<String, String> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_name {
        return Err(format!("`{name}` is not the name of a variable"));
    }
    // As in a shell, `:-` also replaces an empty value.
    match (environment(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!("the variable {name} is not set")),
    }
}

fn steps(path: &Path) -> Vec<String> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Map { key } => Some(key.clone()),
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Enum { variant } => Some(variant.clone()),
            Segment::Unknown => None,
        })
        .collect()
}

/// What keeps the tree from being read: the node to take out, and what is wrong with it.
struct Obstacle {
    path: Vec<String>,
    kind: Kind,
}

enum Kind {
    UnknownKey(String),
    MissingKey(String),
    BadValue,
}

impl Obstacle {
    /// Reads serde's message, whose forms are those of `serde::de::Error`'s provided methods.
    fn new(mut path: Vec<String>, message: &str) -> Self {
        let quoted = |prefix: &str| {
            message.strip_prefix(prefix).and_then(|rest| rest.split_once('`')).map(|(name, _)| name.to_owned())
        };
        if let Some(key) = quoted("unknown field `") {
            if path.last() != Some(&key) {
                path.push(key.clone());
            }
            return Self { path, kind: Kind::UnknownKey(key) };
        }
        match quoted("missing field `") {
            Some(key) => Self { path, kind: Kind::MissingKey(key) },
            None => Self { path, kind: Kind::BadValue },
        }
    }

    /// The problem to show; `None` for a key that is missing only because its own problem was taken out before.
    fn problem(&self, tree: &Node, message: &str) -> Option<Problem> {
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let place = tree.nearest(&path);
        let expected = expected_names(message);
        match &self.kind {
            Kind::UnknownKey(key) => {
                let hint = did_you_mean(key, expected.iter().copied()).unwrap_or_else(|| one_of(expected));
                Some(Problem::error(place, format!("unknown key `{key}`")).hint(hint))
            }
            Kind::MissingKey(key) => {
                let was_there = tree.get(&[path.as_slice(), &[key.as_str()]].concat()).is_some();
                (!was_there).then(|| Problem::error(place, format!("the key `{key}` is missing in {}", named(&path))))
            }
            Kind::BadValue => {
                let place = tree.value_place(&path).unwrap_or(place);
                let problem = Problem::error(place, format!("{}: {}", named(&path), plain_words(message)));
                Some(match unknown_name(message).and_then(|name| did_you_mean(name, expected.iter().copied())) {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                })
            }
        }
    }
}

fn named(path: &[&str]) -> String {
    if path.is_empty() { "the file".to_owned() } else { path.join(".") }
}

/// The names in `…, expected one of `a`, `b`` or `…, expected `a` or `b``.
fn expected_names(message: &str) -> Vec<&str> {
    let Some((_, list)) = message.split_once(", expected ") else { return vec![] };
    list.split('`').skip(1).step_by(2).collect()
}

fn unknown_name(message: &str) -> Option<&str> {
    message.strip_prefix("unknown variant `")?.split_once('`').map(|(name, _)| name)
}

/// serde's message in words for somebody who does not write Rust.
fn plain_words(message: &str) -> String {
    let Some((found, expected)) = message.split_once(", expected ") else { return message.to_owned() };
    let found = ["invalid type: ", "invalid value: "]
        .iter()
        .find_map(|prefix| found.strip_prefix(prefix))
        .map(|found| found.replace("string", "the text").replace("unit value", "nothing").replace("null", "nothing"));
    let expected = match expected {
        "u32" | "u64" | "usize" => "a whole number".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "keys and values".to_owned(),
        "a string" => "a text".to_owned(),
        "a boolean" => "true or false".to_owned(),
        structure if structure.starts_with("struct ") => "keys and values".to_owned(),
        other => other.to_owned(),
    };
    match found {
        Some(found) => format!("expected {expected}, found {found}"),
        None => message.replace("unknown variant", "unknown name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::problem::Report;

    fn environment(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("8080".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    fn report(text: &str) -> String {
        let (mut problems, mut blots) = (Vec::new(), Vec::new());
        read(text, &environment, &mut problems, &mut blots);
        Report { file: "g.yaml", text, problems: &problems, blots: &blots }.to_string()
    }

    #[test]
    fn variables_are_filled_in_anywhere_in_a_value() {
        let filled = |value| expand(value, &environment).map(|v| v.unwrap_or_default());
        assert_eq!(filled("127.0.0.1:${PORT}").as_deref(), Ok("127.0.0.1:8080"));
        assert_eq!(filled("${NONE:-a}${EMPTY:-b}${EMPTY}").as_deref(), Ok("ab"));
        assert_eq!(filled("$${PORT} ${NONE:-}").as_deref(), Ok("${PORT} "));
        assert_eq!(filled("${NONE}"), Err("the variable NONE is not set".into()));
        assert_eq!(filled("${1X}"), Err("`1X` is not the name of a variable".into()));
        assert_eq!(filled("${PORT"), Err("`${` is not closed by `}`".into()));
    }

    #[test]
    fn a_secret_that_is_written_out_is_never_shown() {
        for text in [
            "auth: {sources: [{signed: {keys: [{secret: 'hunter, }2', x: 1}, {algorithim: 1, secret: hunter2}]}}]}\n",
            "auth:\n  sources:\n  - signed: {keys: [{\"secret\" : hunter2, algorithim: 1}]}\n",
            "redis: {url: \"redis://:hunter2@host${PORT}\", dedline: 1}\n",
            "redis: {url: \"${REDIS:-redis://:hunter2@host}\", dedline: 1}\n",
            "x: 1\nauth: {sources: [{signed: {keys: [{secret: 12345678901234567890, id: 1}]}}]}\n",
            "redis: {url: hunter2\n",
        ] {
            let report = report(text);
            assert!(
                report.contains("error: ") && !report.contains("hunter") && !report.contains("1234567"),
                "{report}"
            );
        }
        assert!(report("redis: {url: \"${PORT}\", dedline: 1}\n").contains("${PORT}"), "a reference is no secret");
    }

    #[test]
    fn a_key_without_a_value_is_a_problem_and_not_the_same_as_none() {
        let report = report("redis: {url: }\nroutes:\n  a:\n    scope:\n    upstream: ${NONE:-}\n    access: ~\n");
        for key in ["scope", "upstream", "access"] {
            assert!(report.contains(&format!("the key `{key}` has no value")), "{report}");
        }
        assert!(!report.contains("`url`"), "{report}");
    }

    #[test]
    fn every_problem_of_a_file_is_named_at_once() {
        insta::assert_snapshot!(report(
            "version: one\nlisteners: [{adress: 0.0.0.0:80}]\nrequest: {headers: many, idle_timeout: 60}\nlimits:\n  a: {per: 1m}\n  b: {requests: 1, per: soon}\n  c: {requests: 1, per: 1m, by: workspce}\nauth:\n  sources: [{sined: {}}]\nroutes: []\nredis: {url: \"${NONE}\"}\n"
        ), @r#"
        g.yaml:1:10: error: version: expected a whole number, found the text "one"
            1 | version: one
              |          ^^^
        g.yaml:2:13: error: the key `address` is missing in listeners.0
            2 | listeners: [{adress: 0.0.0.0:80}]
              |             ^
        g.yaml:2:14: error: unknown key `adress`
            2 | listeners: [{adress: 0.0.0.0:80}]
              |              ^^^^^^
              = did you mean `address`?
        g.yaml:3:20: error: request.headers: expected a whole number, found the text "many"
            3 | request: {headers: many, idle_timeout: 60}
              |                    ^^^^
        g.yaml:3:40: error: request.idle_timeout: expected a duration with its unit, such as `25ms`, `30s` or `4h`, found integer `60`
            3 | request: {headers: many, idle_timeout: 60}
              |                                        ^^
        g.yaml:5:3: error: the key `requests` is missing in limits.a
            5 |   a: {per: 1m}
              |   ^
        g.yaml:6:25: error: limits.b.per: expected a duration with its unit, such as `25ms`, `30s` or `4h`, found the text "soon"
            6 |   b: {requests: 1, per: soon}
              |                         ^^^^
        g.yaml:7:33: error: limits.c.by: unknown name `workspce`, expected one of `workspace`, `user`, `token`, `client_ip`
            7 |   c: {requests: 1, per: 1m, by: workspce}
              |                                 ^^^^^^^^
              = did you mean `workspace`?
        g.yaml:9:13: error: auth.sources.0: unknown name `sined`, expected one of `signed`, `redis`, `sql`, `introspection`, `file`
            9 |   sources: [{sined: {}}]
              |             ^
              = did you mean `signed`?
        g.yaml:10:9: error: routes: expected keys and values, found sequence
           10 | routes: []
              |         ^
        g.yaml:11:14: error: the variable NONE is not set
           11 | redis: {url: "${NONE}"}
              |              ^^^^^^^^^
              = set it, or give a default: ${NAME:-default}; $${ is a literal ${
        "#);
    }
}
