//! Log lines for people: in columns, the reason before everything else that varies, colours where they are wanted.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

use serde_json::{Map, Value};
use tracing::Level;

use crate::telemetry::access::Line;

/// Whether a line is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colours {
    /// It is.
    Shown,
    /// It goes into a file or another program.
    None,
}

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;
const CYAN: u8 = 36;
const DIM: u8 = 2;

/// Where a further line of a message begins, so that it is not taken for a line of its own.
const FURTHER: &str = "\n                               ";

/// A request: when, level, status, how long it took, method and path in columns; then what else is known, as `key=value`.
pub(super) fn request(line: &Line<'_>, level: Level, colours: Colours) -> String {
    let hue = match line.status {
        ..300 => GREEN,
        300..400 => CYAN,
        400..500 => YELLOW,
        500.. => RED,
    };
    let mut text = head(&line.timestamp, level, colours);
    let (method, path) = if line.method.is_empty() { ("-", "-") } else { (line.method, line.path) };
    let (status, took) = (coloured(&line.status, hue, colours), took(line.duration_ms));
    write(&mut text, format_args!(" {status} {took:>7} {method:<6} {:<36}", plain(path)));
    for (key, value) in details(line) {
        pair(&mut text, key, &value);
    }
    text
}

/// Anything else that is told: when, level, message, fields.
pub(super) fn event(timestamp: &str, level: Level, fields: &Map<String, Value>, colours: Colours) -> String {
    let mut text = head(timestamp, level, colours);
    let message = fields.get("message").and_then(Value::as_str).unwrap_or_default();
    let lines: Vec<_> = message.lines().map(plain).collect();
    write(&mut text, format_args!(" {}", lines.join(FURTHER)));
    for (key, value) in fields.iter().filter(|(key, _)| *key != "message") {
        match value {
            Value::String(value) => pair(&mut text, key, value),
            value => pair(&mut text, key, &value.to_string()),
        }
    }
    text
}

fn head(timestamp: &str, level: Level, colours: Colours) -> String {
    let word = format!("{level:<5}");
    let word = match level {
        Level::ERROR => coloured(&word, RED, colours),
        Level::WARN => coloured(&word, YELLOW, colours),
        Level::INFO => word,
        Level::DEBUG | Level::TRACE => coloured(&word, DIM, colours),
    };
    format!("{timestamp} {word}")
}

fn details<'l>(line: &'l Line<'_>) -> impl Iterator<Item = (&'static str, Cow<'l, str>)> {
    let server = line.upstream.map(|upstream| format!("{upstream}@{}", line.server.unwrap_or_default()));
    let limit = line.limit.map(|limit| format!("{limit}:{}", line.remaining.unwrap_or_default()));
    let attempts = line.attempts.filter(|attempts| *attempts > 1);
    [
        ("reason", line.reason.map(Cow::Borrowed)),
        ("route", line.route.map(Cow::Borrowed)),
        ("upstream", server.map(Cow::Owned)),
        ("upstream_took", line.upstream_ms.map(|ms| Cow::Owned(took(ms)))),
        ("attempts", attempts.map(|attempts| Cow::Owned(attempts.to_string()))),
        ("workspace", line.workspace.map(Cow::Borrowed)),
        ("user", line.user.map(Cow::Borrowed)),
        ("token", line.token_id.map(Cow::Borrowed)),
        ("limit", limit.map(Cow::Owned)),
        ("shadow_limited", line.shadow_limited.map(Cow::Borrowed)),
        ("client", Some(Cow::Borrowed(&*line.client_ip))),
        ("id", Some(Cow::Borrowed(line.request_id))),
        ("trace", line.trace_id.as_deref().map(Cow::Borrowed)),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
}

/// ` key=value`, in quotes where it would not read as one word.
fn pair(text: &mut String, key: &str, value: &str) {
    match value.is_empty() || value.contains([' ', '"', '=']) {
        true => write(text, format_args!(" {key}={value:?}")),
        false => write(text, format_args!(" {key}={}", plain(value))),
    }
}

/// A time in three figures and a unit.
fn took(millis: f64) -> String {
    match millis {
        ..0.9995 => format!("{:.0}µs", millis * 1e3),
        ..9.995 => format!("{millis:.2}ms"),
        ..99.95 => format!("{millis:.1}ms"),
        ..999.5 => format!("{millis:.0}ms"),
        _ => format!("{:.2}s", millis / 1e3),
    }
}

fn coloured(what: &impl Display, hue: u8, colours: Colours) -> String {
    match colours {
        Colours::Shown => format!("\u{1b}[{hue}m{what}\u{1b}[0m"),
        Colours::None => what.to_string(),
    }
}

/// Without characters that a terminal would obey.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(shown).collect())
}

/// Writing to a String cannot fail.
fn write(text: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_three_figures_and_fits_its_column() {
        let shown = [0.004, 0.87, 0.9996, 4.214, 9.996, 99.96, 430.2, 999.6, 12_345.0].map(took);
        assert_eq!(shown, ["4µs", "870µs", "1.00ms", "4.21ms", "10.0ms", "100ms", "430ms", "1.00s", "12.35s"]);
        assert!(shown.iter().all(|time| time.chars().count() <= 7));
    }

    #[test]
    fn nothing_in_a_line_moves_the_cursor_or_looks_like_another_line() {
        let fields = [("message", "one\ntwo\u{1b}[2J"), ("who", "a\nb"), ("what", ""), ("how", "a b\n")];
        let fields = fields.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        assert_eq!(
            event("2026-01-01T00:00:00.000Z", Level::WARN, &fields, Colours::None),
            "2026-01-01T00:00:00.000Z WARN  one\n                               two\\u{1b}[2J who=a\\nb what=\"\" how=\"a b\\n\""
        );
    }

    #[test]
    fn levels_are_coloured_where_that_is_wanted() {
        let fields = Map::from_iter([("message".to_owned(), "x".into())]);
        assert_eq!(event("t", Level::ERROR, &fields, Colours::Shown), "t \u{1b}[31mERROR\u{1b}[0m x");
        assert_eq!(event("t", Level::ERROR, &fields, Colours::None), "t ERROR x");
    }
}
