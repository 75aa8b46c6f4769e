//! Routes: which request goes where, and what it needs for that.
//!
//! The most specific path *whose methods take the request* wins, whatever the order in the file. Segment by segment
//! from the left, a literal is more specific than `{name}`, and `{name}` more than `**`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::Method;

use crate::policy::limit::Limit;
use crate::policy::pagination::Pagination;
use crate::policy::path::CleanPath;
use crate::policy::principal::Principal;
use crate::policy::refusal::Refusal;
use crate::policy::scope::Scope;
use crate::policy::upstream::RouteTimeouts;

/// The `route` label of a request that found no route; no route can be called that.
pub const NO_ROUTE: &str = "none";

/// One entry of `routes:`.
#[derive(Debug)]
pub struct Route {
    /// Its place among all routes.
    pub number: usize,
    /// The key in gateway.yaml, and the `route` label of every metric.
    pub name: Arc<str>,
    /// The full path pattern, `base_path` included.
    pub pattern: Pattern,
    /// The methods it takes.
    pub methods: Methods,
    /// Who may use it.
    pub access: Access,
    /// The limits a request takes, all or none.
    pub limits: Vec<Arc<Limit>>,
    /// How many units of each limit a request takes.
    pub cost: u32,
    /// Who answers.
    pub destination: Destination,
    /// The list contract of the query string, where the route has one.
    pub pagination: Option<Pagination>,
    /// Whether the answer may take as long as it likes between its first byte and its last.
    pub streaming: bool,
    /// Whether clients may change to a WebSocket.
    pub websocket: bool,
    /// How long to wait, where that is not as the upstream says.
    pub timeouts: RouteTimeouts,
    /// The most bytes of request body the route takes.
    pub body_bytes: u64,
}

/// Who answers the requests of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A backend: an index into [`crate::policy::Policy::upstreams`].
    Upstream(usize),
    /// The gateway itself, which tells callers where they stand with their limits.
    RateLimits,
}

/// Who may use a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody; a token is not looked at.
    Public,
    /// Any valid token.
    Token,
    /// A valid token that holds this scope.
    Scope(Scope),
}

impl Access {
    /// Whether a request on the route has to present a token.
    pub fn needs_token(&self) -> bool {
        !matches!(self, Self::Public)
    }

    /// Lets `caller` in, or says which scope is missing. What needs a token refuses a request without a principal whatever came before.
    pub fn grant(&self, caller: Option<Arc<Principal>>) -> Result<Grant, Refusal> {
        match (self, &caller) {
            (Self::Public, _) => Ok(Grant { principal: None }),
            (_, None) => Err(Refusal::NoToken),
            (Self::Token, Some(_)) => Ok(Grant { principal: caller }),
            (Self::Scope(scope), Some(principal)) if principal.scopes().allows(scope) => {
                Ok(Grant { principal: caller })
            }
            (Self::Scope(scope), Some(_)) => Err(Refusal::MissingScope(scope.clone())),
        }
    }
}

/// Evidence that a caller may use a route; made by [`Access::grant`] alone.
#[derive(Clone, Debug)]
pub struct Grant {
    principal: Option<Arc<Principal>>,
}

impl Grant {
    /// Who was authorised; `None` on a public route.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.principal.as_ref()
    }
}

/// A set of request methods. The gateway knows seven; CONNECT, TRACE and extension methods are never routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods(u8);

const KNOWN_METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

impl Methods {
    /// What a route without `methods:` takes.
    pub const ALL: Self = Self(0x7F);
    /// No method; what a union starts from.
    pub const NONE: Self = Self(0);

    /// The set with `method` in it, and HEAD when it is GET (RFC 9110 section 9.3.2). `None` for a method that is never routed.
    pub fn with(self, method: &Method) -> Option<Self> {
        let with_head = if method == Method::GET { Self::bit(&Method::HEAD)? } else { 0 };
        Some(Self(self.0 | Self::bit(method)? | with_head))
    }

    /// Whether `method` is in the set.
    pub fn contains(self, method: &Method) -> bool {
        Self::bit(method).is_some_and(|bit| self.0 & bit != 0)
    }

