//! YAML text → a tree that knows where each of its nodes was written.
//!
//! One reading serves `check` and `run`. What YAML leaves open is closed here: a repeated key is a problem instead of a silent
//! choice, one document a file, aliases cannot make a small file large, and plain scalars have the types of YAML 1.2's core
//! schema (`yes` is a text).

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::config::problem::{Place, Problem};

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
    /// A scalar as it was written; `plain` ones may turn out to be numbers, booleans or null.
    Scalar {
        /// The text between the quotes, or all of it.
        text: String,
        /// Written without quotes.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Node>),
    /// A map in the order of the file.
    Mapping(Vec<Entry>),
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
            Ok(node) => node,
            Err(problem) => {
                problems.push(problem);
                None
            }
        }
    }

    /// The node below `path`, or the nearest one above it that is there; with it the place of its key, where it has one.
    pub fn nearest(&self, path: &[&str]) -> Place {
        let mut place = self.place;
        let mut node = self;
        for step in path {
            match &node.value {
                Value::Mapping(entries) => match entries.iter().find(|entry| entry.key == *step) {
                    Some(entry) => (place, node) = (entry.place, &entry.node),
                    None => break,
                },
                Value::Sequence(items) => match step.parse::<usize>().ok().and_then(|at| items.get(at)) {
                    Some(item) => (place, node) = (item.place, item),
                    None => break,
                },
                Value::Scalar { .. } => break,
            }
        }
        place
    }

    /// The place of the value itself rather than of its key.
    pub fn value_place(&self, path: &[&str]) -> Option<Place> {
        self.get(path).map(|node| node.place)
    }

    /// The node exactly at `path`.
    pub fn get(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, step| match &node.value {
            Value::Mapping(entries) => entries.iter().find(|entry| entry.key == *step).map(|entry| &entry.node),
            Value::Sequence(items) => items.get(step.parse::<usize>().ok()?),
            Value::Scalar { .. } => None,
        })
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        match &self.value {
            Value::Scalar { text, .. } => text.is_empty(),
            Value::Sequence(items) => items.is_empty(),
            Value::Mapping(entries) => entries.is_empty(),
        }
    }

    /// Takes the node at `path` out; whether it was there.
    pub fn remove(&mut self, path: &[&str]) -> bool {
        let Some((last, parents)) = path.split_last() else { return false };
        let mut node = self;
        for step in parents {
            let child = match &mut node.value {
                Value::Mapping(entries) => {
                    entries.iter_mut().find(|entry| entry.key == *step).map(|entry| &mut entry.node)
                }
                Value::Sequence(items) => step.parse::<usize>().ok().and_then(|at| items.get_mut(at)),
                Value::Scalar { .. } => None,
            };
            let Some(child) = child else { return false };
            node = child;
        }
        match &mut node.value {
            Value::Mapping(entries) => {
                let before = entries.len();
                entries.retain(|entry| entry.key != *last);
                entries.len() < before
            }
            Value::Sequence(items) => match last.parse::<usize>() {
                Ok(at) if at < items.len() => {
                    items.remove(at);
                    true
                }
                _ => false,
            },
            Value::Scalar { .. } => false,
        }
    }

    /// Calls `visit` with every scalar and the place of the node it is in.
    pub fn each_scalar(&mut self, visit: &mut impl FnMut(&mut String, Place)) {
        match &mut self.value {
            Value::Scalar { text, .. } => visit(text, self.place),
            Value::Sequence(items) => items.iter_mut().for_each(|item| item.each_scalar(visit)),
            Value::Mapping(entries) => entries.iter_mut().for_each(|entry| entry.node.each_scalar(visit)),
        }
    }

    /// Calls `visit` with every key of every map, the path of the map, and the value.
    pub fn each_entry<'n>(&'n self, path: &mut Vec<&'n str>, visit: &mut impl FnMut(&[&str], &'n Entry)) {
        match &self.value {
            Value::Scalar { .. } => {}
            Value::Sequence(items) => items.iter().for_each(|item| item.each_entry(path, visit)),
            Value::Mapping(entries) => {
                for entry in entries {
                    visit(path, entry);
                    path.push(&entry.key);
                    entry.node.each_entry(path, visit);
                    path.pop();
                }
            }
        }
    }

    /// Whether it is written as nothing, or as null.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if resolve(text).is_null())
    }

    /// The tree as serde reads it, plain scalars resolved.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Scalar { text, plain: true } => resolve(text),
            Value::Scalar { text, plain: false } => text.as_str().into(),
            Value::Sequence(items) => items.iter().map(Self::to_json).collect(),
            Value::Mapping(entries) => entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json())).collect(),
        }
    }
}

/// The core schema of YAML 1.2, section 10.3.2, without the number forms nobody writes in a configuration.
fn resolve(text: &str) -> serde_json::Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => serde_json::Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        number => {
            let is_number = number.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
            let integer = is_number.then(|| number.parse::<i64>().ok()).flatten().map(serde_json::Value::from);
            let float = || is_number.then(|| number.parse::<f64>().ok()).flatten().map(serde_json::Value::from);
            integer.or_else(float).unwrap_or_else(|| number.into())
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

impl<'t> Reader<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Problem> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let at = Place { line: error.marker().line(), column: error.marker().col() + 1, width: 1 };
                Err(Problem::error(at, format!("this is not YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn document(&mut self) -> Result<Option<Node>, Problem> {
        let mut root = None;
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(root),
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
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, _) => {
                (Value::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }, anchor)
            }
            Event::SequenceStart(anchor, _) => (self.sequence(depth)?, anchor),
            Event::MappingStart(anchor, _) => (self.mapping(depth)?, anchor),
            Event::Alias(anchor) => return self.alias(anchor, place),
            _ => return Err(Problem::error(place, "a value is expected here")),
        };
        let node = Node { place, end: (span.end.line(), span.end.col() + 1), value };
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

    fn sequence(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::Sequence(items)),
                event => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, Problem> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let (key, at) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Mapping(entries)),
                (Event::Scalar(text, ..), span) => (text.into_owned(), place(span)),
                (_, span) => return Err(Problem::error(place(span), "a key is a plain text")),
            };
            let event = self.next()?;
            let node = self.node(event, depth + 1)?;
            match entries.iter().find(|entry| entry.key == key) {
                Some(first) => {
                    let problem = Problem::error(at, format!("the key `{key}` is here a second time"));
                    self.problems.push(problem.hint(format!("the first is in line {}", first.place.line)));
                }
                None => entries.push(Entry { key, place: at, node }),
            }
        }
    }
}

fn count(node: &Node) -> usize {
    1 + match &node.value {
        Value::Scalar { .. } => 0,
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
        let at = |path: &[&str]| (node.nearest(path).line, node.nearest(path).column);
        assert_eq!(at(&["a", "b"]), (2, 3));
        assert_eq!(at(&["a", "b", "c", "1"]), (2, 14));
        assert_eq!(at(&["a", "b", "nothing"]), (2, 3));
        assert_eq!(node.value_place(&["a", "b", "c", "1"]).unwrap().width, 3);
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
