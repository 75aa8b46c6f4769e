//! Values as an operator writes them.

use std::time::Duration;

use crate::policy::limit::Limit;
use crate::policy::meter::{Algorithm, Rate};
use crate::policy::overlap::Meeting;
use crate::policy::route::{Methods, Route};

/// More names than this are counted, not listed.
const MOST_NAMES: usize = 6;

/// `a, b and 3 more`.
pub(super) fn list(names: &[String]) -> String {
    match names.split_at_checked(MOST_NAMES) {
        Some((shown, rest)) if !rest.is_empty() => format!("{} and {} more", shown.join(", "), rest.len()),
        _ => names.join(", "),
    }
}

/// `1m30s`
pub(super) fn span(span: Duration) -> String {
    humantime::format_duration(span).to_string().replace(' ', "")
}

/// `64KiB`, exactly.
pub(super) fn bytes(bytes: u64) -> String {
    match bytes {
        0 => "0".to_owned(),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ => format!("{bytes} bytes"),
    }
}

/// `60 in 1m`, and how that is counted where it is not in fixed windows.
pub(super) fn rate(rate: &Rate) -> String {
    let counted = match rate.algorithm {
        Algorithm::FixedWindow => String::new(),
        Algorithm::SlidingLog => " (sliding_log)".to_owned(),
        Algorithm::Gcra => format!(" (gcra, {} at once)", rate.capacity),
    };
    format!("{} in {}{counted}", rate.requests, span(rate.window))
}

/// A limit by its name, with what it lets pass.
pub(super) fn limit(limit: &Limit) -> String {
    format!("`{}` ({} by {})", limit.name, rate(&limit.rate), limit.by)
}

/// The requests of a meeting: by the name of their route if it is still the same one, else by what they look like.
pub(super) fn subject(meeting: &Meeting<'_>) -> String {
    let requests = || match meeting.methods {
        Methods::ALL => meeting.pattern.as_str().to_owned(),
        methods => format!("{methods} {}", meeting.pattern.as_str()),
    };
    match (meeting.old, meeting.new) {
        (Some(old), Some(new)) if is_same(old, new) => format!("route `{}`", new.name),
        (Some(old), Some(new)) if old.name == new.name => format!("{} (route `{}`)", requests(), new.name),
        (Some(old), Some(new)) => format!("{} (route `{}`, was `{}`)", requests(), new.name, old.name),
        (Some(one), None) | (None, Some(one)) => format!("{} (route `{}`)", requests(), one.name),
        (None, None) => requests(),
    }
}

fn is_same(old: &Route, new: &Route) -> bool {
    old.name == new.name && old.pattern.same_paths(&new.pattern)
}
