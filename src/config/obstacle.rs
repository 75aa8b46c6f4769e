//! What keeps a node from being read, and how that is told to somebody who does not write Rust.

use std::fmt;

use serde::de::{Expected, Unexpected};

use crate::config::problem::{Problem, did_you_mean, one_of};
use crate::config::secrets;
use crate::config::units::{DURATION, SIZE};
use crate::config::yaml::{Entry, Node, Step, Style, Value, resolve};

/// The first thing that cannot be read.
#[derive(Debug)]
pub struct Obstacle {
    /// From the root to the node that it is about, the last step first.
    steps: Vec<Step>,
    wrong: Wrong,
}

/// What is wrong with a node.
#[derive(Debug)]
enum Wrong {
    UnknownKey(&'static [&'static str]),
    MissingKey(&'static str),
    /// A map that has to have one key of these has another one.
    UnknownKind(&'static [&'static str]),
    /// Something else is expected.
    Unexpected(Wanted),
    Said(String),
    /// What is wrong has been told of a part of it.
    Told,
}

/// What is expected of a node.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// A scalar that is a text.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number up to this one.
    Whole(u64),
    /// A number.
    Number,
    /// A list.
    List,
    /// A map with these keys.
    Keys(&'static [&'static str]),
    /// A map whose keys are up to the operator.
    Names,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// The keys of what has just been named.
    KeysOf(String),
    /// In its own words.
    Other(String),
}

impl Obstacle {
    /// Something else is expected of the node that is read.
    pub fn unexpected(wanted: Wanted) -> Self {
        Self { steps: vec![], wrong: Wrong::Unexpected(wanted) }
    }

    /// The map that is read has to be of one of these kinds.
    pub fn unknown_kind(kinds: &'static [&'static str]) -> Self {
        Self { steps: vec![], wrong: Wrong::UnknownKind(kinds) }
    }

    /// A part of the node has a problem of its own, and without that part there is nothing to read.
    pub fn told() -> Self {
        Self { steps: vec![], wrong: Wrong::Told }
    }

    /// The same obstacle, seen from one step further up.
    #[must_use]
    pub fn below(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// From the root to the node that it is about.
    pub fn path(&self) -> Vec<Step> {
        self.steps.iter().rev().cloned().collect()
    }

    /// The problem to show. None for what is missing only because it has a problem of its own.
    pub fn problem(&self, tree: &Node) -> Option<Problem> {
        let path = self.path();
        let (key_place, node) = tree.at(&path)?;
        let name = named(&path);
        Some(match &self.wrong {
            Wrong::UnknownKey(known) => {
                let key = path.last().map(shown).unwrap_or_default();
                Problem::error(key_place, format!("unknown key `{key}`")).hint(suggestion(&key, known))
            }
            Wrong::MissingKey(key) => {
                if node.get(&[key]).is_some() {
                    return None;
                }
                Problem::error(key_place, format!("the key `{key}` is missing in {name}"))
            }
            Wrong::UnknownKind(kinds) => {
                let Value::Mapping(entries) = &node.value else { return None };
                let entry = entries.first()?;
                let message = format!("{name}: expected {}, found `{}`", alternatives(kinds), entry.key);
                let problem = Problem::error(entry.place, message);
                match did_you_mean(&entry.key, kinds.iter().copied()) {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                }
            }
            Wrong::Unexpected(wanted) => {
                let found = Found::new(node, &path);
                let found_words = if matches!(wanted, Wanted::KeysOf(_)) { String::new() } else { found.told() };
                let problem = Problem::error(node.place, format!("{name}: expected {wanted}{found_words}"));
                match found.advice(wanted) {
                    Some(advice) => problem.hint(advice),
                    None => problem,
                }
            }
            Wrong::Said(message) => Problem::error(node.place, format!("{name}: {message}")),
            Wrong::Told => return None,
        })
    }
}

impl serde::de::Error for Obstacle {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { steps: vec![], wrong: Wrong::Said(message.to_string()) }
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::unexpected(Wanted::Other(expected.to_string()))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::unexpected(Wanted::Other(expected.to_string()))
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self { steps: vec![], wrong: Wrong::UnknownKey(known) }
    }

    fn unknown_variant(_: &str, known: &'static [&'static str]) -> Self {
        Self::unexpected(Wanted::OneOf(known))
    }

    fn missing_field(key: &'static str) -> Self {
        Self { steps: vec![], wrong: Wrong::MissingKey(key) }
    }
}

impl std::error::Error for Obstacle {}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", named(&self.path()), self.wrong)
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("a text"),
            Self::Flag => f.write_str("true or false"),
            Self::Whole(u64::MAX) => f.write_str("a whole number"),
            Self::Whole(most) if *most > u32::MAX.into() => f.write_str("a whole number, 0 or more"),
            Self::Whole(most) => write!(f, "a whole number from 0 to {most}"),
            Self::Number => f.write_str("a number"),
            Self::List => f.write_str("a list"),
            Self::Keys(_) => f.write_str("keys with values"),
            Self::Names => f.write_str("names, each with what belongs to it"),
            Self::OneOf(names) => f.write_str(&alternatives(names)),
            Self::KeysOf(name) => write!(f, "keys below `{name}`"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// What stands where something else is expected.
struct Found<'n> {
    node: &'n Node,
    is_secret: bool,
}

