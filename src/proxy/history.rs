//! The reloads of this process, bounded: what came into force when, and what was refused and why.

use std::collections::VecDeque;
use std::time::SystemTime;

use parking_lot::Mutex;

/// Reloads that are remembered.
const REMEMBERED: usize = 20;
/// Octets of a reason.
const LONGEST: usize = 4 << 10;

/// What was reloaded.
#[derive(Debug)]
pub struct History(Mutex<Known>);

/// What is known at one moment.
#[derive(Clone, Debug)]
pub struct Known {
    /// Since when what is in force is in force.
    pub in_force_since: SystemTime,
    /// The latest first. The start is none.
    pub reloads: VecDeque<Reload>,
    /// How many older ones are forgotten.
    pub forgotten: usize,
}

/// A file that was read again.
#[derive(Clone, Debug)]
pub struct Reload {
    /// When.
    pub at: SystemTime,
    /// What came of it.
    pub result: ReloadResult,
}

/// What came of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadResult {
    /// It is in force, but for these settings, which stay as they are until a restart.
    Applied(Vec<&'static str>),
    /// Nothing changed, because of this.
    Refused(String),
}

impl Default for History {
    fn default() -> Self {
        Self(Mutex::new(Known { in_force_since: SystemTime::now(), reloads: VecDeque::new(), forgotten: 0 }))
    }
}

impl History {
    /// What is known now.
    pub fn known(&self) -> Known {
        self.0.lock().clone()
    }

    /// Notes a reload that is in force, but for the settings that need a restart.
    pub(super) fn applied(&self, needs_restart: Vec<&'static str>) {
        let at = SystemTime::now();
        let mut known = self.0.lock();
        known.in_force_since = at;
        known.remember(Reload { at, result: ReloadResult::Applied(needs_restart) });
    }

    /// Notes a reload that changed nothing.
    pub(super) fn refused(&self, why: &str) {
        let result = ReloadResult::Refused(shortened(why.trim_end()));
        self.0.lock().remember(Reload { at: SystemTime::now(), result });
    }
}

impl Known {
    fn remember(&mut self, reload: Reload) {
        self.reloads.push_front(reload);
        if self.reloads.len() > REMEMBERED {
            self.reloads.truncate(REMEMBERED);
            self.forgotten += 1;
        }
    }
}

fn shortened(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(LONGEST);
    format!("{}\n…", text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_are_remembered_and_a_refused_one_leaves_in_force_what_was() {
        let history = History::default();
        history.applied(vec!["threads"]);
        let since = history.known().in_force_since;
        (0..30).for_each(|n| history.refused(&format!("why {n}\n")));
        let known = history.known();
        assert_eq!((known.reloads.len(), known.forgotten, known.in_force_since), (REMEMBERED, 11, since));
        assert_eq!(known.reloads[0].result, ReloadResult::Refused("why 29".into()));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let history = History::default();
        history.refused(&"ä".repeat(LONGEST));
        let ReloadResult::Refused(why) = history.known().reloads[0].result.clone() else { panic!("refused") };
        assert!(why.len() < LONGEST + 8 && why.ends_with("ä\n…"));
    }
}
