//! The OpenAPI 3.1 document of a configuration: what a client can know of the routes.
//!
//! It tells of the gateway's part: who may call, limits, errors, headers. What services answer is theirs to describe. Nothing
//! of the inside is in it: no upstream, no server, no limit in shadow.

mod components;
mod operation;
mod template;

use http::Method;
use serde_json::{Map, Value, json};

use crate::config::settings::Config;
use crate::openapi::template::Template;
use crate::policy::path::CleanPath;
use crate::policy::route::Route;

/// The methods that have a word in OpenAPI and may lead somewhere. HEAD is answered wherever GET is, and is not listed.
const METHODS: [Method; 6] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

const DESCRIPTION: &str = "\
What every endpoint has in common; what is in a success is its service's to describe.

**Tokens.** One `Authorization: Bearer mb_…` field. An endpoint names the scope that the token needs; `*` holds every scope.

**Errors.** Every error is the envelope `{\"success\":false,\"error\":{\"code\",\"message\",\"details\"}}`, whoever made it, under its true \
status. The seven codes are all there are; go by the code, the message is for people. `details` lists messages by field for a 422, else it is empty.

**Limits.** `x-rate-limits` names the limits that a request takes, all of them or none, and `x-cost` how many requests it counts as. The \
X-RateLimit fields are on every answer once the token was let in. After a 429 wait for `Retry-After` seconds: trying sooner gains nothing.

**Request ids.** Every answer carries `X-Request-Id`: yours, if you sent one of 1 to 128 letters, digits, `.`, `_` and `-`, else a new \
one. Name it when you ask for help.

**Paths.** A parameter with `x-below: true` stands for everything below the path before it, slashes included. HEAD is answered wherever GET is.";

/// The document; `server` is where clients reach the gateway.
pub fn document(config: &Config, server: Option<&str>) -> Value {
    let info = json!({"title": "MailTrixy API", "version": env!("CARGO_PKG_VERSION"), "description": DESCRIPTION});
    let tags: Value = config.policy.routes.iter().map(|route| operation::tag(route)).collect();
    let mut document = Map::new();
    let mut put = |key: &str, value: Value| document.insert(key.to_owned(), value);
    put("openapi", "3.1.0".into());
    put("info", info);
    if let Some(server) = server {
        put("servers", json!([{ "url": server.trim_end_matches('/') }]));
    }
    put("tags", tags);
    put("paths", paths(config));
    put("components", components::components(config));
    document.into()
}

fn paths(config: &Config) -> Value {
    let mut ids = Vec::new();
    let templates = template::templates(config.policy.routes.iter().map(|route| &route.pattern));
    let mut paths = Map::new();
    for template in &templates {
        let mut item = Map::new();
        if !template.parameters.is_empty() {
            let parameters = template.parameters.iter().map(operation::path_parameter);
            item.insert("parameters".to_owned(), parameters.collect());
        }
        for method in METHODS {
            if let Some(route) = route_of(config, template, &method) {
                let id = unique(operation_id(&method, &template.text), &mut ids);
                item.insert(method.as_str().to_lowercase(), operation::operation(route, &method, id));
            }
        }
        paths.insert(template.text.clone(), item.into());
    }
    paths.into()
}

/// Where requests on a template lead; the table that finds routes for requests says so.
fn route_of<'c>(config: &'c Config, template: &Template, method: &Method) -> Option<&'c Route> {
    let path = CleanPath::parse(&template.sample).ok()?;
    config.policy.routes.find(method, &path).ok().map(AsRef::as_ref)
}

/// `get_contacts_path`: what generated code calls it.
fn operation_id(method: &Method, template: &str) -> String {
    let words = template.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    std::iter::once(method.as_str().to_lowercase()).chain(words.map(str::to_owned)).collect::<Vec<_>>().join("_")
}

fn unique(id: String, taken: &mut Vec<String>) -> String {
    let numbered = (2..).map(|number| format!("{id}_{number}"));
    let free = std::iter::once(id.clone()).chain(numbered).find(|id| !taken.contains(id)).unwrap_or(id);
    taken.push(free.clone());
    free
}
