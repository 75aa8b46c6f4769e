//! What changes for clients from one configuration to another, by what it does to them.
//!
//! Meaning is compared, not text: defaults are filled in, units resolved, and routes compared by the requests that they take
//! ([`meetings`]), so that an order, a name or a notation that changes nothing says nothing.

mod answers;
mod auth;
mod bounds;
mod comparison;
mod limits;
mod process;
mod rates;
mod routes;
mod upstreams;
mod words;

use crate::config::Located;
use crate::config::diff::comparison::Comparison;
use crate::policy::overlap::{meetings, moves};

/// One change, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it does to clients.
    pub effect: Effect,
    /// Whether something was better protected before.
    pub protection: Protection,
    /// The sentence, without its full stop.
    pub text: String,
    /// Where it was written.
    pub spot: Spot,
}

/// What a change does, the most dangerous first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// More callers come in, or are believed.
    Opened,
    /// Clients are told more than is meant for them.
    Disclosed,
    /// More requests, or greater ones, get through.
    Loosened,
    /// What was answered is refused.
    Refused,
    /// Fewer requests, or smaller ones, get through.
    Tightened,
    /// What was refused is answered.
    Answered,
    /// What was answered is answered in another way.
    Altered,
    /// Nothing, before a restart or a hand-over.
    Postponed,
}

/// Whether a change takes protection away: the list of `--deny-weaker`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protection {
    /// It does.
    Weaker,
    /// It does not.
    Kept,
}

/// A line of one of the two files: of the old one for what is only there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    /// Which file.
    pub version: Version,
    /// Counted from one.
    pub line: usize,
}

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// The one that is changed to.
    New,
    /// The one that is changed from.
    Old,
}

impl Effect {
    /// The heading of its changes.
    pub fn title(self) -> &'static str {
        match self {
            Self::Opened => "open to more callers",
            Self::Disclosed => "clients are told more",
            Self::Loosened => "more gets through",
            Self::Refused => "refused from now on",
            Self::Tightened => "less gets through",
            Self::Answered => "answered from now on",
            Self::Altered => "answered in another way",
            Self::Postponed => "only after a restart or a hand-over",
        }
    }

    /// Its name for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Disclosed => "disclosed",
            Self::Loosened => "loosened",
            Self::Refused => "refused",
            Self::Tightened => "tightened",
            Self::Answered => "answered",
            Self::Altered => "altered",
            Self::Postponed => "postponed",
        }
    }
}

/// Everything that clients will notice, the most dangerous first; of one effect what takes protection away first.
pub fn changes(old: &Located, new: &Located) -> Vec<Change> {
    let mut comparison = Comparison::new(old, new);
    let (old_routes, new_routes) = (&old.config.policy.routes, &new.config.policy.routes);
    let mut meetings = meetings(old_routes, new_routes);
    for meeting in &meetings {
        comparison.route(meeting);
    }
    let moves = moves(old_routes, new_routes, &meetings);
    for moved in &moves {
        comparison.moved(moved);
    }
    meetings.extend(moves);
    comparison.limits(&meetings);
    comparison.upstreams(&meetings);
    comparison.auth();
    comparison.bounds();
    comparison.answers();
    comparison.process();
    comparison.into_changes()
}
