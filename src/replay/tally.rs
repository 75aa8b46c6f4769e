//! How many requests of whom came to what, before and now.

use std::collections::HashMap;

use crate::replay::{Fate, Gap};

/// Workspaces beyond this many are counted together.
const MOST_WORKSPACES: usize = 100_000;

/// Requests by what they came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passes: u64,
    pub(super) limited: u64,
    pub(super) refused: u64,
    pub(super) unknown_scope: u64,
    pub(super) unknown_token: u64,
}

/// The requests of one caller.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) before: Counts,
    pub(super) after: Counts,
}

/// All of them: by workspace, those without one, and those of workspaces that are too many to be kept apart.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    by_workspace: HashMap<Box<str>, Tally>,
    without: Tally,
    beyond: Tally,
}

impl Counts {
    fn add(&mut self, fate: Fate) {
        *match fate {
            Fate::Passes => &mut self.passes,
            Fate::Limited => &mut self.limited,
            Fate::Refused => &mut self.refused,
            Fate::Unknown(Gap::Scope) => &mut self.unknown_scope,
            Fate::Unknown(Gap::Token) => &mut self.unknown_token,
        } += 1;
    }

    fn plus(&mut self, other: &Self) {
        self.passes += other.passes;
        self.limited += other.limited;
        self.refused += other.refused;
        self.unknown_scope += other.unknown_scope;
        self.unknown_token += other.unknown_token;
    }

    /// What the log does not say.
    pub(super) fn unknown(&self) -> u64 {
        self.unknown_scope + self.unknown_token
    }

    /// All of them.
    pub(super) fn all(&self) -> u64 {
        self.passes + self.limited + self.refused + self.unknown()
    }
}

impl Tally {
    /// The two of them together.
    #[must_use]
    pub(super) fn plus(mut self, other: &Self) -> Self {
        self.before.plus(&other.before);
        self.after.plus(&other.after);
        self
    }

    fn differs(&self) -> bool {
        self.before != self.after
    }

    /// How many fewer pass.
    fn lost(&self) -> i128 {
        i128::from(self.before.passes) - i128::from(self.after.passes)
    }
}

impl Tallies {
    /// Counts one request of a workspace, or of nobody who is known.
    pub(super) fn add(&mut self, workspace: Option<&str>, before: Fate, after: Fate) {
        let is_full = self.by_workspace.len() >= MOST_WORKSPACES;
        let tally = match workspace {
            None => &mut self.without,
            Some(name) if is_full && !self.by_workspace.contains_key(name) => &mut self.beyond,
            Some(name) => {
                if !self.by_workspace.contains_key(name) {
                    self.by_workspace.insert(name.into(), Tally::default());
                }
                let Some(tally) = self.by_workspace.get_mut(name) else { return };
                tally
            }
        };
        tally.before.add(before);
        tally.after.add(after);
    }

    /// How many workspaces there are, as far as they were kept apart.
    pub(super) fn workspaces(&self) -> usize {
        self.by_workspace.len()
    }

    /// Everybody's.
    pub(super) fn total(&self) -> Tally {
        self.by_workspace.values().fold(self.without.plus(&self.beyond), |total, tally| total.plus(tally))
    }

    /// Those for whom something differs, whoever loses most first; the first `most` by name, and all others together.
    pub(super) fn rows(&self, most: usize) -> Vec<(String, Tally)> {
        let named = self.by_workspace.iter().map(|(name, tally)| (name.to_string(), *tally));
        let mut rows: Vec<(String, Tally)> =
            named.chain([("(no token)".to_owned(), self.without)]).filter(|(_, tally)| tally.differs()).collect();
        rows.sort_by(|(one, a), (other, b)| b.lost().cmp(&a.lost()).then_with(|| one.cmp(other)));
        let rest = rows.split_off(most.min(rows.len()));
        let others = rest.iter().fold(self.beyond, |sum, (_, tally)| sum.plus(tally));
        if others.differs() {
            rows.push((format!("{} more", rest.len()), others));
        }
        rows
    }
}
