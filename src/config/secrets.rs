//! What of a file is not to be shown: not in the line of a problem, and not in its message.

use crate::config::problem::{Blot, Problem};
use crate::config::yaml::{Node, Value};

/// Keys whose values are not shown, not even in a message about them.
const SECRETS: [&str; 5] = ["secret", "client_secret", "password", "url", "otlp"];
/// What the key of a secret is misspelled as holds one too; shorter names are too near to others.
const LONG: usize = 6;

/// Whether what stands below this key is secret.
pub fn is_secret(key: &str) -> bool {
    SECRETS.iter().any(|secret| {
        let most = if secret.len() < LONG { 0 } else { 2 };
        strsim::damerau_levenshtein(key, secret) <= most
    })
}

/// Lines that name a secret, in a text that may not even be YAML; all that follow, too, where the secret has lines of its own.
pub fn suspicious(text: &str) -> Vec<Blot> {
    let names_one = |line: &str| SECRETS.iter().any(|key| line.contains(key));
    let lines = text.lines().enumerate().filter(|(_, line)| names_one(line));
    let blot = |(at, line): (usize, &str)| {
        let has_more_lines = line.trim_end().ends_with(['|', '>', '-', '+', ':', '[', '{']);
        Blot { from: (at + 1, 0), to: if has_more_lines { (usize::MAX, 0) } else { (at + 2, 0) } }
    };
    lines.map(blot).collect()
}

/// Where secrets are written out, before variables are filled in: one that is referred to (`${NAME}`) is not in the file.
pub fn written_out(tree: &mut Node) -> Vec<Blot> {
    let mut blots = Vec::new();
    tree.each(&mut Vec::new(), &mut |keys, node| {
        let is_below_one = keys.last().is_some_and(|key| is_secret(key));
        let is_written = match &node.value {
            Value::Scalar { text, .. } => (is_below_one && !is_reference(text)) || has_a_password(text),
            _ => is_below_one,
        };
        if is_written {
            blots.push(Blot { from: (node.place.line, node.place.column), to: node.end });
        }
    });
    blots
}

fn is_reference(text: &str) -> bool {
    text.starts_with("${") && text.ends_with('}') && !text.contains(":-") && text.matches('$').count() == 1
}

/// Whether it is a url with somebody's name in it, whatever the key.
fn has_a_password(text: &str) -> bool {
    let authority = text.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    authority.is_some_and(|authority| authority.contains('@'))
}

/// Takes what is blotted in the file out of messages that quote it, and a url with a password, which may come from a variable.
pub fn keep(problems: &mut [Problem], text: &str, blots: &[Blot]) {
    for problem in problems {
        problem.message = with_quotes(&problem.message, has_a_password);
        problem.hint = problem.hint.take().map(|hint| with_quotes(&hint, has_a_password));
        let at = (problem.place.line, problem.place.column);
        for blot in blots.iter().filter(|blot| blot.from <= at && at < blot.to) {
            let secret = blotted(text, blot);
            let is_of_it = |quoted: &str| quoted.contains(char::is_alphanumeric) && secret.contains(quoted);
            problem.message = with_quotes(&problem.message, is_of_it);
            let bare = secret.trim_matches(['"', '\'']);
            problem.hint = problem.hint.take().filter(|hint| bare.is_empty() || !hint.contains(bare));
        }
    }
}

/// The text that a blot covers.
fn blotted(text: &str, blot: &Blot) -> String {
    let first = blot.from.0.saturating_sub(1);
    let last = blot.to.0.min(text.lines().count() + 1);
    let lines = text.lines().skip(first).take(last.saturating_sub(first));
    let covered = lines.enumerate().map(|(at, line)| {
        let (from, to) = (if at == 0 { blot.from.1.saturating_sub(1) } else { 0 }, blot.to.1.saturating_sub(1));
        let is_last = first + at + 1 == blot.to.0;
        line.chars().take(if is_last { to } else { usize::MAX }).skip(from).collect()
    });
    covered.collect::<Vec<String>>().join("\n")
}

/// A sentence whose words in backticks are left out where they are secret.
fn with_quotes(sentence: &str, is_secret: impl Fn(&str) -> bool) -> String {
    let pieces = sentence.split('`').enumerate().map(|(at, piece)| {
        let is_quoted = at % 2 == 1;
        if is_quoted && is_secret(piece) { "…" } else { piece }
    });
    pieces.collect::<Vec<&str>>().join("`")
}

#[cfg(test)]
mod tests {
    use crate::config::Loaded;

    #[test]
    fn a_password_that_a_variable_brings_is_not_told() {
        let text = "version: 1\nlisteners: [{address: 127.0.0.1:0}]\nupstreams: {main: {servers: [\"${BACKEND}\"]}}\n\
            routes: {a: {path: /a, access: public, limit: none, upstream: main}}\n";
        let environment = |_: &str| Some("http://ada:open-sesame@backend:80".to_owned());
        let loaded = Loaded::from_text("gateway.yaml".to_owned(), text.to_owned(), &environment);
        assert!(loaded.is_broken());
        assert!(!loaded.report().contains("open-sesame"), "{}", loaded.report());
    }
}
