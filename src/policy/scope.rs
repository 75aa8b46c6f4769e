//! Scopes: what a token may do and what a route asks for.

use std::fmt;
use std::sync::Arc;

/// A scope by name, as `scopes:` in gateway.yaml lists them and tokens carry them. Compared exactly, as Sanctum does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Arc<str>);

/// The scope that holds every scope (Sanctum's `["*"]`).
const EVERY: &str = "*";

impl Scope {
    /// A scope-token of RFC 6749 section 3.3: visible ASCII without space, `"` and `\`. `None` for anything else.
    pub fn parse(name: &str) -> Option<Self> {
        let is_token = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\');
        (!name.is_empty() && name.bytes().all(is_token)).then(|| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The scopes of one token: sorted, without repetition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeSet(Vec<Scope>);

impl ScopeSet {
    /// Reads names as a token record lists them; `None` when one is not a scope-token.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut scopes = names.into_iter().map(Scope::parse).collect::<Option<Vec<_>>>()?;
        scopes.sort_unstable();
        scopes.dedup();
        Some(Self(scopes))
    }

    /// Whether a holder of this set may do what `wanted` names.
    pub fn allows(&self, wanted: &Scope) -> bool {
        self.0.iter().any(|held| held == wanted || held.as_str() == EVERY)
    }
}

impl fmt::Display for ScopeSet {
    /// Space-separated, the form of RFC 6749 section 3.3 and of X-Token-Scopes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, scope) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &str) -> ScopeSet {
        ScopeSet::parse(names.split_whitespace()).unwrap()
    }

    fn scope(name: &str) -> Scope {
        Scope::parse(name).unwrap()
    }

    #[test]
    fn a_scope_is_held_by_its_exact_name_or_by_the_star() {
        assert!(set("ai contacts").allows(&scope("contacts")));
        assert!(set("*").allows(&scope("contacts")));
        assert!(!set("Contacts contact contacts:*").allows(&scope("contacts")));
        assert!(!set("").allows(&scope("contacts")));
    }

    #[test]
    fn a_set_prints_sorted_and_without_repetition() {
        assert_eq!(set("contacts ai contacts").to_string(), "ai contacts");
    }

    #[test]
    fn a_name_that_would_break_a_header_is_no_scope() {
        for name in ["", "a b", "a\"b", "a\\b", "a\r\nb", "ä"] {
            assert_eq!(Scope::parse(name), None, "{name:?}");
        }
    }
}
