//! What a whole file shows and no part of it: names that nothing uses, routes that no request comes to, tokens that nobody knows.

use std::sync::Arc;

use crate::config::compile::routes::{DEFAULT_LIMIT, NO_LIMIT};
use crate::config::compile::{Compiler, Named};
use crate::config::document::{Document, RouteDocument, SourceDocument};
use crate::config::yaml::Node;
use crate::policy::limit::Limit;
use crate::policy::route::{Access, Destination, Route, RouteTable};
use crate::policy::scope::Scope;
use crate::policy::upstream::Upstream;

impl Compiler<'_> {
    /// A route that takes requests of another one.
    pub(super) fn duplicate(&mut self, routes: &[Arc<Route>], route: &Route) {
        if self.is_struck(&["routes", &route.name, "methods"]) {
            return;
        }
        let twin = routes
            .iter()
            .filter(|other| !self.is_struck(&["routes", &other.name, "methods"]))
            .find(|other| other.pattern.same_paths(&route.pattern) && other.methods.overlaps(route.methods));
        if let Some(twin) = twin {
            let message = format!("the routes `{}` and `{}` take the same requests", twin.name, route.name);
            let first = self.place(&["routes", &twin.name, "path"]).told();
            self.error(&["routes", &route.name, "path"], message).hint =
                Some(format!("give them different `methods:` or remove one; {first}"));
        }
    }

    /// Routes that more specific ones leave nothing to.
    pub(super) fn shadowed(&mut self, table: &RouteTable) {
        for (route, others) in table.shadowed() {
            let names: Vec<String> = others.iter().map(|other| format!("`{}`", other.name)).collect();
            let message = format!("no request comes to the route `{}`: more specific ones take them all", route.name);
            self.warning(&["routes", &route.name, "path"], message).hint =
                Some(format!("{} do; remove it, or give them fewer `methods:`", names.join(" and ")));
        }
    }

    /// Names that nothing uses. A route that could not be read, or that misspells a name, may have meant any of them.
    pub(super) fn unused(
        &mut self,
        document: &Document,
        routes: &[Arc<Route>],
        limits: &Named<Limit>,
        upstreams: &Named<Upstream>,
    ) {
        let written = self.tree.get(&["routes"]).filter(|node| !node.has_struck()).map_or(usize::MAX, Node::len);
        if document.routes.len() != written {
            return;
        }
        self.unused_scopes(document);
        self.unused_limits(document, limits);
        for (at, upstream) in upstreams.keys().enumerate() {
            let is_used = |route: &Arc<Route>| route.destination == Destination::Upstream(at);
            if routes.len() == written && !routes.iter().any(is_used) {
                self.warning(&["upstreams", upstream], format!("no route leads to the upstream `{upstream}`")).hint =
                    Some("take it out, or name it in a route's `upstream:`".into());
            }
        }
    }

    fn unused_scopes(&mut self, document: &Document) {
        let scopes: Vec<&str> = document.routes.values().filter_map(|route| route.scope.as_deref()).collect();
        if scopes.iter().all(|scope| document.scopes.iter().any(|known| known == scope)) {
            for (at, scope) in document.scopes.iter().enumerate().filter(|(_, scope)| Scope::parse(scope).is_some()) {
                if scope != "*" && !scopes.contains(&scope.as_str()) {
                    self.warning(&["scopes", &at.to_string()], format!("no route asks for the scope `{scope}`")).hint =
                        Some("take it out, or ask for it where it is meant".into());
                }
            }
        }
    }

    fn unused_limits(&mut self, document: &Document, limits: &Named<Limit>) {
        let named: Vec<&str> = document.routes.values().flat_map(limit_names).collect();
        if named.iter().all(|name| *name == NO_LIMIT || limits.contains_key(*name)) {
            for limit in limits.keys().filter(|limit| *limit != NO_LIMIT && !named.contains(&limit.as_str())) {
                self.warning(&["limits", limit], format!("no route uses the limit `{limit}`")).hint =
                    Some("take it out, or name it in a route's `limit:`".into());
            }
        }
    }

    /// Routes that need a token, where none could be known.
    pub(super) fn tokens_unknown(&mut self, document: &Document, routes: &[Arc<Route>]) {
        let is_left_out =
            |source: &SourceDocument| matches!(source, SourceDocument::Redis(_)) && document.redis.url_file.is_none();
        let has_no_url = !self.is_struck(&["redis"]) && document.redis.url.as_ref().is_none_or(|url| url.0.is_empty());
        let sources = &document.auth.sources;
        let is_unknown = sources.is_empty() || has_no_url && sources.iter().all(is_left_out);
        let is_broken = self.tree.get(&["auth"]).is_some_and(Node::is_struck) || self.is_struck(&["auth", "sources"]);
        if !is_unknown || is_broken {
            return;
        }
        let Some(route) = routes.iter().find(|route| route.access.needs_token()) else { return };
        let key = if matches!(route.access, Access::Token) { "access" } else { "scope" };
        let message =
            format!("the route `{}` needs a token, and no source in `auth.sources` could know one", route.name);
        self.error(&["routes", &route.name, key], message).hint = Some(
            "such as auth: {sources: [redis: {}]}, with redis.url; see docs/laravel.md for a table of tokens".into(),
        );
    }
}

/// The limits that a route names, or is given.
fn limit_names(route: &RouteDocument) -> Vec<&str> {
    match &route.limit {
        Some(given) => given.0.iter().map(String::as_str).collect(),
        None => vec![DEFAULT_LIMIT],
    }
}
