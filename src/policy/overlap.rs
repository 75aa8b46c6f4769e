//! Where two route tables meet: which requests one route of the old and one of the new table take.
//!
//! Exact without trying every path. Which of two patterns is more specific does not depend on the path, and a pattern that matches the
//! example of another, whose placeholders are filled with a word that no literal can be, matches all its paths of that length. So a
//! route that does not take the example takes none of them.

use http::Method;

use crate::policy::path::CleanPath;
use crate::policy::route::{Methods, Pattern, Route, RouteTable, Segment};

/// Literals of patterns are unreserved characters; this is none, and canonical.
const NO_LITERAL: &str = "@";

/// Requests that `old` took and `new` takes. Where one of them is `None` they were refused for want of a route, or are.
#[derive(Debug)]
pub struct Meeting<'t> {
    /// Their route in the old table.
    pub old: Option<&'t Route>,
    /// Their route in the new one.
    pub new: Option<&'t Route>,
    /// Their paths, as far as no third route takes them.
    pub pattern: Pattern,
    /// Their methods.
    pub methods: Methods,
}

/// All meetings of two tables: first those of two routes, then what one table alone takes.
pub fn meetings<'t>(old: &'t RouteTable, new: &'t RouteTable) -> Vec<Meeting<'t>> {
    let deepest = old.iter().chain(new.iter()).map(|route| route.pattern.segments.len()).max().unwrap_or_default();
    let tables = Tables { old, new, deepest };
    let pairs = old.iter().flat_map(|old| new.iter().map(move |new| (Some(&**old), Some(&**new))));
    let gone = old.iter().map(|old| (Some(&**old), None));
    let come = new.iter().map(|new| (None, Some(&**new)));
    pairs.chain(gone).chain(come).filter_map(|(old, new)| tables.meeting(old, new)).collect()
}

/// Routes that are still called the same, on paths that no route took: their requests, as if the old route had taken them.
pub fn moves<'t>(old: &'t RouteTable, new: &'t RouteTable, meetings: &[Meeting<'_>]) -> Vec<Meeting<'t>> {
    let met_one = |new: &Route| {
        let is_of_new = |met: &&Meeting<'_>| met.new.is_some_and(|route| route.number == new.number);
        meetings.iter().filter(is_of_new).any(|met| met.old.is_some())
    };
    let moved = |new: &'t Route| {
        let old = old.iter().find(|old| old.name == new.name)?;
        Some(Meeting { old: Some(old), new: Some(new), pattern: new.pattern.clone(), methods: new.methods })
    };
    new.iter().filter(|new| !met_one(new)).filter_map(|new| moved(new)).collect()
}

struct Tables<'t> {
    old: &'t RouteTable,
    new: &'t RouteTable,
    deepest: usize,
}

impl<'t> Tables<'t> {
    fn meeting(&self, old: Option<&'t Route>, new: Option<&'t Route>) -> Option<Meeting<'t>> {
        let pattern = match (old, new) {
            (Some(old), Some(new)) => old.pattern.both(&new.pattern)?,
            (Some(one), None) | (None, Some(one)) => one.pattern.clone(),
            (None, None) => return None,
        };
        let examples: Vec<String> = (0..=self.deepest + 1).filter_map(|length| pattern.example(length)).collect();
        let examples: Vec<CleanPath<'_>> = examples.iter().filter_map(|path| CleanPath::parse(path).ok()).collect();
        let is_met = |method: &Method, path: &CleanPath<'_>| {
            is_taken(self.old, old, method, path) && is_taken(self.new, new, method, path)
        };
        let methods = Methods::ALL.filter(|method| examples.iter().any(|path| is_met(method, path)));
        (methods != Methods::NONE).then_some(Meeting { old, new, pattern, methods })
    }
}

/// Whether it is `route` that takes the request in `table`; nobody, where that is `None`.
fn is_taken(table: &RouteTable, route: Option<&Route>, method: &Method, path: &CleanPath<'_>) -> bool {
    if route.is_some_and(|route| !route.methods.contains(method)) {
        return false;
    }
    table.find(method, path).ok().map(|found| found.number) == route.map(|route| route.number)
}

impl Pattern {
    /// What matches the paths that both match; `None` where there are none.
    pub fn both(&self, other: &Self) -> Option<Self> {
        let (mut ours, mut theirs) = (self.segments.as_slice(), other.segments.as_slice());
        let mut segments = Vec::new();
        loop {
            match (ours.split_first(), theirs.split_first()) {
                (Some((Segment::Below, _)), _) => segments.extend_from_slice(theirs),
                (_, Some((Segment::Below, _))) => segments.extend_from_slice(ours),
                (Some((our, our_rest)), Some((their, their_rest))) => {
                    segments.push(our.both(their)?.clone());
                    (ours, theirs) = (our_rest, their_rest);
                    continue;
                }
                (None, None) => {}
                (None, Some(_)) | (Some(_), None) => return None,
            }
            break;
        }
        let named = [other, self].into_iter().find(|one| one.segments == segments);
        let text = named
            .map_or_else(|| segments.iter().map(|segment| format!("/{segment}")).collect(), |one| one.text.clone());
        Some(Self { text, segments })
    }