    /// The name of a method that may be in a set.
    pub fn name(method: &Method) -> Option<&'static str> {
        Some(match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            Method::OPTIONS => "OPTIONS",
            _ => return None,
        })
    }

    /// Whether the two sets have a method in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Its methods, one after the other.
    pub fn iter(self) -> impl Iterator<Item = Method> {
        KNOWN_METHODS.into_iter().filter(move |method| self.contains(method))
    }

    /// Those of the methods for which `is_wanted` holds; GET does not bring HEAD with it.
    #[must_use]
    pub fn filter(self, is_wanted: impl Fn(&Method) -> bool) -> Self {
        let bits = self.iter().filter(|method| is_wanted(method)).filter_map(|method| Self::bit(&method));
        Self(bits.fold(0, |set, bit| set | bit))
    }

    fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn bit(method: &Method) -> Option<u8> {
        KNOWN_METHODS.iter().position(|known| known == method).map(|at| 1 << at)
    }
}

impl fmt::Display for Methods {
    /// As in an Allow header: `GET, HEAD, POST`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for method in KNOWN_METHODS.iter().filter(|method| self.contains(method)) {
            write!(f, "{separator}{method}")?;
            separator = ", ";
        }
        Ok(())
    }
}

/// A path pattern: literal segments, `{name}` for one segment, a last `**` for the path itself and all below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    pub(super) text: String,
    pub(super) segments: Vec<Segment>,
}

/// One part of a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Segment {
    Literal(Box<str>),
    Any,
    Below,
}

/// Why a text is no path pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatternProblem {
    /// It does not begin with a slash.
    NotAbsolute,
    /// `**` somewhere else than at the end.
    BelowNotLast,
    /// `{`, `}` or `*` that is neither a whole `{name}` segment nor a whole last `**`.
    BadPlaceholder,
    /// A literal with a character that could also be spelled as an escape; only letters, digits and `-._~` have one spelling.
    BadLiteral,
    /// An empty, `.` or `..` segment, or a trailing slash: no canonical path looks like that.
    NotCanonical,
}

impl Pattern {
    /// Reads a pattern. Literals are limited to unreserved characters, which a canonical path spells in one way only.
    pub fn parse(text: &str) -> Result<Self, PatternProblem> {
        let rest = text.strip_prefix('/').ok_or(PatternProblem::NotAbsolute)?;
        let mut segments = Vec::new();
        if !rest.is_empty() {
            for segment in rest.split('/') {
                if segments.last() == Some(&Segment::Below) {
                    return Err(PatternProblem::BelowNotLast);
                }
                segments.push(Segment::parse(segment)?);
            }
        }
        Ok(Self { text: text.to_owned(), segments })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches one path alone.
    pub fn is_literal(&self) -> bool {
        self.segments.iter().all(|segment| matches!(segment, Segment::Literal(_)))
    }

    /// Whether the two patterns match the same paths: they differ in nothing but placeholder names.
    pub fn same_paths(&self, other: &Self) -> bool {
        self.segments == other.segments
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, PatternProblem> {
        if text == "**" {
            return Ok(Self::Below);
        }
        if let Some(name) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            return is_name.then_some(Self::Any).ok_or(PatternProblem::BadPlaceholder);
        }
        if text.contains(['{', '}', '*']) {
            return Err(PatternProblem::BadPlaceholder);
        }
        if matches!(text, "" | "." | "..") {
            return Err(PatternProblem::NotCanonical);
        }
        let is_unreserved = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        text.bytes().all(is_unreserved).then(|| Self::Literal(text.into())).ok_or(PatternProblem::BadLiteral)
    }
}

/// All routes, findable by path and method in time that does not grow with their number.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: HashMap<Box<str>, Node>,
    any: Option<Box<Node>>,
    here: Vec<usize>,
    below: Vec<usize>,
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

    /// The routes that no request comes to, in their order, each with the more specific ones that take all of them.
    pub fn shadowed(&self) -> Vec<(&Arc<Route>, Vec<&Arc<Route>>)> {
        let mut found = Vec::new();
        self.root.shadowed(&self.routes, &mut found);
        found.sort_by_key(|(route, _)| route.number);
        found
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

/// Methods, and the routes that take them.
type Taken<'t> = (Methods, Vec<&'t Arc<Route>>);

impl Node {
    fn shadowed<'t>(&self, routes: &'t [Arc<Route>], found: &mut Vec<(&'t Arc<Route>, Vec<&'t Arc<Route>>)>) {
        if !self.below.is_empty() {
            let (methods, others) = self.taken_before_below(routes);
            for route in self.below.iter().filter_map(|&index| routes.get(index)) {
                if route.methods != Methods::NONE && methods.intersection(route.methods) == route.methods {
                    found.push((route, others.clone()));
                }
            }
        }
        self.literals.values().chain(self.any.as_deref()).for_each(|child| child.shadowed(routes, found));
    }

