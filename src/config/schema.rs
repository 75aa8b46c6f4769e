//! The JSON Schema (2020-12) of gateway.yaml, made from the structs that serde reads, so that an editor completes and explains each key.
//!
//! An editor sees a file before its variables are filled in. So wherever a value has a form, a text with `${NAME}` in it will do as well.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::config::document::Document;
use crate::config::read::MAY_BE_EMPTY;
use crate::config::units::{Bytes, OneOrMany, Secret, Span, Threads};

/// What [`Span`] reads, but for numbers that are too great or too fine for it, and for spaces within a number.
const DURATION: &str = r"^(0|\s*([0-9]+(\.[0-9]+)?\s*(nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds|second|secs|sec|s|minutes|minute|mins|min|m|hours|hour|hrs|hr|h|days|day|d|weeks|week|wks|wk|w|months|month|M|years|year|yrs|yr|y)\s*)+)$";
/// What [`Bytes`] reads.
const SIZE: &str = r"^([0-9]+|([0-9]+\.?[0-9]*|\.[0-9]+)\s*([KMGTPEkmgtpe][Ii]?[Bb]?|[Bb]))$";
/// A reference to a variable that is not escaped as `$${`.
const VARIABLE: &str = r"(^|[^$])\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}";
/// What the names of our structs end with.
const STRUCT: &str = "Document";

/// The schema.
pub fn schema() -> Value {
    let generated = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Document>();
    let mut schema = Value::from(generated);
    tidy(&mut schema);
    if let Some(root) = schema.as_object_mut() {
        root.remove("title");
        let definitions = root.remove("$defs").and_then(|definitions| definitions.as_object().cloned());
        let plain = |(name, definition): (String, Value)| (plain_name(&name).to_owned(), definition);
        let mut definitions: Map<String, Value> = definitions.into_iter().flatten().map(plain).collect();
        // Without a description: an editor would show it instead of the key's.
        definitions.insert("Variable".to_owned(), json!({"type": "string", "pattern": VARIABLE}));
        root.insert("$defs".to_owned(), definitions.into());
    }
    allow_emptiness(&mut schema);
    schema
}

/// Follows `$ref` to what is defined under it.
pub fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let pointer = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

fn plain_name(name: &str) -> &str {
    name.strip_suffix(STRUCT).unwrap_or(name)
}

/// Makes of a derived schema what is true of our files, with everything below it.
fn tidy(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    without_null(object);
    with_plain_numbers(object);
    without_repetition(object);
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if let Some(Value::String(reference)) = object.get_mut("$ref") {
        *reference = plain_name(reference).to_owned();
    }
    if has_a_form(object) {
        allow_variable(object);
        return;
    }
    for key in ["properties", "$defs"] {
        object.get_mut(key).and_then(Value::as_object_mut).into_iter().flatten().for_each(|(_, below)| tidy(below));
    }
    for key in ["items", "additionalProperties"] {
        object.get_mut(key).into_iter().for_each(tidy);
    }
    for key in ["oneOf", "anyOf"] {
        object.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().for_each(tidy);
    }
    explain_variant(object);
}

/// What is said of one of several kinds is shown where its key is.
fn explain_variant(object: &mut Map<String, Value>) {
    let Some(said) = object.get("description").cloned() else { return };
    if let Some(Value::Object(properties)) = object.get_mut("properties")
        && properties.len() == 1
    {
        properties.values_mut().filter_map(Value::as_object_mut).for_each(|only| {
            only.entry("description").or_insert_with(|| said.clone());
        });
    }
}

/// Left out is not the same as null, nor as an empty list where that says nothing: written, both are errors.
fn without_null(object: &mut Map<String, Value>) {
    let is_null = object.get("default") == Some(&Value::Null);
    if is_null || object.contains_key("minItems") {
        object.remove("default");
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(branches)) = object.get_mut("anyOf") {
        branches.retain(|branch| branch.get("type").is_none_or(|name| name != "null"));
        if let [Value::Object(only)] = branches.as_slice() {
            let only = only.clone();
            object.remove("anyOf");
            object.extend(only);
        }
    }
}

/// A text that is in a list twice is an error.
fn without_repetition(object: &mut Map<String, Value>) {
    if object.get("items").and_then(|items| items.get("type")).is_some_and(|of| of == "string") {
        object.insert("uniqueItems".to_owned(), true.into());
    }
}

/// Formats as `uint32` are Rust's; what JSON Schema has for them are bounds.
fn with_plain_numbers(object: &mut Map<String, Value>) {
    let format = object.get("format").and_then(Value::as_str).map(str::to_owned);
    let most = match format.as_deref() {
        Some("uint16") => Some(u64::from(u16::MAX)),
        Some("uint32") => Some(u64::from(u32::MAX)),
        Some("uint" | "uint64" | "double") => None,
        _ => return,
    };
    object.remove("format");
    if let Some(most) = most {
        object.entry("maximum").or_insert_with(|| most.into());
    }
}

/// Whether a schema is of a value that a text with a variable in it does not have the form of.
fn has_a_form(object: &Map<String, Value>) -> bool {
    let is_scalar = |branch: &Value| branch.as_object().is_some_and(has_a_form);
    let are_scalars =
        |key: &str| object.get(key).and_then(Value::as_array).is_some_and(|all| all.iter().all(is_scalar));
    let is_typed = matches!(object.get("type").and_then(Value::as_str), Some("integer" | "number" | "boolean"));
    let is_spelled = ["const", "enum", "pattern"].iter().any(|key| object.contains_key(*key));
    is_typed || is_spelled || are_scalars("oneOf") || are_scalars("anyOf")
}

