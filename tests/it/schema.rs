//! `schema`: what editors are told of gateway.yaml is what the gateway reads.

use std::path::{Path, PathBuf};

use mailtrixy_gateway::config::Loaded;
use mailtrixy_gateway::config::read::read;
use mailtrixy_gateway::config::schema::{resolve, schema};
use mailtrixy_gateway::config::yaml::Node;
use serde_json::{Value, json};

use crate::harness::certificates::acquainted;
use crate::harness::gateway::command;
use crate::harness::schema::complaints;
use crate::harness::token::SECRET;

fn shipped(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[track_caller]
fn assert_printed(arguments: &[&str], name: &str) {
    let printed = String::from_utf8(command(arguments).stdout).unwrap();
    let is_same = printed == shipped(name);
    assert!(is_same, "{name} is old: cargo run -- {} > {name}", arguments.join(" "));
}

#[test]
fn the_shipped_schema_is_the_one_that_is_printed() {
    assert_printed(&["schema"], "deploy/gateway.schema.json");
}

#[test]
fn the_reference_in_docs_is_the_one_that_is_printed() {
    assert_printed(&["schema", "--markdown"], "docs/gateway-yaml.md");
}

#[test]
fn the_schema_is_one_of_2020_12() {
    assert_eq!(schema()["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert!(jsonschema::meta::is_valid(&schema()));
}

#[test]
fn the_repositorys_file_leads_editors_to_the_schema_and_has_no_errors_with_its_variables() {
    let text = shipped("gateway.yaml");
    let line = text.lines().next().unwrap();
    let path = line.strip_prefix("# yaml-language-server: $schema=").unwrap();
    assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).is_file(), "{line}");
    assert_eq!(complaints(&text), [""; 0]);
}

/// tests/it/schema/whole.yaml with the files that it names.
struct Whole {
    tree: Value,
    folder: tempfile::TempDir,
    keys: PathBuf,
}

impl Whole {
    fn new() -> Self {
        let folder = acquainted();
        std::fs::write(folder.path().join("url"), "postgres://gateway@127.0.0.1/app").unwrap();
        let tree = Node::parse(include_str!("schema/whole.yaml"), &mut Vec::new()).unwrap().to_json();
        Self { tree, folder, keys: Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/harness/keys") }
    }

    fn variable(&self, name: &str) -> Option<String> {
        match name {
            "FOLDER" => Some(self.folder.path().display().to_string()),
            "KEYS" => Some(self.keys.display().to_string()),
            "PUBLIC_KEY" => Some(std::fs::read_to_string(self.keys.join("ed25519.pub.pem")).unwrap()),
            "MB_SIGNING_SECRET" => Some(SECRET.to_owned()),
            _ => None,
        }
    }

    fn load(&self, tree: &Value) -> Loaded {
        Loaded::from_text("whole.yaml".to_owned(), tree.to_string(), &|name| self.variable(name))
    }

    /// Whether serde reads it, whatever the values mean.
    fn is_read(&self, tree: &Value) -> bool {
        let mut problems = Vec::new();
        read(&tree.to_string(), &|name| self.variable(name), &mut problems, &mut Vec::new());
        problems.is_empty()
    }

    /// The errors of a file, without its text.
    fn errors(&self, tree: &Value) -> Vec<String> {
        let report = self.load(tree).report();
        report.lines().filter(|line| line.contains(": error: ")).map(str::to_owned).collect()
    }

    /// What it means: the words of the compiled configuration, in no order because its maps have none.
    fn meaning(&self, tree: &Value) -> Vec<String> {
        assert_eq!(self.errors(tree), [""; 0]);
        let mut config = self.load(tree).into_config().ok().unwrap();
        // Of the text, which is another each time.
        config.digest = [0; 32];
        let text = format!("{config:?}");
        let mut words: Vec<String> = text.split(|c: char| " ,:()[]{}".contains(c)).map(str::to_owned).collect();
        words.sort();
        words
    }

    /// Every key of the file: its JSON pointer, and its schema.
    fn keys(&self) -> Vec<(String, Value)> {
        let (schema, mut found) = (schema(), Vec::new());
        walk(&schema, &schema, &self.tree, String::new(), &mut found);
        found
    }
}

/// Goes through a value along its schema.
fn walk(root: &Value, schema: &Value, value: &Value, at: String, found: &mut Vec<(String, Value)>) {
    let schema = resolve(root, schema);
    if let (Some(kinds), Value::Object(map)) = (schema["oneOf"].as_array(), value) {
        let is_of = |kind: &&Value| map.keys().all(|key| kind["properties"].get(key).is_some());
        if let Some(kind) = kinds.iter().find(is_of) {
            return walk(root, kind, value, at, found);
        }
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let at = format!("{at}/{key}");
                match schema["properties"].get(key) {
                    Some(property) => {
                        found.push((at.clone(), property.clone()));
                        walk(root, property, value, at, found);
                    }
                    None => walk(root, &schema["additionalProperties"], value, at, found),
                }
            }
        }
        Value::Array(items) => {
            for (number, item) in items.iter().enumerate() {
                walk(root, &schema["items"], item, format!("{at}/{number}"), found);
            }
        }
        _ => {}
    }
}

/// The value without the key at a pointer.
fn without(tree: &Value, pointer: &str) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let mut tree = tree.clone();
    tree.pointer_mut(parent).unwrap().as_object_mut().unwrap().shift_remove(key).unwrap();
    tree
}

/// The value with another one at a pointer.
fn with(tree: &Value, pointer: &str, value: Value) -> Value {
    let mut tree = tree.clone();
    *tree.pointer_mut(pointer).unwrap() = value;
    tree
}

