//! YAML text → a tree that knows where each of its nodes was written.
//!
//! One reading serves `check` and `run`. What YAML leaves open is closed here: a repeated key is a problem instead of a silent
//! choice, one document a file, aliases cannot make a small file large, and plain scalars have the types of YAML 1.2's core
//! schema (`yes` is a text).

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::config::problem::{Place, Problem};
use crate::config::syntax;

/// A node of the file. No Debug: secrets may be written out in it.
#[derive(Clone)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// The line and the column behind its end.
    pub end: (usize, usize),
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Clone)]
pub enum Value {
    /// A scalar as it was written.
    Scalar {
        /// The text between the quotes, or all of it.
        text: String,
        /// What it may turn out to be.
        style: Style,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A map in the order of the file.
    Mapping(Vec<Entry>),
    /// Something with a problem of its own: it has a place still, and is not read.
    Struck,
}

/// How a scalar was written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: it may be a number, a boolean or null.
    Plain,
    /// In quotes: a text.
    Quoted,
    /// By variables, which say nothing of its type: whatever is expected in its place.
    Filled,
}

/// One step of the way to a node. Unlike in the paths of [`Node::get`], what is struck counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// To the value of a key.
    Key(String),
    /// To an item of a list, counted from 0.
    Item(usize),
}

/// One key of a map with its value.
#[derive(Clone)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    /// Its value.
    pub node: Node,
}

/// A file of ours has some hundred nodes. Aliases of aliases can make billions of a few lines.
const MAX_NODES: usize = 100_000;
/// gateway.yaml is four levels deep.
const MAX_DEPTH: usize = 32;

impl Node {
    /// Reads one document. Syntax errors end the reading; repeated keys are collected in `problems`, and the first of each is kept.
    pub fn parse(text: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let mut reader = Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0, problems };
        match reader.document() {
            Ok(node) => Some(node),
            Err(problem) => {
                problems.push(problem);
                None
            }
        }
    }

    /// Where the key of `path` stands, or the nearest one above it that is there; of an item of a list, the item.
    pub fn key_place(&self, path: &[&str]) -> Place {
        let mut place = self.place;
        let mut node = self;
        for step in path {
            let Some((at, below)) = node.child(step) else { break };
            (place, node) = (at, below);
        }
        place
    }

    /// The node exactly at `path`: keys, and the numbers of items that are not struck.
    pub fn get(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, step| node.child(step).map(|(_, node)| node))
    }

    fn child(&self, step: &str) -> Option<(Place, &Self)> {
        match &self.value {
            Value::Mapping(entries) => {
                entries.iter().find(|entry| entry.key == step).map(|entry| (entry.place, &entry.node))
            }
            Value::Sequence(items) => {
                let item = items.iter().filter(|item| !item.is_struck()).nth(step.parse().ok()?)?;
                Some((item.place, item))
            }
            Value::Scalar { .. } | Value::Struck => None,
        }
    }

    /// The node that the steps lead to, with the place of its key where it has one.
    pub fn at(&self, steps: &[Step]) -> Option<(Place, &Self)> {
        steps.iter().try_fold((self.place, self), |(_, node), step| match (step, &node.value) {
            (Step::Key(key), Value::Mapping(entries)) => {
                entries.iter().find(|entry| entry.key == *key).map(|entry| (entry.place, &entry.node))
            }
            (Step::Item(at), Value::Sequence(items)) => items.get(*at).map(|item| (item.place, item)),
            _ => None,
        })
    }

    /// Strikes the node that the steps lead to; whether there was one to be struck.
    pub fn strike(&mut self, steps: &[Step]) -> bool {
        let found = steps.iter().try_fold(self, |node, step| match (step, &mut node.value) {
            (Step::Key(key), Value::Mapping(entries)) => {
                entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.node)
            }
            (Step::Item(at), Value::Sequence(items)) => items.get_mut(*at),
            _ => None,
        });
        let Some(node) = found.filter(|node| !node.is_struck()) else { return false };
        node.value = Value::Struck;
        true
    }

    /// Whether it has a problem of its own.
    pub fn is_struck(&self) -> bool {
        matches!(self.value, Value::Struck)
    }

    /// Whether it, or something in it, has a problem of its own.
    pub fn has_struck(&self) -> bool {
        match &self.value {
            Value::Scalar { .. } => false,
            Value::Struck => true,
            Value::Sequence(items) => items.iter().any(Self::has_struck),
            Value::Mapping(entries) => entries.iter().any(|entry| entry.node.has_struck()),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Scalar { text, .. } => text.is_empty(),
            Value::Sequence(items) => items.is_empty(),
            Value::Mapping(entries) => entries.is_empty(),
            Value::Struck => false,
        }
    }

    /// How many nodes it holds, struck ones too.
    pub fn len(&self) -> usize {
        match &self.value {
            Value::Scalar { .. } | Value::Struck => 0,
            Value::Sequence(items) => items.len(),
            Value::Mapping(entries) => entries.len(),
        }
    }

    /// Whether it holds other nodes.
    pub fn is_collection(&self) -> bool {
        matches!(self.value, Value::Sequence(_) | Value::Mapping(_))
    }

    /// Calls `visit` with every node, what holds others before them, and with the keys that lead to it.
    pub fn each(&mut self, keys: &mut Vec<String>, visit: &mut impl FnMut(&[String], &mut Self)) {
        visit(keys, self);
        match &mut self.value {
            Value::Scalar { .. } | Value::Struck => {}
            Value::Sequence(items) => items.iter_mut().for_each(|item| item.each(keys, visit)),
            Value::Mapping(entries) => {
                for entry in entries {
                    keys.push(entry.key.clone());
                    entry.node.each(keys, visit);
                    keys.pop();
                }
            }
        }
    }

    /// Whether it is written as nothing, or as null.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, style: Style::Plain } if resolve(text).is_null())
    }

    /// The tree as JSON has it, plain scalars resolved.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Scalar { text, style: Style::Plain } => resolve(text),
            Value::Scalar { text, .. } => text.as_str().into(),
            Value::Struck => serde_json::Value::Null,
            Value::Sequence(items) => items.iter().map(Self::to_json).collect(),
            Value::Mapping(entries) => entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect(),
        }
    }
}

