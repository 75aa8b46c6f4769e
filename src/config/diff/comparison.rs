//! Collects changes: finds their lines, and says once what is true of several.

use crate::config::Located;
use crate::config::diff::words::list;
use crate::config::diff::{Change, Effect, Protection, Spot, Version};

/// A path of keys in gateway.yaml.
pub(super) type Keys<'k> = &'k [&'k str];

/// Two configurations, and what has been found between them.
pub(super) struct Comparison<'a> {
    /// The one that is changed from.
    pub(super) old: &'a Located,
    /// The one that is changed to.
    pub(super) new: &'a Located,
    found: Vec<Found>,
}

/// A change that may yet be found of more subjects.
struct Found {
    said: Said,
    spot: Spot,
    subjects: Vec<String>,
}

/// What there is to say, without whom and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    effect: Effect,
    protection: Protection,
    text: String,
}

/// A change that takes protection away.
pub(super) fn weaker(effect: Effect, text: impl Into<String>) -> Said {
    Said { effect, protection: Protection::Weaker, text: text.into() }
}

/// A change that does not.
pub(super) fn told(effect: Effect, text: impl Into<String>) -> Said {
    Said { effect, protection: Protection::Kept, text: text.into() }
}

impl<'a> Comparison<'a> {
    pub(super) fn new(old: &'a Located, new: &'a Located) -> Self {
        Self { old, new, found: Vec::new() }
    }

    /// The line of the first of these keys that is written in the new file, else in the old one; else of the section in the new one.
    pub(super) fn spot(&self, candidates: &[Keys<'_>]) -> Spot {
        let written = |located: &Located, version| {
            let line = candidates.iter().find_map(|keys| located.places.line(keys))?;
            Some(Spot { version, line })
        };
        let section = || {
            let line = candidates.first().map_or(1, |keys| self.new.places.nearest(keys));
            Spot { version: Version::New, line }
        };
        written(self.new, Version::New).or_else(|| written(self.old, Version::Old)).unwrap_or_else(section)
    }

    /// A line of the old file.
    pub(super) fn old_spot(&self, keys: Keys<'_>) -> Spot {
        Spot { version: Version::Old, line: self.old.places.nearest(keys) }
    }

    /// Says something that is about no route or limit in particular.
    pub(super) fn say(&mut self, said: Said, spot: Spot) {
        self.found.push(Found { said, spot, subjects: Vec::new() });
    }

    /// Says something of `subject`; what is true of several, for the same line, becomes one sentence.
    pub(super) fn say_of(&mut self, subject: String, said: Said, spot: Spot) {
        match self.found.iter_mut().find(|found| found.said == said && found.spot == spot) {
            Some(found) if found.subjects.contains(&subject) => {}
            Some(found) => found.subjects.push(subject),
            None => self.found.push(Found { said, spot, subjects: vec![subject] }),
        }
    }

    /// What was found, in the order in which it is to be read.
    pub(super) fn into_changes(self) -> Vec<Change> {
        let mut changes: Vec<Change> = self.found.into_iter().map(Found::into_change).collect();
        changes.sort_by_key(|change| (change.effect, change.protection, change.spot));
        changes
    }
}

impl Found {
    fn into_change(self) -> Change {
        let Said { effect, protection, text } = self.said;
        let text = if self.subjects.is_empty() { text } else { format!("{}: {text}", together(&self.subjects)) };
        Change { effect, protection, text, spot: self.spot }
    }
}

/// Several routes are `routes a, b`.
fn together(subjects: &[String]) -> String {
    let names: Option<Vec<String>> =
        subjects.iter().map(|subject| subject.strip_prefix("route ").map(str::to_owned)).collect();
    match names {
        Some(names) if names.len() > 1 => format!("routes {}", list(&names)),
        _ => list(subjects),
    }
}