#[test]
fn the_whole_file_has_every_key_and_is_fine() {
    let whole = Whole::new();
    assert_eq!(whole.errors(&whole.tree), [""; 0]);
    assert_eq!(complaints(include_str!("schema/whole.yaml")), [""; 0]);
    let (schema, seen) = (schema(), whole.keys());
    let definitions = schema["$defs"].as_object().unwrap().iter().map(|(name, map)| (name.as_str(), map));
    let mut missing = Vec::new();
    for (name, map) in definitions.chain([("", &schema)]) {
        for (key, property) in map["properties"].as_object().into_iter().flatten() {
            let is_seen = seen.iter().any(|(pointer, seen)| pointer.ends_with(&format!("/{key}")) && seen == property);
            missing.extend((!is_seen).then(|| format!("{name}.{key}")));
        }
    }
    assert_eq!(missing, [""; 0], "write them into tests/it/schema/whole.yaml too");
}

#[test]
fn every_key_is_explained() {
    for (pointer, property) in Whole::new().keys() {
        let said = property["description"].as_str().unwrap_or_default();
        assert!(said.len() > 5, "{pointer} is explained by {said:?}");
    }
}

/// What may be wrong with the value of a key.
fn spoiled(root: &Value, property: &Value) -> Vec<Value> {
    let form = resolve(root, property);
    let mut values = vec![
        json!(null),
        json!(true),
        json!(""),
        json!("some text"),
        json!("5"),
        json!(0),
        json!(5),
        json!(-1),
        json!(1.5),
        json!(5_000_000_000_u64),
        json!([true]),
        json!({}),
        json!({"nonsense": 1}),
    ];
    for branch in form["anyOf"].as_array().into_iter().flatten() {
        values.extend(branch["minimum"].as_i64().map(|least| json!(least - 1)));
        values.extend(branch["maximum"].as_i64().map(|most| json!(most + 1)));
    }
    values.push(json!([]));
    values
}

#[test]
fn what_cannot_be_read_the_schema_refuses_and_what_the_schema_refuses_cannot_be_used() {
    let (whole, root) = (Whole::new(), schema());
    let validator = jsonschema::validator_for(&root).unwrap();
    let (mut refused, mut disagreements) = (0, Vec::new());
    let mut compare = |tree: &Value, what: String| {
        let is_valid = validator.is_valid(tree);
        refused += usize::from(!is_valid);
        match (is_valid, whole.is_read(tree)) {
            (true, false) => disagreements.push(format!("the schema takes {what}")),
            (false, true) if !whole.load(tree).is_broken() => {
                disagreements.push(format!("only the schema refuses {what}"));
            }
            _ => {}
        }
    };
    for (pointer, property) in whole.keys() {
        compare(&without(&whole.tree, &pointer), format!("a file without {pointer}"));
        for value in spoiled(&root, &property) {
            compare(&with(&whole.tree, &pointer, value.clone()), format!("{value} at {pointer}"));
        }
        let mut below = whole.tree.pointer(&pointer).unwrap().clone();
        if below.is_object() && resolve(&root, &property)["properties"].is_object() {
            below["nonsense"] = json!(1);
            let tree = with(&whole.tree, &pointer, below);
            assert!(!validator.is_valid(&tree) && !whole.is_read(&tree), "an unknown key in {pointer}");
        }
    }
    assert!(disagreements.is_empty(), "{disagreements:#?}");
    assert!(refused > 1000, "{refused} broken files were tried");
}

#[test]
fn what_excludes_each_other_is_refused_by_both() {
    let whole = Whole::new();
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for (map, key, value) in [
        ("/redis", "url_file", "url"),
        ("/auth/sources/0/signed/keys/0", "secret_file", "x"),
        ("/auth/sources/0/signed/keys/0", "public_key", "x"),
        ("/auth/sources/2/sql", "url_file", "url"),
        ("/auth/sources/4/introspection", "secret", "x"),
        ("/routes/list", "access", "token"),
    ] {
        let mut tree = whole.tree.clone();
        tree.pointer_mut(map).unwrap()[key] = json!(value);
        assert!(!validator.is_valid(&tree), "the schema takes {key} in {map}");
        assert!(whole.load(&tree).is_broken(), "{key} in {map}");
    }
    for (map, name) in [("/limits", "none"), ("/limits", "a b"), ("/routes", "none"), ("/upstreams", "a/b")] {
        let mut tree = whole.tree.clone();
        let named = tree.pointer_mut(map).unwrap();
        let any = named.as_object().unwrap().values().next().unwrap().clone();
        named[name] = any;
        assert!(!validator.is_valid(&tree), "the schema takes the name {name} in {map}");
        assert!(whole.load(&tree).is_broken(), "{name} in {map}");
    }
}

#[test]
fn a_default_is_what_leaving_the_key_out_means() {
    let whole = Whole::new();
    let mut tried = 0;
    for (pointer, property) in whole.keys() {
        let Some(default) = property.get("default") else { continue };
        let written = with(&whole.tree, &pointer, default.clone());
        let left_out = without(&whole.tree, &pointer);
        // What is wrong with the one is wrong with the other: a default may not go with the rest of the file.
        if whole.load(&left_out).is_broken() {
            assert!(whole.load(&written).is_broken(), "{default} at {pointer}");
            continue;
        }
        assert!(whole.meaning(&written) == whole.meaning(&left_out), "{default} at {pointer}");
        tried += 1;
    }
    assert!(tried > 60, "{tried} defaults were tried");
}

#[test]
fn the_methods_are_those_of_routes() {
    let known = mailtrixy_gateway::policy::route::Methods::ALL.to_string();
    let schema = schema();
    for definition in ["Route", "Cors"] {
        let items = &schema["$defs"][definition]["properties"]["methods"]["items"]["anyOf"][0]["enum"];
        let names: Vec<&str> = items.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(names.join(", "), known);
    }
}