    /// A path of so many segments that matches, as general as there is one: another pattern that matches it matches all of them.
    fn example(&self, length: usize) -> Option<String> {
        let (fixed, has_below) = match self.segments.split_last() {
            Some((Segment::Below, fixed)) => (fixed, true),
            _ => (self.segments.as_slice(), false),
        };
        if length < fixed.len() || (length > fixed.len() && !has_below) {
            return None;
        }
        let below = std::iter::repeat_n(NO_LITERAL, length - fixed.len());
        let words = fixed.iter().map(|segment| if let Segment::Literal(word) = segment { word } else { NO_LITERAL });
        let path: String = words.chain(below).map(|word| format!("/{word}")).collect();
        Some(if path.is_empty() { "/".to_owned() } else { path })
    }
}

impl Segment {
    fn both<'s>(&'s self, other: &'s Self) -> Option<&'s Self> {
        match (self, other) {
            (Self::Any, one) | (one, Self::Any) => Some(one),
            (one, other) => (one == other).then_some(one),
        }
    }
}

impl std::fmt::Display for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Literal(word) => word,
            Self::Any => "{}",
            Self::Below => "**",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::route::{Access, Destination};
    use crate::policy::upstream::RouteTimeouts;

    fn table(patterns: &[(&str, Methods)]) -> RouteTable {
        let route = |(number, (pattern, methods)): (usize, &(&str, Methods))| {
            Arc::new(Route {
                number,
                name: format!("r{number}").into(),
                pattern: Pattern::parse(pattern).unwrap(),
                methods: *methods,
                access: Access::Token,
                limits: vec![],
                cost: 1,
                destination: Destination::RateLimits,
                pagination: None,
                streaming: false,
                websocket: false,
                timeouts: RouteTimeouts::default(),
                body_bytes: 0,
            })
        };
        RouteTable::new(patterns.iter().enumerate().map(route).collect())
    }

    fn get() -> Methods {
        Methods::NONE.with(&Method::GET).unwrap()
    }

    fn said(old: &[(&str, Methods)], new: &[(&str, Methods)]) -> Vec<String> {
        let (old, new) = (table(old), table(new));
        let name = |route: Option<&Route>| route.map_or("nobody".to_owned(), |route| route.name.to_string());
        let say = |meeting: &Meeting<'_>| {
            let (old, new) = (name(meeting.old), name(meeting.new));
            format!("{old} -> {new}: {} {}", meeting.methods, meeting.pattern.as_str())
        };
        meetings(&old, &new).iter().map(say).collect()
    }

    #[test]
    fn a_more_specific_route_takes_its_part_of_what_another_took() {
        let all = Methods::ALL;
        assert_eq!(
            said(&[("/a/**", all)], &[("/a/**", all), ("/a/{id}/export", get())]),
            ["r0 -> r0: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS /a/**", "r0 -> r1: GET, HEAD /a/{id}/export"]
        );
        assert_eq!(said(&[("/a/{x}/c", get())], &[("/a/b/{y}", get())])[0], "r0 -> r0: GET, HEAD /a/b/c");
    }

    #[test]
    fn what_no_route_takes_any_more_and_what_none_took_meets_nobody() {
        assert_eq!(
            said(&[("/a", get()), ("/b", get())], &[("/b", get()), ("/c/**", get())]),
            ["r1 -> r0: GET, HEAD /b", "r0 -> nobody: GET, HEAD /a", "nobody -> r1: GET, HEAD /c/**"]
        );
    }

    fn patterns() -> impl Strategy<Value = Vec<(String, Methods)>> {
        let segment = prop_oneof![Just("/a"), Just("/b"), Just("/{x}")];
        let path = (proptest::collection::vec(segment, 0..4), any::<bool>());
        let path = path.prop_map(|(parts, below)| parts.concat() + if below { "/**" } else { "" });
        let path = path.prop_map(|path| if path.is_empty() { "/".to_owned() } else { path });
        let methods = prop_oneof![Just(Methods::ALL), Just(Methods::NONE.with(&Method::POST).unwrap())];
        proptest::collection::vec((path, methods), 1..7)
    }

    proptest! {
        #[test]
        fn every_request_is_in_the_meeting_of_the_routes_that_take_it(
            old in patterns(), new in patterns(),
            path in proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c")], 0..5)
        ) {
            let borrowed = |patterns: &[(String, Methods)]| table(&patterns.iter().map(|(text, methods)| (text.as_str(), *methods)).collect::<Vec<_>>());
            let (old, new) = (borrowed(&old), borrowed(&new));
            let text = format!("/{}", path.join("/"));
            let path = CleanPath::parse(&text).unwrap();
            for method in [Method::GET, Method::POST] {
                let number = |table: &RouteTable| table.find(&method, &path).ok().map(|route| route.number);
                let (old_one, new_one) = (number(&old), number(&new));
                let meetings = meetings(&old, &new);
                let met = meetings.iter().find(|meeting| {
                    meeting.old.map(|route| route.number) == old_one && meeting.new.map(|route| route.number) == new_one
                });
                let is_there = met.is_some_and(|meeting| meeting.methods.contains(&method));
                prop_assert_eq!(is_there, old_one.is_some() || new_one.is_some(), "{} {:?} {:?}", text, old_one, new_one);
            }
        }
    }
}
