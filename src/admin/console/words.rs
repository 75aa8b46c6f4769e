//! Numbers and times as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use maud::{Markup, html};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::admin::console::figures::Quantile;

const MOMENT: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
const MACHINE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");

/// `1,234,567`
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One for the verb, as in `1 server`, `2 servers`.
pub(super) fn of(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `420 µs`, `12.3 ms`, `1.5 s`
pub(super) fn seconds(seconds: f64) -> String {
    let (value, unit) = match seconds {
        seconds if seconds < 0.000_999_5 => (seconds * 1e6, "µs"),
        seconds if seconds < 0.999_5 => (seconds * 1e3, "ms"),
        seconds => (seconds, "s"),
    };
    if value < 9.95 && unit != "µs" { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

/// A quantile; a dash where there is none.
pub(super) fn quantile(quantile: Option<Quantile>) -> String {
    match quantile {
        None => "–".to_owned(),
        Some(Quantile::About(value)) => seconds(value),
        Some(Quantile::Above(value)) => format!("> {}", seconds(value)),
    }
}

/// The two greatest units: `3 d 4 h`, `12 min 5 s`
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let parts = [(seconds / 86_400, "d"), (seconds / 3_600 % 24, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let from = parts.iter().position(|(value, _)| *value > 0).unwrap_or(parts.len() - 1);
    let shown = parts.iter().skip(from).take(2).filter(|(value, _)| *value > 0 || from == parts.len() - 1);
    shown.map(|(value, unit)| format!("{value} {unit}")).collect::<Vec<_>>().join(" ")
}

/// The greatest unit alone: `3 d`
pub(super) fn about(span_: Duration) -> String {
    let full = span(span_);
    full.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" ")
}

/// `2026-11-27 01:10:11 UTC`
pub(super) fn moment(at: SystemTime) -> String {
    format!("{} UTC", OffsetDateTime::from(at).format(MOMENT).unwrap_or_default())
}

/// How long ago something was, with the moment for who wants to know.
pub(super) fn ago(at: SystemTime, now: SystemTime) -> Markup {
    let machine = OffsetDateTime::from(at).format(MACHINE).unwrap_or_default();
    let passed = now.duration_since(at).unwrap_or_default();
    html! {
        time datetime=(machine) title=(moment(at)) {
            @if passed.as_secs() == 0 { "just now" } @else { (about(passed)) " ago" }
        }
    }
}

/// A day, by its Unix seconds.
pub(super) fn day(unix_seconds: i64) -> String {
    let day = OffsetDateTime::from_unix_timestamp(unix_seconds).ok().and_then(|at| at.format(DAY).ok());
    day.unwrap_or_else(|| "far away".to_owned())
}

/// Unix seconds.
pub(super) fn unix(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or_default()
}

/// `0.3 %`; what is more than nothing never reads as nothing.
pub(super) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0 %".to_owned();
    }
    #[expect(clippy::cast_precision_loss, reason = "a percentage is no more exact than that")]
    let percent = part as f64 * 100.0 / whole as f64;
    match percent {
        0.0 => "0 %".to_owned(),
        percent if percent < 0.1 => "< 0.1 %".to_owned(),
        percent if percent < 9.95 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.000_42, 0.001, 0.0123, 0.5, 0.9999, 1.5, 60.0].map(seconds),
            ["420 µs", "1.0 ms", "12 ms", "500 ms", "1.0 s", "1.5 s", "60 s"]
        );
        let spans = [0, 5, 725, 3_600, 90_000, 273_600].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["0 s", "5 s", "12 min 5 s", "1 h", "1 d 1 h", "3 d 4 h"]);
        assert_eq!(
            [(0, 0), (0, 9), (1, 9_999), (1, 40), (1, 3)].map(|(part, whole)| share(part, whole)),
            ["0 %", "0 %", "< 0.1 %", "2.5 %", "33 %"]
        );
        assert_eq!((of(1, "server", "servers"), of(2, "server", "servers")), ("1 server".into(), "2 servers".into()));
    }

    #[test]
    fn moments_read_well() {
        let at = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        assert_eq!((moment(at).as_str(), day(unix(at)).as_str()), ("2026-09-21 14:13:20 UTC", "2026-09-21"));
        assert_eq!(
            ago(at, at + Duration::from_secs(7_300)).into_string(),
            r#"<time datetime="2026-09-21T14:13:20Z" title="2026-09-21 14:13:20 UTC">2 h ago</time>"#
        );
    }
}