    /// What is taken of every path from here on without this node's own `**`: by a route for this path and, for all that is
    /// longer, by what stands below `{name}`. A literal takes one of its paths only.
    fn taken_before_below<'t>(&self, routes: &'t [Arc<Route>]) -> Taken<'t> {
        let Some(any) = self.any.as_deref() else { return (Methods::NONE, Vec::new()) };
        let (here, mut others) = taken(&self.here, routes);
        let (longer, more) = any.taken_whole(routes);
        others.extend(more);
        (here.intersection(longer), others)
    }

    fn taken_whole<'t>(&self, routes: &'t [Arc<Route>]) -> Taken<'t> {
        let (methods, mut others) = taken(&self.below, routes);
        let (before, more) = self.taken_before_below(routes);
        others.extend(more);
        (methods.union(before), others)
    }
}

fn taken<'t>(indices: &[usize], routes: &'t [Arc<Route>]) -> Taken<'t> {
    let found: Vec<&Arc<Route>> = indices.iter().filter_map(|&index| routes.get(index)).collect();
    (found.iter().fold(Methods::NONE, |methods, route| methods.union(route.methods)), found)
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
mod tests {
    use super::*;

    fn route(name: &str, pattern: &str, methods: &[Method]) -> Arc<Route> {
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
    fn a_route_is_shadowed_when_more_specific_ones_take_every_path_and_method_of_it() {
        let shadowed = |routes: &[(&'static str, &str, &[Method])]| {
            let routes = routes.iter().map(|(name, pattern, methods)| route(name, pattern, methods)).collect();
            let table = RouteTable::new(routes);
            let names: Vec<String> = table.shadowed().iter().map(|(route, _)| route.name.to_string()).collect();
            names.join(" ")
        };
        assert_eq!(shadowed(&[("all", "/a/**", &[]), ("one", "/a", &[]), ("more", "/a/{x}/**", &[])]), "all");
        assert_eq!(
            shadowed(&[("all", "/a/**", &[Method::GET]), ("one", "/a", &[Method::GET]), ("more", "/a/{x}/**", &[])]),
            "all"
        );
        assert_eq!(shadowed(&[("all", "/a/**", &[]), ("one", "/a", &[Method::GET]), ("more", "/a/{x}/**", &[])]), "");
        assert_eq!(shadowed(&[("all", "/a/**", &[]), ("more", "/a/{x}/**", &[])]), "", "/a is left");
        assert_eq!(
            shadowed(&[("all", "/a/**", &[]), ("one", "/a", &[]), ("two", "/a/{x}", &[])]),
            "",
            "/a/b/c is left"
        );
        let deep: [(&str, &str, &[Method]); 4] =
            [("all", "/**", &[]), ("root", "/", &[]), ("one", "/{x}", &[]), ("more", "/{x}/{y}/**", &[])];
        assert_eq!(shadowed(&deep), "all");
        assert_eq!(shadowed(&[("all", "/**", &[]), ("root", "/", &[]), ("some", "/a/**", &[])]), "");
    }

    #[test]
    fn a_spelling_never_reaches_a_less_specific_route() {
        for path in
            ["/v1/campaigns/1/send/", "/v1//campaigns/1/./send", "/v1/campaigns/1/%73end", "/v1/x/../campaigns/1/send"]
        {
            assert_eq!(found(Method::POST, path), "send", "{path}");
        }
    }

    #[test]
    fn a_pattern_says_what_is_wrong_with_it() {
        use PatternProblem::*;
        for (text, problem) in [
            ("contacts", NotAbsolute),
            ("/a/**/b", BelowNotLast),
            ("/a/*", BadPlaceholder),
            ("/a/{}", BadPlaceholder),
            ("/a/x{id}", BadPlaceholder),
            ("/a/{id", BadPlaceholder),
            ("/a b", BadLiteral),
            ("/a%20b", BadLiteral),
            ("/a@b", BadLiteral),
            ("/a/", NotCanonical),
            ("/a//b", NotCanonical),
            ("/a/../b", NotCanonical),
        ] {
            assert_eq!(Pattern::parse(text), Err(problem), "{text}");
        }
    }
}