impl<'n> Found<'n> {
    fn new(node: &'n Node, path: &[Step]) -> Self {
        let is_secret = path.iter().any(|step| matches!(step, Step::Key(key) if secrets::is_secret(key)));
        Self { node, is_secret }
    }

    fn told(&self) -> String {
        match &self.node.value {
            _ if self.node.is_null() => ", found nothing".to_owned(),
            Value::Scalar { text, .. } if !self.is_secret => format!(", found `{text}`"),
            Value::Scalar { .. } | Value::Struck => String::new(),
            Value::Sequence(_) => ", found a list".to_owned(),
            Value::Mapping(_) => ", found keys with values".to_owned(),
        }
    }

    fn advice(&self, wanted: &Wanted) -> Option<String> {
        let text = match &self.node.value {
            Value::Scalar { text, .. } => Some(text.as_str()),
            _ => None,
        };
        let shown = text.filter(|text| !self.is_secret && !text.is_empty());
        match (wanted, &self.node.value) {
            (Wanted::Keys([only]), _) => Some(format!("its key is `{only}`")),
            (Wanted::Keys(keys), _) => Some(format!("its keys are {}", quoted(keys))),
            (Wanted::KeysOf(name), _) => Some(format!("write `{name}: {{}}` where none is needed")),
            (Wanted::Names, Value::Sequence(_)) => Some("write `name:` in place of each `-`".to_owned()),
            (Wanted::List, Value::Mapping(_)) => Some("begin each entry with `- `".to_owned()),
            (Wanted::List, _) => shown.map(|text| format!("put it in brackets: [{text}]")),
            (Wanted::Text, Value::Scalar { .. }) if self.is_secret => Some("put it in quotes".to_owned()),
            (Wanted::Text, _) => shown.map(|text| format!("put it in quotes: \"{text}\"")),
            (Wanted::Whole(_) | Wanted::Number | Wanted::Flag, Value::Scalar { text, style: Style::Quoted })
                if matches!(resolve(text), serde_json::Value::Number(_) | serde_json::Value::Bool(_)) =>
            {
                shown.map(|text| format!("take the quotes away: {text}"))
            }
            (Wanted::Flag, _) => flag(text?).map(|flag| format!("did you mean `{flag}`?")),
            (Wanted::OneOf(names), Value::Mapping(entries)) => {
                let is_one = |entry: &Entry| names.contains(&entry.key.as_str());
                (entries.len() > 1 && entries.iter().all(is_one)).then(|| "begin each of them with `- `".to_owned())
            }
            (Wanted::OneOf(names), _) if self.is_written_as_number() && names.contains(&text?) => {
                shown.map(|text| format!("put it in quotes: \"{text}\""))
            }
            (Wanted::OneOf(names), _) => did_you_mean(text?, names.iter().copied()),
            (Wanted::Other(words), _) if words == DURATION && self.is_written_as_number() => {
                shown.map(|text| format!("did you mean `{text}s`?"))
            }
            (Wanted::Other(words), _) if words == SIZE => shown.and_then(whole_size),
            _ => None,
        }
    }

    fn is_written_as_number(&self) -> bool {
        matches!(&self.node.value, Value::Scalar { text, .. } if resolve(text).is_number())
    }
}

/// The truth value that other formats, and YAML before 1.2, know under this name.
fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "y" | "on" | "true" | "1" => Some(true),
        "no" | "n" | "off" | "false" | "0" => Some(false),
        _ => None,
    }
}

/// `64K` for what somebody wrote as `64 kilobytes`.
fn whole_size(text: &str) -> Option<String> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').to_ascii_lowercase();
    let unit = match unit.chars().next()? {
        'k' => "KiB",
        'm' => "MiB",
        'g' => "GiB",
        _ => return None,
    };
    (!digits.is_empty()).then(|| format!("did you mean `{digits}{unit}`?"))
}

/// `a.b.0`, as messages name a place in the file.
fn named(path: &[Step]) -> String {
    if path.is_empty() { "the file".to_owned() } else { path.iter().map(shown).collect::<Vec<_>>().join(".") }
}

fn shown(step: &Step) -> String {
    match step {
        Step::Key(key) => key.clone(),
        Step::Item(at) => at.to_string(),
    }
}

fn suggestion(name: &str, known: &[&str]) -> String {
    did_you_mean(name, known.iter().copied()).unwrap_or_else(|| one_of(known.iter().copied()))
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// `one of `a`, `b``, or the only one.
fn alternatives(names: &[&str]) -> String {
    match names {
        [only] => format!("`{only}`"),
        [one, other] => format!("`{one}` or `{other}`"),
        many => format!("one of {}", quoted(many)),
    }
}
