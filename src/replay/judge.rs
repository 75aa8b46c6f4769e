//! A logged request under both policies: the recorded outcome, and the one it would have now.

use std::sync::Arc;

use crate::limits::memory::MemoryStore;
use crate::policy::limit::asks;
use crate::policy::path::CleanPath;
use crate::policy::principal::{Lifetime, Principal, TokenRecord};
use crate::policy::route::{Access, Grant, Route};
use crate::policy::time::UnixMillis;
use crate::policy::{ClientIp, Policy};
use crate::replay::line::Line;
use crate::replay::{Fate, Gap};

/// Judges requests in the order of their time; counts their limits.
pub(super) struct Judge<'a> {
    old: &'a Policy,
    new: &'a Policy,
    counters: MemoryStore,
}

/// The two outcomes of a request.
pub(super) struct Judged {
    pub(super) before: Fate,
    pub(super) after: Fate,
    /// Whether it was answered by a route that the old file does not have for it.
    pub(super) is_of_another_file: bool,
}

/// How far a request came.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Past {
    /// To its backend, or to something behind its limits.
    Passed,
    /// To its limits.
    Limited,
    /// To its scope.
    Scope,
    /// To its token.
    Token,
    /// To its route.
    Route,
    /// To something that no file decides.
    Elsewhere,
}

impl<'a> Judge<'a> {
    pub(super) fn new(old: &'a Policy, new: &'a Policy) -> Self {
        Self { old, new, counters: MemoryStore::default() }
    }

    /// Judges a request, and counts it where it passes.
    pub(super) fn judge(&self, line: &Line<'_>, now: UnixMillis) -> Judged {
        let past = Past::of(line);
        let before = match past {
            Past::Passed => Fate::Passes,
            Past::Limited => Fate::Limited,
            // The answer to a preflight.
            Past::Elsewhere if line.reason.is_none() => Fate::Passes,
            Past::Scope | Past::Token | Past::Route | Past::Elsewhere => Fate::Refused,
        };
        let path = CleanPath::parse(&line.path).ok().filter(|_| past != Past::Elsewhere);
        let Some(path) = path else { return Judged { before, after: before, is_of_another_file: false } };
        let find = |policy: &'a Policy| policy.routes.find(&line.method, &path).ok();
        let old = find(self.old);
        let is_of_another_file = old.map(|route| &*route.name) != line.route.as_deref();
        let after = match find(self.new) {
            None => Fate::Refused,
            Some(new) => self.fate(line, past, old, new, now),
        };
        Judged { before, after, is_of_another_file }
    }

    fn fate(&self, line: &Line<'_>, past: Past, old: Option<&Arc<Route>>, new: &Arc<Route>, now: UnixMillis) -> Fate {
        match authorised(line, past, old, new, now) {
            Ok(grant) => {
                let asks = asks(new, &grant, ClientIp(line.client));
                let granted = asks.is_empty() || self.counters.take(&asks, 1, now).granted > 0;
                if granted { Fate::Passes } else { Fate::Limited }
            }
            Err(fate) => fate,
        }
    }
}

/// Whether the caller may use the new route, as far as that is known.
fn authorised(
    line: &Line<'_>,
    past: Past,
    old: Option<&Arc<Route>>,
    new: &Route,
    now: UnixMillis,
) -> Result<Grant, Fate> {
    if !new.access.needs_token() {
        return new.access.grant(None).map_err(|_| Fate::Refused);
    }
    let Some(principal) = principal(line, now) else {
        return Err(if past == Past::Token { Fate::Refused } else { Fate::Unknown(Gap::Token) });
    };
    let is_same_scope = old.is_some_and(|old| old.access == new.access);
    match (&new.access, past) {
        (Access::Scope(_), Past::Scope) if is_same_scope => Err(Fate::Refused),
        (Access::Scope(_), _) if !is_same_scope => Err(Fate::Unknown(Gap::Scope)),
        // What its scopes are is not known, and was decided already.
        _ => Access::Token.grant(Some(Arc::new(principal))).map_err(|_| Fate::Refused),
    }
}

/// Who sent it, without scopes.
fn principal(line: &Line<'_>, now: UnixMillis) -> Option<Principal> {
    let (id, workspace, user) = (line.token_id.as_deref()?, line.workspace.as_deref()?, line.user.as_deref()?);
    TokenRecord::new(id, workspace, user, [], Lifetime::default()).ok()?.opaque(now, None).ok()
}

impl Past {
    /// By the reason for which the gateway refused it.
    fn of(line: &Line<'_>) -> Self {
        let reason = line.reason.as_deref();
        match reason {
            Some("limit") => Self::Limited,
            Some("scope") => Self::Scope,
            Some("no_route" | "method") => Self::Route,
            Some("token_store" | "token_failures" | "look_up_budget" | "limit_store" | "overloaded") => Self::Elsewhere,
            Some(reason) if reason == "no_token" || reason.starts_with("token_") => Self::Token,
            // A malformed request, or the answer to a preflight.
            _ if line.route.is_none() => Self::Elsewhere,
            _ => Self::Passed,
        }
    }
}
