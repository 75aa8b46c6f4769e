//! Sets of request methods.

use std::fmt;

use http::Method;

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

    pub(super) fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn union(self, other: Self) -> Self {
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