/// The core schema of YAML 1.2, section 10.3.2, without the number forms nobody writes in a configuration.
pub(super) fn resolve(text: &str) -> serde_json::Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => serde_json::Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        number => {
            let is_number = number.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
            let integer = is_number.then(|| number.parse::<i64>().ok()).flatten().map(serde_json::Value::from);
            let float = || is_number.then(|| number.parse::<f64>().ok()).flatten().filter(|float| float.is_finite());
            integer.or_else(|| float().map(serde_json::Value::from)).unwrap_or_else(|| number.into())
        }
    }
}

struct Reader<'t, 'p> {
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    problems: &'p mut Vec<Problem>,
}

fn place(span: Span) -> Place {
    let same_line = span.start.line() == span.end.line();
    let width = if same_line { span.end.col().saturating_sub(span.start.col()) } else { 0 };
    Place { line: span.start.line(), column: span.start.col() + 1, width: width.max(1) }
}

/// What to mark of a node: all of a collection in brackets that is in one line, the first key of a map without.
fn mark(place: Place, value: &Value, end: Span) -> Place {
    let first = match value {
        Value::Mapping(entries) => entries.first().map(|entry| entry.place),
        Value::Sequence(_) => None,
        Value::Scalar { .. } | Value::Struck => return place,
    };
    match first {
        Some(first) if (first.line, first.column) == (place.line, place.column) => first,
        _ if end.end.line() == place.line => {
            Place { width: (end.end.col() + 1).saturating_sub(place.column).max(1), ..place }
        }
        _ => place,
    }
}

