//! Text → [`Document`], with every problem of the reading at once.
//!
//! serde stops at its first error. So what an error is about is noted with its place, struck in the tree, and the rest is read
//! again: the next error then is the next problem, and what is left in the end is a document that can be compiled for more.

use std::collections::HashMap;

use serde::Deserialize as _;

use crate::config::document::Document;
use crate::config::problem::{Blot, Place, Problem};
use crate::config::secrets;
use crate::config::yaml::{Entry, Node, Style, Value};

/// Looks a variable of the environment up.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A file as read: the document, and the tree that knows where everything was written.
pub struct Reading {
    /// What could be read; a part of a section that has a problem is left out.
    pub document: Document,
    /// The file as written.
    pub tree: Node,
}

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
    blots.extend(secrets::suspicious(text));
    let mut tree = Node::parse(text, problems)?;
    *blots = secrets::written_out(&mut tree);
    fill_in(&mut tree, environment, problems);
    strike_empty(&mut tree, problems);
    strike_repeated(&mut tree, problems);
    loop {
        match Document::deserialize(&tree) {
            Ok(document) => return Some(Reading { document, tree }),
            Err(obstacle) => {
                problems.extend(obstacle.problem(&tree));
                let path = obstacle.path();
                if path.is_empty() || !tree.strike(&path) {
                    return None;
                }
            }
        }
    }
}

/// Puts variables' values in their places.
fn fill_in(tree: &mut Node, environment: Environment<'_>, problems: &mut Vec<Problem>) {
    tree.each(&mut Vec::new(), &mut |_, node| {
        let Value::Scalar { text, style } = &mut node.value else { return };
        match expand(text, environment) {
            Ok(Some(expanded)) => {
                // Nothing without quotes is nothing, as if it stood there.
                let is_nothing = *style == Style::Plain && expanded.is_empty();
                (*text, *style) = (expanded, if is_nothing { Style::Plain } else { Style::Filled });
            }
            Ok(None) => {}
            Err(problem) => {
                problems.push(problem.at(node.place));
                node.value = Value::Struck;
            }
        }
    });
}

/// A key without a value would be the same as none, and what a rule asks for would silently be nothing.
fn strike_empty(tree: &mut Node, problems: &mut Vec<Problem>) {
    tree.each(&mut Vec::new(), &mut |keys, node| {
        let Value::Mapping(entries) = &mut node.value else { return };
        for Entry { key, place, node } in entries {
            let may_be_empty = MAY_BE_EMPTY
                .iter()
                .any(|allowed| allowed.split_last().is_some_and(|(last, parents)| last == key && parents == keys));
            if node.is_null() && !may_be_empty {
                let problem = Problem::error(*place, format!("the key `{key}` has no value"));
                problems.push(problem.hint("write one, or take the key out"));
                node.value = Value::Struck;
            }
        }
    });
}

/// Nothing is said twice in a list on purpose.
fn strike_repeated(tree: &mut Node, problems: &mut Vec<Problem>) {
    tree.each(&mut Vec::new(), &mut |_, node| {
        let Value::Sequence(items) = &mut node.value else { return };
        let mut seen: HashMap<String, Place> = HashMap::new();
        for item in items {
            let Value::Scalar { text, .. } = &item.value else { continue };
            match seen.get(text) {
                Some(first) => {
                    let problem = Problem::error(item.place, format!("`{text}` is in this list a second time"));
                    problems.push(problem.hint(first.told()));
                    item.value = Value::Struck;
                }
                None => drop(seen.insert(text.clone(), item.place)),
            }
        }
    });
}

/// The value with its variables filled in; `None` when it has none.
fn expand(value: &str, environment: Environment<'_>) -> Result<Option<String>, Unfilled> {
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
            let (reference, after) = from.get(2..).and_then(|inner| inner.split_once('}')).ok_or(Unfilled::Open)?;
            expanded.push_str(before);
            expanded.push_str(&variable(reference, environment)?);
            rest = after;
        }
        changed = true;
    }
    expanded.push_str(rest);
    Ok(changed.then_some(expanded))
}

fn variable(reference: &str, environment: Environment<'_>) -> Result<String, Unfilled> {
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !is_name {
        return Err(Unfilled::Misnamed(name.to_owned()));
    }
    // As in a shell, `:-` also replaces an empty value.
    match (environment(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Unfilled::Unset(name.to_owned())),
    }
}

/// Why variables could not be filled in.
#[derive(Debug, PartialEq, Eq)]
enum Unfilled {
    Open,
    Misnamed(String),
    Unset(String),
}

impl Unfilled {
    fn at(&self, place: Place) -> Problem {
        match self {
            Self::Open => {
                Problem::error(place, "`${` is not closed by `}`").hint("${NAME} is a variable, $${ a literal ${")
            }
            Self::Misnamed(name) => Problem::error(place, format!("`{name}` is not the name of a variable"))
                .hint("letters, digits and `_`, as in ${NAME} or ${NAME:-default}; $${ is a literal ${"),
            Self::Unset(name) => Problem::error(place, format!("the variable {name} is not set"))
                .hint(format!("set it where the gateway is started, or give a default: ${{{name}:-default}}")),
        }
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
        secrets::keep(&mut problems, text, &blots);
        Report { file: "g.yaml", text, problems: &problems, blots: &blots }.to_string()
    }

    #[test]
    fn variables_are_filled_in_anywhere_in_a_value() {
        let filled = |value| expand(value, &environment).map(|v| v.unwrap_or_default());
        assert_eq!(filled("127.0.0.1:${PORT}"), Ok("127.0.0.1:8080".into()));
        assert_eq!(filled("${NONE:-a}${EMPTY:-b}${EMPTY}"), Ok("ab".into()));
        assert_eq!(filled("$${PORT} ${NONE:-}"), Ok("${PORT} ".into()));
        assert_eq!(filled("${NONE}"), Err(Unfilled::Unset("NONE".into())));
        assert_eq!(filled("${1X}"), Err(Unfilled::Misnamed("1X".into())));
        assert_eq!(filled("${PORT"), Err(Unfilled::Open));
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
}
