//! Routes that no request comes to, because more specific ones take them all.

use std::sync::Arc;

use crate::policy::route::table::Node;
use crate::policy::route::{Methods, Route, RouteTable};

impl RouteTable {
    /// The routes that no request comes to, in their order, each with the more specific ones that take all of them.
    pub fn shadowed(&self) -> Vec<(&Arc<Route>, Vec<&Arc<Route>>)> {
        let mut found = Vec::new();
        self.root.shadowed(&self.routes, &mut found);
        found.sort_by_key(|(route, _)| route.number);
        found
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::route::table::tests::route;
    use http::Method;

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
}