impl<'t> Reader<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let at = Place { line: error.marker().line(), column: error.marker().col() + 1, width: 1 };
                Err(syntax::problem(at, error.info()))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn document(&mut self) -> Result<Node, Problem> {
        let mut root = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => {
                    let start = Place { line: 1, column: 1, width: 1 };
                    return root.ok_or_else(|| {
                        Problem::error(start, "there is nothing in this file")
                            .hint("begin with the gateway.yaml of the repository")
                    });
                }
                (Event::StreamStart | Event::DocumentEnd | Event::Nothing, _) => {}
                (Event::DocumentStart(_), span) if root.is_some() => {
                    return Err(Problem::error(place(span), "a second document begins here")
                        .hint("write everything above the `---`"));
                }
                (Event::DocumentStart(_), _) => {
                    let event = self.next()?;
                    root = Some(self.node(event, 0)?);
                }
                (_, span) => return Err(Problem::error(place(span), "this is not expected here")),
            }
        }
    }

    fn node(&mut self, (event, span): (Event<'t>, Span), depth: usize) -> Result<Node, Problem> {
        let place = place(span);
        self.nodes += 1;
        if self.nodes > MAX_NODES || depth > MAX_DEPTH {
            return Err(Problem::error(place, "the file is too large or too deeply nested"));
        }
        let (value, end, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let style = if style == ScalarStyle::Plain { Style::Plain } else { Style::Quoted };
                (Value::Scalar { text: text.into_owned(), style }, span, anchor)
            }
            Event::SequenceStart(anchor, _) => {
                let (value, end) = self.sequence(depth)?;
                (value, end, anchor)
            }
            Event::MappingStart(anchor, _) => {
                let (value, end) = self.mapping(depth)?;
                (value, end, anchor)
            }
            Event::Alias(anchor) => return self.alias(anchor, place),
            _ => return Err(Problem::error(place, "a value is expected here")),
        };
        let node = Node { place: mark(place, &value, end), end: (end.end.line(), end.end.col() + 1), value };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<Node, Problem> {
        let node = self
            .anchors
            .get(&anchor)
            .cloned()
            .ok_or_else(|| Problem::error(place, "this anchor is not defined above"))?;
        self.nodes += count(&node);
        if self.nodes > MAX_NODES {
            return Err(Problem::error(place, "aliases make the file too large"));
        }
        Ok(node)
    }

    fn sequence(&mut self, depth: usize) -> Result<(Value, Span), Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, span) => return Ok((Value::Sequence(items), span)),
                event => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<(Value, Span), Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (key, at) = match self.next()? {
                (Event::MappingEnd, span) => return Ok((Value::Mapping(entries), span)),
                (Event::Scalar(text, ..), span) => (text.into_owned(), place(span)),
                (_, span) => return Err(Problem::error(place(span), "a key is a plain text")),
            };
            let event = self.next()?;
            let node = self.node(event, depth + 1)?;
            match entries.iter().find(|entry| entry.key == key) {
                Some(first) => {
                    let problem = Problem::error(at, format!("the key `{key}` is here a second time"));
                    self.problems.push(problem.hint(first.place.told()));
                }
                None => entries.push(Entry { key, place: at, node }),
            }
        }
    }
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::Scalar { .. } | Value::Struck => 0,
        Value::Sequence(items) => items.iter().map(count).sum(),
        Value::Mapping(entries) => entries.iter().map(|entry| count(&entry.node)).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> serde_json::Value {
        Node::parse(text, &mut Vec::new()).unwrap().to_json()
    }

    fn first_problem(text: &str) -> (usize, usize, String) {
        let mut problems = Vec::new();
        Node::parse(text, &mut problems);
        let problem = problems.first().unwrap();
        (problem.place.line, problem.place.column, problem.message.clone())
    }

    #[test]
    fn plain_scalars_have_the_types_of_the_core_schema() {
        assert_eq!(
            json("{a: 1, b: 1.5, c: true, d: ~, e: , f: yes, g: '1', h: 1m, i: 127.0.0.1:80, j: -3, k: .5}"),
            serde_json::json!({"a":1,"b":1.5,"c":true,"d":null,"e":null,"f":"yes","g":"1","h":"1m","i":"127.0.0.1:80","j":-3,"k":0.5})
        );
    }

    #[test]
    fn a_place_is_where_a_person_would_point() {
        let node = Node::parse("a:\n  b: {c: [x, why]}\n", &mut Vec::new()).unwrap();
        let at = |path: &[&str]| (node.key_place(path).line, node.key_place(path).column);
        assert_eq!(at(&["a", "b"]), (2, 3));
        assert_eq!(at(&["a", "b", "c", "1"]), (2, 14));
        assert_eq!(at(&["a", "b", "nothing"]), (2, 3));
        let width = |path: &[&str]| node.get(path).unwrap().place.width;
        assert_eq!((width(&["a", "b", "c", "1"]), width(&["a", "b"]), width(&["a"])), (3, 13, 1));
    }

    #[test]
    fn a_repeated_key_is_named_with_the_line_of_the_first() {
        assert_eq!(first_problem("a: 1\nb: 2\na: 3\n"), (3, 1, "the key `a` is here a second time".into()));
    }

    #[test]
    fn what_is_not_yaml_is_pointed_at() {
        assert_eq!(first_problem("a: [1, 2\nb: 3\n").0, 2);
        assert_eq!(first_problem("a: 1\n---\nb: 2\n"), (2, 1, "a second document begins here".into()));
        assert_eq!(first_problem("? [a]\n: b\n").2, "a key is a plain text");
    }

    #[test]
    fn aliases_work_and_cannot_explode() {
        assert_eq!(json("a: &x {b: 1}\nc: *x\n")["c"]["b"], 1);
        let bomb = (0..12).fold("a0: &a0 [1,2,3,4,5,6,7,8,9]\n".to_owned(), |text, n| {
            format!("{text}a{}: &a{} [*a{n},*a{n},*a{n},*a{n},*a{n},*a{n},*a{n},*a{n},*a{n}]\n", n + 1, n + 1)
        });
        assert_eq!(first_problem(&bomb).2, "aliases make the file too large");
    }

    #[test]
    fn nesting_is_bounded() {
        assert_eq!(first_problem(&"[".repeat(100)).2, "the file is too large or too deeply nested");
    }
}
