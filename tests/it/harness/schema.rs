//! The schema of gateway.yaml as an editor uses it: on a file whose variables nobody has filled in.

use std::sync::LazyLock;

use jsonschema::Validator;
use mailtrixy_gateway::config::schema::schema;
use mailtrixy_gateway::config::yaml::Node;

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| jsonschema::validator_for(&schema()).unwrap());

/// What an editor would say is wrong with a file.
pub fn complaints(text: &str) -> Vec<String> {
    let tree = Node::parse(text, &mut Vec::new()).unwrap().to_json();
    VALIDATOR.iter_errors(&tree).map(|error| format!("{}: {error}", error.instance_path())).collect()
}
