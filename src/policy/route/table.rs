//! All routes, and which of them a request takes.
//!
//! The most specific path *whose methods take the request* wins, whatever the order in the file. Segment by segment
//! from the left, a literal is more specific than `{name}`, and `{name}` more than `**`.

use std::collections::HashMap;
use std::sync::Arc;

use http::Method;

use crate::policy::path::CleanPath;
use crate::policy::refusal::Refusal;
use crate::policy::route::{Methods, Route, Segment};

/// All routes, findable by path and method in time that does not grow with their number.
#[derive(Debug, Default)]
pub struct RouteTable {
    pub(super) routes: Vec<Arc<Route>>,
    pub(super) root: Node,
}

#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) literals: HashMap<Box<str>, Node>,
    pub(super) any: Option<Box<Node>>,
    pub(super) here: Vec<usize>,
    pub(super) below: Vec<usize>,
}

/// A search for the first route of a path, from the most specific on, that `takes` the request.
struct Search<'t, F> {
    routes: &'t [Arc<Route>],
    takes: F,
}

impl RouteTable {
    /// Builds the table. Two routes for the same paths and methods are for the compiler to refuse; here the first wins.
    pub fn new(routes: Vec<Arc<Route>>) -> Self {
        let mut root = Node::default();
        for (index, route) in routes.iter().enumerate() {
            root.insert(&route.pattern.segments, index);
        }
        Self { routes, root }
    }

    /// All routes in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// The route for a request: [`Refusal::NoRoute`] when no path matches, [`Refusal::MethodNotAllowed`] with the union
    /// of the methods when a path does but takes other methods.
    pub fn find(&self, method: &Method, path: &CleanPath<'_>) -> Result<&Arc<Route>, Refusal> {
        let mut allowed = Methods::NONE;
        let takes = |route: &Arc<Route>| {
            allowed = allowed.union(route.methods);
            route.methods.contains(method)
        };
        match self.first(path, takes) {
            Some(route) => Ok(route),
            None if allowed == Methods::NONE => Err(Refusal::NoRoute),
            None => Err(Refusal::MethodNotAllowed(allowed)),
        }
    }

    /// All routes that have this path, the most specific first, whatever methods they take.
    pub fn candidates(&self, path: &CleanPath<'_>) -> Vec<&Arc<Route>> {
        let mut found = Vec::new();
        self.first(path, |route| {
            found.push(route);
            false
        });
        found
    }

    fn first<'t>(&'t self, path: &CleanPath<'_>, takes: impl FnMut(&'t Arc<Route>) -> bool) -> Option<&'t Arc<Route>> {
        let rest = path.as_str().strip_prefix('/').unwrap_or_default();
        Search { routes: &self.routes, takes }.visit(&self.root, rest)
    }
}

impl Node {
    fn insert(&mut self, segments: &[Segment], route: usize) {
        match segments.split_first() {
            None => self.here.push(route),
            Some((Segment::Below, _)) => self.below.push(route),
            Some((Segment::Any, rest)) => self.any.get_or_insert_default().insert(rest, route),
            Some((Segment::Literal(name), rest)) => self.literals.entry(name.clone()).or_default().insert(rest, route),
        }
    }
}

impl<'t, F: FnMut(&'t Arc<Route>) -> bool> Search<'t, F> {
    /// Depth first, most specific first; `rest` is the path below `node` without a leading slash.
    fn visit(&mut self, node: &'t Node, rest: &str) -> Option<&'t Arc<Route>> {
        if rest.is_empty() {
            return self.take(&node.here).or_else(|| self.take(&node.below));
        }
        let (segment, deeper) = rest.split_once('/').unwrap_or((rest, ""));
        if let Some(found) = node.literals.get(segment).and_then(|child| self.visit(child, deeper)) {
            return Some(found);
        }
        if let Some(found) = node.any.as_deref().and_then(|child| self.visit(child, deeper)) {
            return Some(found);
        }
        self.take(&node.below)
    }

    fn take(&mut self, candidates: &[usize]) -> Option<&'t Arc<Route>> {
        candidates.iter().filter_map(|&index| self.routes.get(index)).find(|route| (self.takes)(route))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::policy::route::{Access, Destination, Pattern};
    use crate::policy::upstream::RouteTimeouts;

    /// A route for these methods, or for all.
    pub(in crate::policy::route) fn route(name: &str, pattern: &str, methods: &[Method]) -> Arc<Route> {
        let methods = if methods.is_empty() {
            Methods::ALL
        } else {
            methods.iter().fold(Methods::NONE, |set, method| set.with(method).unwrap())
        };
        Arc::new(Route {
            number: 0,
            name: name.into(),
            pattern: Pattern::parse(pattern).unwrap(),
            methods,
            access: Access::Token,
            limits: vec![],
            cost: 1,
            destination: Destination::Upstream(0),
            pagination: None,
            streaming: false,
            websocket: false,
            timeouts: RouteTimeouts::default(),
            body_bytes: 0,
        })
    }

    fn table() -> RouteTable {
        RouteTable::new(vec![
            route("below", "/v1/contacts/**", &[]),
            route("list", "/v1/contacts", &[Method::GET]),
            route("one", "/v1/contacts/{id}", &[Method::GET]),
            route("me", "/v1/contacts/me", &[Method::PUT]),
            route("send", "/v1/campaigns/{id}/send", &[Method::POST]),
            route("root", "/", &[Method::GET]),
        ])
    }

    fn found(method: Method, path: &str) -> String {
        let table = table();
        let path = CleanPath::parse(path).unwrap();
        match table.find(&method, &path) {
            Ok(route) => route.name.to_string(),
            Err(Refusal::NoRoute) => "404".into(),
            Err(Refusal::MethodNotAllowed(methods)) => format!("405 {methods}"),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_most_specific_path_that_takes_the_method_wins() {
        assert_eq!(found(Method::GET, "/v1/contacts"), "list");
        assert_eq!(found(Method::HEAD, "/v1/contacts"), "list");
        assert_eq!(found(Method::POST, "/v1/contacts"), "below");
        assert_eq!(found(Method::GET, "/v1/contacts/7"), "one");
        assert_eq!(found(Method::PUT, "/v1/contacts/me"), "me");
        assert_eq!(found(Method::GET, "/v1/contacts/me"), "one");
        assert_eq!(found(Method::DELETE, "/v1/contacts/me"), "below");
        assert_eq!(found(Method::GET, "/v1/contacts/7/notes"), "below");
        assert_eq!(found(Method::GET, "/"), "root");
    }

    #[test]
    fn an_unknown_path_is_404_and_a_known_one_with_another_method_405() {
        assert_eq!(found(Method::GET, "/v1"), "404");
        assert_eq!(found(Method::GET, "/v1/contactsx"), "404");
        assert_eq!(found(Method::GET, "/v1/campaigns/1/send/2"), "404");
        assert_eq!(found(Method::GET, "/v1/campaigns/1/send"), "405 POST");
        assert_eq!(found(Method::POST, "/"), "405 GET, HEAD");
        assert_eq!(
            found(Method::from_bytes(b"BREW").unwrap(), "/v1/contacts"),
            "405 GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
        );
        assert_eq!(found(Method::TRACE, "/"), "405 GET, HEAD");
    }

    #[test]
    fn a_spelling_never_reaches_a_less_specific_route() {
        for path in
            ["/v1/campaigns/1/send/", "/v1//campaigns/1/./send", "/v1/campaigns/1/%73end", "/v1/x/../campaigns/1/send"]
        {
            assert_eq!(found(Method::POST, path), "send", "{path}");
        }
    }
}
