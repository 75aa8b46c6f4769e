//! One operation: what one method on one path asks for and may answer.

use http::Method;
use serde_json::{Map, Value, json};

use crate::openapi::components::{self, ANSWER, COUNTED_ANSWER, REQUEST_ID, SCHEME, STANDING};
use crate::openapi::template::Parameter;
use crate::policy::limit::{Limit, OnStoreFailure};
use crate::policy::meter::Algorithm;
use crate::policy::pagination::Pagination;
use crate::policy::route::{Access, Destination, Route};

/// What all operations of a route have in common.
pub(super) fn tag(route: &Route) -> Value {
    let access = match &route.access {
        Access::Public => "Without a token.".to_owned(),
        Access::Token => "With any valid token.".to_owned(),
        Access::Scope(scope) => format!("With a token that holds the scope `{scope}`."),
    };
    let limits: String = limits(route).map(|limit| format!(" {}.", words(limit))).collect();
    json!({"name": &*route.name, "description": access + &limits})
}

/// A parameter in the path.
pub(super) fn path_parameter(parameter: &Parameter) -> Value {
    let mut object = json!({
        "name": parameter.name,
        "in": "path",
        "required": true,
        "schema": {"type": "string", "minLength": 1},
    });
    if let (true, Some(object)) = (parameter.is_below, object.as_object_mut()) {
        object.insert("description".to_owned(), "Everything below, slashes included.".into());
        object.insert("x-below".to_owned(), true.into());
    }
    object
}

/// What `method` does on `route`.
pub(super) fn operation(route: &Route, method: &Method, id: String) -> Value {
    let mut operation = Map::new();
    let mut put = |key: &str, value: Value| operation.insert(key.to_owned(), value);
    put("operationId", id.into());
    put("tags", json!([&*route.name]));
    let is_own = route.destination == Destination::RateLimits;
    if is_own {
        put("summary", "Where the caller stands with their limits, free of charge".into());
    }
    put("security", security(&route.access));
    put("parameters", parameters(route));
    let takes_body = !is_own && matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE);
    if takes_body {
        put("requestBody", json!({"content": {"application/json": {}}}));
        put("x-max-body-bytes", route.body_bytes.into());
    }
    let limits: Vec<Value> = limits(route).map(describe).collect();
    if !limits.is_empty() {
        put("x-rate-limits", limits.into());
        put("x-cost", route.cost.into());
    }
    for (key, is_so) in [("x-streaming", route.streaming), ("x-websocket", route.websocket && *method == Method::GET)] {
        if is_so {
            put(key, true.into());
        }
    }
    put("responses", responses(route));
    operation.into()
}

fn security(access: &Access) -> Value {
    match access {
        Access::Public => json!([]),
        Access::Token => json!([{ SCHEME: [] }]),
        Access::Scope(scope) => json!([{ SCHEME: [scope.as_str()] }]),
    }
}

fn parameters(route: &Route) -> Value {
    let of = |name: &str| json!({"$ref": format!("#/components/parameters/{name}")});
    let mut parameters = vec![of(REQUEST_ID)];
    if let Some(pagination) = &route.pagination {
        parameters.extend([of("page"), of("per_page"), sort_by(pagination), of("sort_order")]);
    }
    parameters.into()
}

fn sort_by(pagination: &Pagination) -> Value {
    json!({
        "name": "sort_by",
        "in": "query",
        "description": "What the list is sorted by.",
        "schema": {"type": "string", "enum": pagination.sort_by(), "default": pagination.default_sort()},
    })
}

/// The success of the route, and every error that any request may meet.
fn responses(route: &Route) -> Value {
    let of = |name: &str| json!({"$ref": format!("#/components/responses/{name}")});
    let mut responses = Map::new();
    if route.destination == Destination::RateLimits {
        responses.insert("200".to_owned(), of(STANDING));
    } else {
        // `allow` lets requests pass uncounted while the store is away: then there is nothing to show.
        let is_counted = limits(route).any(|limit| limit.on_store_failure != OnStoreFailure::Allow);
        responses.insert("2XX".to_owned(), of(if is_counted { COUNTED_ANSWER } else { ANSWER }));
        responses.insert("3XX".to_owned(), of(ANSWER));
    }
    for (status, name) in components::errors() {
        responses.insert(status, of(name));
    }
    responses.into()
}

/// The limits that a client meets.
fn limits(route: &Route) -> impl Iterator<Item = &Limit> {
    route.limits.iter().map(AsRef::as_ref).filter(|limit: &&Limit| limit.is_enforced())
}

fn describe(limit: &Limit) -> Value {
    let rate = &limit.rate;
    let mut object = json!({
        "name": &*limit.name,
        "requests": rate.requests,
        "window": rate.window.as_secs(),
        "by": limit.by.to_string(),
        "algorithm": algorithm(rate.algorithm),
    });
    if let (Algorithm::Gcra, Some(object)) = (rate.algorithm, object.as_object_mut()) {
        object.insert("burst".to_owned(), rate.capacity.into());
    }
    object
}

fn words(limit: &Limit) -> String {
    let rate = &limit.rate;
    format!("{} requests in {} s, counted by {}", rate.requests, rate.window.as_secs(), limit.by)
}

fn algorithm(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::FixedWindow => "fixed_window",
        Algorithm::SlidingLog => "sliding_log",
        Algorithm::Gcra => "gcra",
    }
}
