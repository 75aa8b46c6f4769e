//! The schema of gateway.yaml as a page to read: docs/gateway-yaml.md.

use serde_json::{Map, Value};

use crate::config::schema::resolve;

const INTRODUCTION: &str = "\
# gateway.yaml, key by key

Made by `mailtrixy-gateway schema --markdown` from the same structs that read the file. [gateway.yaml](../gateway.yaml) shows all of it in
use, and `mailtrixy-gateway check` says more than a schema can: names that are defined nowhere, files that cannot be read, routes in each
other's way. An editor with a YAML language server completes and explains every key where the file begins with

    # yaml-language-server: $schema=deploy/gateway.schema.json

Wherever a value stands, a text with `${NAME}` or `${NAME:-default}` will do. A **duration** is a number and `ms`, `s`, `m`, `h` or `d`,
several added up (`1m30s`); a **size** a number and `KiB` or `MiB`, or a plain number of bytes. `<name>` is a name of yours: letters, digits,
`-`, `_` and `.`, at most 64.
";

/// The page for a schema of [`crate::config::schema::schema`].
pub fn markdown(schema: &Value) -> String {
    let mut page = Page { root: schema, text: INTRODUCTION.to_owned() };
    page.section("", schema, None);
    page.text
}

struct Page<'s> {
    root: &'s Value,
    text: String,
}

impl<'s> Page<'s> {
    /// The keys of a map at `path`, and then those of the maps in it.
    fn section(&mut self, path: &str, schema: &'s Value, said: Option<&str>) {
        let object = resolve(self.root, schema);
        let Some(properties) = object.get("properties").and_then(Value::as_object) else { return };
        let title = if path.is_empty() { "The file" } else { path };
        let mark = if path.is_empty() { "" } else { "`" };
        self.text.push_str(&format!("\n## {mark}{title}{mark}\n\n"));
        if let Some(said) = said {
            self.text.push_str(&format!("{said}\n\n"));
        }
        self.text.push_str("| key | value | if left out | meaning |\n|---|---|---|---|\n");
        let required = object.get("required").and_then(Value::as_array);
        for (key, property) in properties {
            let is_required = required.is_some_and(|required| required.iter().any(|name| name == key));
            let row = self.row(key, property, is_required);
            self.text.push_str(&row);
        }
        for (key, property) in properties {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            self.below(&path, property);
        }
    }

    /// The sections of what stands under a key: a map, a list of maps, maps by name, or one of several kinds of map.
    fn below(&mut self, path: &str, property: &'s Value) {
        let said = property.get("description").and_then(Value::as_str);
        let object = resolve(self.root, property);
        if object.get("properties").is_some() {
            self.section(path, property, said);
        } else if let Some(items) = object.get("items") {
            self.each_kind(&format!("{path}[]"), items, said);
        } else if let Some(named) = object.get("additionalProperties").filter(|named| named.is_object()) {
            self.each_kind(&format!("{path}.<name>"), named, said);
        }
    }

    fn each_kind(&mut self, path: &str, schema: &'s Value, said: Option<&str>) {
        let object = resolve(self.root, schema);
        let Some(kinds) = object.get("oneOf").and_then(Value::as_array).filter(|_| object.get("properties").is_none())
        else {
            return self.section(path, schema, said);
        };
        for (key, property) in kinds.iter().filter_map(|kind| kind.get("properties")?.as_object()).flatten() {
            self.below(&format!("{path}.{key}"), property);
        }
    }

    fn row(&self, key: &str, property: &Value, is_required: bool) -> String {
        let default = match property.get("default") {
            _ if is_required => "**required**".to_owned(),
            Some(Value::Array(items)) if items.is_empty() => String::new(),
            Some(default) => format!("`{}`", plain(default)),
            None => String::new(),
        };
        let said = property.get("description").and_then(Value::as_str).unwrap_or_default();
        let meaning = match self.meanings(property) {
            meanings if meanings.is_empty() => said.to_owned(),
            meanings => format!("{said} {meanings}"),
        };
        format!("| `{key}` | {} | {default} | {} |\n", self.value(property), meaning.replace('|', "\\|"))
    }

    /// What each name means, for a value that is one of several.
    fn meanings(&self, property: &Value) -> String {
        let branches = branches(resolve(self.root, property));
        let list = |branch: &Value, key: &str| branch.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let pairs =
            branches.iter().flat_map(|branch| list(branch, "enum").into_iter().zip(list(branch, "enumDescriptions")));
        let sentence =
            |(name, said): (Value, Value)| format!("`{}`: {}", plain(&name), said.as_str().unwrap_or_default());
        pairs.map(sentence).collect::<Vec<_>>().join(" ")
    }

    /// What may stand there, in a few words.
    fn value(&self, property: &Value) -> String {
        if let Some(reference) = property.get("$ref").and_then(Value::as_str) {
            match reference.rsplit('/').next() {
                Some("Duration") => return "duration".to_owned(),
                Some("Size") => return "size".to_owned(),
                _ => {}
            }
        }
        let object = resolve(self.root, property);
        let branches = branches(object);
        if branches.len() > 1 {
            return branches.iter().map(|branch| self.value(branch)).collect::<Vec<_>>().join(" or ");
        }
        let schema = branches.first().copied().unwrap_or(object);
        if let Some(only) = schema.get("const") {
            return format!("`{}`", plain(only));
        }
        if let Some(names) = schema.get("enum").and_then(Value::as_array) {
            return names.iter().map(|name| format!("`{}`", plain(name))).collect::<Vec<_>>().join(" or ");
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("integer" | "number") => number(schema.as_object()),
            Some("boolean") => "`true` or `false`".to_owned(),
            Some("array") => format!("list of {}", schema.get("items").map_or_else(String::new, |of| self.value(of))),
            Some("object") if schema.get("properties").is_none() => "keys by name, see below".to_owned(),
            Some("object") => "keys, see below".to_owned(),
            _ if schema.get("oneOf").is_some() => "keys, see below".to_owned(),
            _ => "text".to_owned(),
        }
    }
}

/// The kinds of value that a schema allows, without the variable that is allowed everywhere.
fn branches(schema: &Value) -> Vec<&Value> {
    let is_variable = |branch: &&Value| branch.get("$ref").is_none_or(|reference| reference != "#/$defs/Variable");
    let branches = schema.get("anyOf").and_then(Value::as_array).filter(|_| schema.get("properties").is_none());
    branches.into_iter().flatten().filter(is_variable).collect()
}

fn number(schema: Option<&Map<String, Value>>) -> String {
    let bound = |key: &str| schema?.get(key).filter(|bound| **bound != u32::MAX && **bound != 0);
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) => format!("number from {least} to {most}"),
        (Some(least), None) => format!("number from {least}"),
        (None, Some(most)) => format!("number up to {most}"),
        (None, None) => "number".to_owned(),
    }
}

/// A value as it is written in YAML.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() || text.parse::<f64>().is_ok() || text.ends_with(':') => {
            format!("\"{text}\"")
        }
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entries: Vec<String> = map.iter().map(|(key, value)| format!("{key}: {}", plain(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        other => other.to_string(),
    }
}