/// The form as one branch, or as its branches, and a text with a variable as another.
fn allow_variable(object: &mut Map<String, Value>) {
    const ABOUT: [&str; 5] = ["title", "description", "default", "examples", "$schema"];
    let (about, form) = std::mem::take(object).into_iter().partition(|(key, _)| ABOUT.contains(&key.as_str()));
    let form: Map<String, Value> = form;
    let mut branches = match form.iter().next().map(|(key, value)| (key.as_str(), value)) {
        Some(("oneOf" | "anyOf", Value::Array(branches))) if form.len() == 1 => as_names(branches),
        _ => vec![Value::Object(form)],
    };
    branches.push(json!({"$ref": "#/$defs/Variable"}));
    *object = about;
    object.insert("anyOf".to_owned(), branches.into());
}

/// Names with a meaning each become one list of names, as editors show them; other branches stay as they are.
fn as_names(branches: &[Value]) -> Vec<Value> {
    let name = |branch: &Value| Some((branch.get("const")?.clone(), branch.get("description")?.clone()));
    match branches.iter().map(name).collect::<Option<(Vec<Value>, Vec<Value>)>>() {
        Some((names, meanings)) => vec![json!({"type": "string", "enum": names, "enumDescriptions": meanings})],
        None => branches.to_vec(),
    }
}

/// The few keys that may be written without a value.
fn allow_emptiness(schema: &mut Value) {
    for path in MAY_BE_EMPTY {
        let mut pointer = String::new();
        for key in path {
            if let Some(reference) = schema.pointer(&pointer).and_then(|at| at.get("$ref")?.as_str()) {
                pointer = reference.trim_start_matches('#').to_owned();
            }
            pointer = format!("{pointer}/properties/{key}");
        }
        if let Some(Value::Object(object)) = schema.pointer_mut(&pointer) {
            object.insert("type".to_owned(), json!(["string", "null"]));
        }
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration: a number and `ms`, `s`, `m`, `h` or `d`, several added up. `0` needs no unit.",
            "examples": ["25ms", "30s", "1m30s", "4h"],
            "anyOf": [{"type": "string", "pattern": DURATION}, {"const": 0}],
        })
    }
}

impl Serialize for Span {
    /// As it is written: `1m30s`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&humantime::format_duration(self.0).to_string().replace(' ', ""))
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of bytes: a number and `KiB` or `MiB`, or `kB` or `MB`, or a plain number.",
            "examples": ["16KiB", "2MiB", 512],
            "anyOf": [{"type": "string", "pattern": SIZE}, {"type": "integer", "minimum": 0}],
        })
    }
}

impl Serialize for Bytes {
    /// As it is written: `64KiB`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let units = [(20, "MiB"), (10, "KiB")];
        let fits = |(shift, _): &&(u32, &str)| self.0.trailing_zeros() >= *shift && self.0 > 0;
        match units.iter().find(fits) {
            Some((shift, unit)) => serializer.serialize_str(&format!("{}{unit}", self.0 >> shift)),
            None => serializer.serialize_u64(self.0),
        }
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
    }
}

impl JsonSchema for OneOrMany {
    fn schema_name() -> Cow<'static, str> {
        "OneOrMany".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "One name or a list of names.",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
        })
    }
}

impl JsonSchema for Threads {
    fn schema_name() -> Cow<'static, str> {
        "Threads".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "`auto`, which is one a core, or a number.",
            "anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": 1024}],
        })
    }
}

impl Serialize for Threads {
    /// As it is written.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Count(count) => serializer.serialize_u64(u64::try_from(*count).unwrap_or(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::DeserializeOwned;

    fn is_read<T: DeserializeOwned>(text: &str) -> bool {
        serde_json::from_value::<T>(text.into()).is_ok()
    }

    fn matches(pattern: &str, text: &str) -> bool {
        jsonschema::is_valid(&json!({"pattern": pattern}), &text.into())
    }

    proptest! {
        #[test]
        fn the_pattern_of_a_duration_is_what_is_read_as_one(
            text in "([0-9]{0,3}(\\.[0-9]{0,2})? ?(ms|msec|s|sec|secs|m|min|h|hrs|d|x|mss|ks)[ ,]?|[0-2] ?[wMy]){1,3}|[0-9]{0,2}"
        ) {
            prop_assert_eq!(matches(DURATION, &text), is_read::<Span>(&text), "{}", text);
        }

        #[test]
        fn the_pattern_of_a_size_is_what_is_read_as_one(text in "[0-9]{0,3}(\\.[0-9]{1,2})? ?(|b|B|k|KB|kib|KiB|Ki|MiB|m|gb|T|eib|i|x|KiBs)") {
            prop_assert_eq!(matches(SIZE, &text), is_read::<Bytes>(&text), "{}", text);
        }

        #[test]
        fn what_is_written_is_read_again(seconds in 0u32..1_000_000, millis in 0u32..1000, bytes in 0u64..100_000_000) {
            let span = Span(std::time::Duration::new(seconds.into(), millis * 1_000_000));
            let again: Span = serde_json::from_value(serde_json::to_value(span).unwrap()).unwrap();
            prop_assert_eq!(again, span);
            for bytes in [Bytes(bytes), Bytes(bytes << 10), Bytes(bytes << 20)] {
                let again: Bytes = serde_json::from_value(serde_json::to_value(bytes).unwrap()).unwrap();
                prop_assert_eq!(again, bytes);
            }
        }
    }

    #[test]
    fn a_variable_is_told_from_a_literal() {
        for text in ["${A}", "x${A_1:-y z}", "${A:-}", "$${A}${B}"] {
            assert!(matches(VARIABLE, text), "{text}");
        }
        for text in ["$${A}", "$$${A}", "${1A}", "${A", "$A", "{A}", "${}"] {
            assert!(!matches(VARIABLE, text), "{text}");
        }
    }
}
