//! `routes:` — which request goes where and what it needs for that. Deny by default: a route says who may use it.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::Method;

use crate::config::compile::{Compiler, Named, is_plain_name};
use crate::config::document::{AccessDocument, Document, RouteDocument};
use crate::config::problem::{did_you_mean, one_of};
use crate::config::yaml::Node;
use crate::policy::limit::{CountedBy, Limit};
use crate::policy::pagination::Pagination;
use crate::policy::route::{Access, Destination, Methods, NO_ROUTE, Pattern, PatternProblem, Route};
use crate::policy::scope::Scope;
use crate::policy::upstream::{Http2, RouteTimeouts, Upstream};

/// The limit of a route that names none.
pub(super) const DEFAULT_LIMIT: &str = "general";
/// The name and the path of the route on which callers ask for their limits.
const RATE_LIMITS: &str = "rate-limits";
const DEFAULT_RATE_LIMITS_PATH: &str = "/rate-limits";
/// What `limit:` says for no limit.
pub(super) const NO_LIMIT: &str = "none";

impl Compiler<'_> {
    pub(super) fn routes(
        &mut self,
        document: &Document,
        limits: &Named<Limit>,
        upstreams: &Named<Upstream>,
    ) -> Vec<Arc<Route>> {
        let base = self.base_path(document.base_path.as_deref());
        let scopes = self.scopes(&document.scopes);
        let mut routes: Vec<Arc<Route>> = Vec::new();
        for (name, route) in &document.routes {
            if let Some(route) = self.route(name, route, &base, &scopes, limits, upstreams, document) {
                self.duplicate(&routes, &route);
                routes.push(Arc::new(Route { number: routes.len(), ..route }));
            }
        }
        self.unused(document, &routes, limits, upstreams);
        self.tokens_unknown(document, &routes);
        routes.extend(self.rate_limits_route(document, &base, limits, &routes));
        routes
    }

    /// The route on which callers ask for their limits. A route of the file goes before it.
    fn rate_limits_route(
        &mut self,
        document: &Document,
        base: &str,
        limits: &Named<Limit>,
        routes: &[Arc<Route>],
    ) -> Option<Arc<Route>> {
        let path = document.rate_limit_endpoint.path.as_deref().unwrap_or(DEFAULT_RATE_LIMITS_PATH);
        if path.is_empty() {
            return None;
        }
        let pattern = Pattern::parse(&format!("{base}{path}")).ok().filter(Pattern::is_literal);
        let Some(pattern) = pattern else {
            self.error(&["rate_limit_endpoint", "path"], format!("`{path}` is not a path")).hint =
                Some("such as /rate-limits, or \"\" for none".into());
            return None;
        };
        let methods = Methods::NONE.with(&Method::GET)?;
        let is_taken = routes.iter().any(|route| {
            &*route.name == RATE_LIMITS || route.pattern.same_paths(&pattern) && route.methods.overlaps(methods)
        });
        (!is_taken && !limits.is_empty()).then(|| {
            Arc::new(Route {
                number: routes.len(),
                name: RATE_LIMITS.into(),
                pattern,
                methods,
                access: Access::Token,
                limits: Vec::new(),
                cost: 1,
                destination: Destination::RateLimits,
                pagination: None,
                streaming: false,
                websocket: false,
                timeouts: RouteTimeouts::default(),
                body_bytes: 0,
            })
        })
    }

    fn base_path(&mut self, text: Option<&str>) -> String {
        let text = text.unwrap_or_default().trim_end_matches('/');
        let is_literal = text.is_empty() || Pattern::parse(text).is_ok_and(|pattern| pattern.is_literal());
        if !is_literal {
            self.error(&["base_path"], format!("`{text}` is not a path")).hint = Some("such as /api/v1".into());
            return String::new();
        }
        text.to_owned()
    }

    fn scopes(&mut self, names: &[String]) -> BTreeSet<String> {
        let mut scopes = BTreeSet::new();
        for (at, name) in names.iter().enumerate() {
            let at = at.to_string();
            if name == "*" || Scope::parse(name).is_none() {
                self.error(&["scopes", &at], format!("`{name}` cannot be a scope")).hint =
                    Some("visible ASCII without quotes and backslashes; `*` is what a token may hold, not what a route asks for".into());
            } else {
                scopes.insert(name.clone());
            }
        }
        scopes
    }

    #[expect(clippy::too_many_arguments, reason = "everything a route refers to")]
    fn route(
        &mut self,
        name: &str,
        document: &RouteDocument,
        base: &str,
        scopes: &BTreeSet<String>,
        limits: &Named<Limit>,
        upstreams: &Named<Upstream>,
        whole: &Document,
    ) -> Option<Route> {
        if name == NO_ROUTE || !is_plain_name(name) {
            self.error(&["routes", name], format!("a route cannot be called `{name}`")).hint =
                Some("letters, digits, `-`, `_` and `.`; `none` is what metrics call a request without a route".into());
        }
        let pattern = self.pattern(name, base, &document.path);
        let methods = self.methods(name, &document.methods);
        let access = self.access(name, document, scopes);
        let upstream = upstreams.keys().position(|key| *key == document.upstream);
        if upstream.is_none() {
            self.unknown_name(
                &["routes", name, "upstream"],
                "upstream",
                &document.upstream,
                "upstreams",
                upstreams.keys(),
            );
        }
        let is_public = access == Some(Access::Public);
        let limits = self.limits_of(name, document, is_public, limits);
        let cost = self.cost(name, document, &limits);
        let pagination = self.pagination(name, document);
        let body_bytes = document.body_bytes.unwrap_or(whole.request.body_bytes).0;
        Some(Route {
            number: 0,
            name: name.into(),
            pattern: pattern?,
            methods,
            access: access?,
            limits,
            cost,
            destination: Destination::Upstream(upstream?),
            pagination,
            streaming: document.streaming,
            websocket: self.websocket(name, document, methods, upstreams),
            timeouts: self.route_timeouts(name, document),
            body_bytes,
        })
    }

    fn pattern(&mut self, name: &str, base: &str, path: &str) -> Option<Pattern> {
        let hint = match Pattern::parse(path) {
            Ok(_) if path == "/" && !base.is_empty() => return Pattern::parse(base).ok(),
            Ok(_) => return Pattern::parse(&format!("{base}{path}")).ok(),
            Err(PatternProblem::NotAbsolute) => "a path begins with a slash",
            Err(PatternProblem::BelowNotLast) => "`**` stands for everything below and can only be last",
            Err(PatternProblem::BadPlaceholder) => "a placeholder is a whole segment: `{name}`, or `**` at the end",
            Err(PatternProblem::BadLiteral) => {
                "a literal segment is letters, digits and `-._~`: other characters have two spellings"
            }
            Err(PatternProblem::NotCanonical) => "a path has no empty, `.` or `..` segment and no slash at its end",
        };
        self.error(&["routes", name, "path"], format!("`{path}` is not the path of a route")).hint = Some(hint.into());
        None
    }

    fn methods(&mut self, name: &str, names: &[String]) -> Methods {
        if names.is_empty() {
            if self.tree.get(&["routes", name, "methods"]).is_some_and(Node::is_empty) {
                self.error(&["routes", name, "methods"], "`methods` is empty: the route would take no request").hint =
                    Some("take the key out to take every method".into());
            }
            return Methods::ALL;
        }
        let mut methods = Methods::NONE;
        for (at, text) in names.iter().enumerate() {
            let method = Method::from_bytes(text.as_bytes()).ok();
            match method.and_then(|method| methods.with(&method)) {
                Some(with) => methods = with,
                None => self.unknown_method(&["routes", name, "methods", &at.to_string()], text),
            }
        }
        methods
    }

    pub(super) fn unknown_method(&mut self, path: &[&str], text: &str) {
        let known = Methods::ALL.to_string();
        let known: Vec<&str> = known.split(", ").collect();
        let hint = did_you_mean(&text.to_uppercase(), known.iter().copied()).unwrap_or_else(|| one_of(known));
        self.error(path, format!("`{text}` is not a method")).hint = Some(hint);
    }

    fn access(&mut self, name: &str, document: &RouteDocument, scopes: &BTreeSet<String>) -> Option<Access> {
        match (&document.scope, document.access) {
            (Some(_), Some(_)) => {
                self.error(&["routes", name, "access"], format!("the route `{name}` has both `scope` and `access`"))
                    .hint = Some("keep `scope`: it already needs a valid token".into());
                None
            }
            (None, Some(AccessDocument::Public)) => Some(Access::Public),
            (None, Some(AccessDocument::Token)) => Some(Access::Token),
            (Some(scope), None) if scopes.contains(scope) => Scope::parse(scope).map(Access::Scope),
            (Some(scope), None) => {
                let hint = did_you_mean(scope, scopes.iter().map(String::as_str))
                    .unwrap_or_else(|| "list it in `scopes:`".into());
                self.error(&["routes", name, "scope"], format!("there is no scope `{scope}`")).hint = Some(hint);
                None
            }
            (None, None) => {
                // A scope that could not be read is a problem of its own already.
                if self.tree.get(&["routes", name, "scope"]).is_none()
                    && self.tree.get(&["routes", name, "access"]).is_none()
                {
                    self.error(&["routes", name], format!("the route `{name}` does not say who may use it")).hint =
                        Some("add `scope: …`, `access: token` (any valid token) or `access: public`".into());
                }
                None
            }
        }
    }

    fn limits_of(
        &mut self,
        name: &str,
        document: &RouteDocument,
        is_public: bool,
        limits: &Named<Limit>,
    ) -> Vec<Arc<Limit>> {
        if self.is_struck(&["routes", name, "limit"]) {
            return Vec::new();
        }
        let default = [DEFAULT_LIMIT.to_owned()];
        let (names, is_default) = match &document.limit {
            Some(given) => (given.0.as_slice(), false),
            None => (default.as_slice(), true),
        };
        if names.is_empty() {
            self.error(&["routes", name, "limit"], "`limit` is an empty list").hint =
                Some("name a limit, or write `limit: none`".into());
        }
        let mut found: Vec<Arc<Limit>> = Vec::new();
        for (at, limit) in names.iter().enumerate() {
            let at = at.to_string();
            let listed = ["routes", name, "limit", at.as_str()];
            let is_listed = self.is_written(&listed);
            let path = if is_listed { listed.as_slice() } else { listed.get(..3).unwrap_or_default() };
            match limits.get(limit) {
                _ if limit == NO_LIMIT && names.len() > 1 => {
                    self.error(path, "`none` does not go with other limits").hint =
                        Some("take it out, or write `limit: none`".into());
                }
                _ if limit == NO_LIMIT => {}
                Some(limit) => {
                    if is_public {
                        self.public_limit(path, limit);
                    }
                    found.push(Arc::clone(limit));
                }
                None if is_default && self.tree.get(&["limits", DEFAULT_LIMIT]).is_none() => {
                    let message = format!("the route `{name}` names no limit, and there is no limit `{DEFAULT_LIMIT}`");
                    self.error(&["routes", name], message).hint = Some("add `limit: …` or `limit: none`".into());
                }
                None => self.unknown_name(path, "limit", limit, "limits", limits.keys()),
            }
        }
        found
    }

    /// Of who calls a public route, only the address is known.
    fn public_limit(&mut self, path: &[&str], limit: &Limit) {
        if limit.by != CountedBy::ClientIp && !self.is_struck(&["limits", &limit.name, "by"]) {
            let message =
                format!("the limit `{}` is counted by {}, which nobody has on a public route", limit.name, limit.by);
            self.error(path, message).hint = Some("use a limit with `by: client_ip`, or `limit: none`".into());
        }
    }

    fn cost(&mut self, name: &str, document: &RouteDocument, limits: &[Arc<Limit>]) -> u32 {
        let Some(cost) = document.cost else { return 1 };
        if cost == 0 {
            self.error(&["routes", name, "cost"], "a request costs at least 1").hint =
                Some("`limit: none` takes nothing".into());
        }
        for limit in limits.iter().filter(|limit| cost > limit.rate.capacity) {
            let message =
                format!("a request costs {cost}, and `{}` never has more than {}", limit.name, limit.rate.capacity);
            self.error(&["routes", name, "cost"], message).hint = Some("no request would ever pass".into());
        }
        cost
    }

    /// A WebSocket begins with GET (RFC 6455 section 4.1).
    fn websocket(
        &mut self,
        name: &str,
        document: &RouteDocument,
        methods: Methods,
        upstreams: &Named<Upstream>,
    ) -> bool {
        let speaks_http2 = upstreams.get(&document.upstream).is_some_and(|upstream| upstream.http2 != Http2::Off);
        if document.websocket && speaks_http2 {
            let message = format!("a WebSocket needs HTTP/1.1, and `{}` is spoken to in HTTP/2", document.upstream);
            self.error(&["routes", name, "websocket"], message).hint =
                Some("lead this route to an upstream of its own, without `http2`".into());
        }
        let is_known = !self.is_struck(&["routes", name, "methods"]);
        if document.websocket && is_known && !methods.contains(&Method::GET) {
            self.error(&["routes", name, "websocket"], "a WebSocket begins with GET, which this route does not take")
                .hint = Some("add GET to its `methods`".into());
        }
        document.websocket
    }

    fn route_timeouts(&mut self, name: &str, document: &RouteDocument) -> RouteTimeouts {
        let given = document.timeouts;
        for (key, span) in [("response", given.response), ("total", given.total)] {
            if span.is_some_and(|span| span.0.is_zero()) {
                let message = format!("the {key} timeout is 0: no server could answer in time");
                self.error(&["routes", name, "timeouts", key], message);
            }
        }
        if document.streaming && given.total.is_some() {
            self.warning(&["routes", name, "timeouts", "total"], "a streaming route has no end of its time").hint =
                Some("leave `total` out, or `streaming`".into());
        }
        RouteTimeouts { response: given.response.map(|span| span.0), total: given.total.map(|span| span.0) }
    }

    fn pagination(&mut self, name: &str, document: &RouteDocument) -> Option<Pagination> {
        let document = document.pagination.as_ref()?;
        let path = ["routes", name, "pagination", "sort_by"];
        if document.sort_by.is_empty() && !self.is_struck(&path) {
            self.error(&path, "`sort_by` is empty: a list is sorted by something").hint =
                Some("name the fields that callers may sort by, such as [created_at]".into());
        }
        for (at, key) in document.sort_by.iter().enumerate() {
            if Pagination::new(vec![key.clone()]).is_none() {
                self.error(&[path.as_slice(), &[&at.to_string()]].concat(), format!("`{key}` cannot be sorted by"))
                    .hint = Some("a field is letters, digits and `_-.`".into());
            }
        }
        Pagination::new(document.sort_by.clone())
    }
}
