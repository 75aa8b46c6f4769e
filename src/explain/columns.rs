//! An access line for people, read back: columns, then `key=value`, values with blanks in quotes.

use crate::explain::line::AccessLine;
use crate::policy::refusal::ErrorCode;
use crate::telemetry::CLIENT_GONE;

/// Reads a line; `None` for one that is not written like this.
pub fn parse(text: &str) -> Option<AccessLine> {
    let text = without_colours(text);
    let mut words = Words(&text);
    let timestamp = words.next().filter(|word| word.len() == 24 && word.ends_with('Z'))?;
    words.next().filter(|level| level.bytes().all(|octet| octet.is_ascii_uppercase()))?;
    let status = words.next()?.parse().ok()?;
    let mut line = AccessLine { timestamp, status, duration_ms: millis(&words.next()?)?, ..AccessLine::default() };
    (line.method, line.path) = (words.next().map(said)?, words.next().map(said)?);
    for word in words {
        let (key, value) = word.split_once('=')?;
        note(&mut line, key, value.to_owned());
    }
    let is_error = status >= 400 && status != CLIENT_GONE;
    line.code = is_error
        .then(|| http::StatusCode::from_u16(status).ok())
        .flatten()
        .map(|s| ErrorCode::of(s).as_str().to_owned());
    Some(line)
}

/// Where there was no request a dash stands for its method and its path.
fn said(word: String) -> String {
    if word == "-" { String::new() } else { word }
}

fn note(line: &mut AccessLine, key: &str, value: String) {
    match key {
        "reason" => line.reason = Some(value),
        "route" => line.route = Some(value),
        "upstream" => {
            line.attempts = line.attempts.or(Some(1));
            let (upstream, server) = value.split_once('@').unwrap_or((&value, ""));
            (line.upstream, line.server) = (Some(upstream.to_owned()), Some(server.to_owned()));
        }
        "upstream_took" => line.upstream_ms = millis(&value),
        "attempts" => line.attempts = value.parse().ok(),
        "workspace" => line.workspace = Some(value),
        "user" => line.user = Some(value),
        "token" => line.token_id = Some(value),
        "limit" => {
            let (limit, remaining) = value.rsplit_once(':').unwrap_or((&value, ""));
            (line.limit, line.remaining) = (Some(limit.to_owned()), remaining.parse().ok());
        }
        "shadow_limited" => line.shadow_limited = Some(value),
        "client" => line.client_ip = value,
        "id" => line.request_id = value,
        "trace" => line.trace_id = Some(value),
        // A later version may say more.
        _ => {}
    }
}

/// `4.21ms`, `870µs` or `1.20s` in milliseconds.
fn millis(text: &str) -> Option<f64> {
    let units = [("µs", 1e-3), ("ms", 1.0), ("s", 1e3)];
    units.iter().find_map(|(unit, millis)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * millis))
}

/// Words between blanks; what stands in quotes is a part of its word.
struct Words<'t>(&'t str);

impl Iterator for Words<'_> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let text = self.0.trim_start_matches(' ');
        let (mut word, mut is_quoted, mut is_escaped) = (String::new(), false, false);
        for (at, character) in text.char_indices() {
            match character {
                _ if is_escaped => {
                    word.push(character);
                    is_escaped = false;
                }
                '\\' if is_quoted => is_escaped = true,
                '"' => is_quoted = !is_quoted,
                ' ' if !is_quoted => {
                    self.0 = text.get(at..).unwrap_or_default();
                    return Some(word);
                }
                other => word.push(other),
            }
        }
        self.0 = "";
        (!text.is_empty()).then_some(word)
    }
}

/// Without the colours that a terminal was shown.
fn without_colours(text: &str) -> String {
    let mut parts = text.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or("", |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_people_says_the_same_as_one_for_programs() {
        let line = parse("2026-11-27T00:36:42.069Z \u{1b}[33mWARN \u{1b}[0m \u{1b}[31m502\u{1b}[0m  430ms GET    /api/v1/contacts   reason=upstream_closed route=contacts upstream=main@127.0.0.1:1 upstream_took=4.00ms attempts=2 workspace=\"w \\\"1\" user=u1 token=7 limit=contacts:0 client=::1 id=a-1").unwrap();
        assert_eq!((line.status, line.duration_ms, line.upstream_ms, line.attempts), (502, 430.0, Some(4.0), Some(2)));
        assert_eq!(
            (line.method.as_str(), line.path.as_str(), line.request_id.as_str()),
            ("GET", "/api/v1/contacts", "a-1")
        );
        assert_eq!((line.workspace.as_deref(), line.server.as_deref()), (Some("w \"1"), Some("127.0.0.1:1")));
        assert_eq!(
            (line.limit.as_deref(), line.remaining, line.code.as_deref()),
            (Some("contacts"), Some(0), Some("SERVER_ERROR"))
        );
    }

    #[test]
    fn what_is_no_access_line_is_none() {
        for text in
            ["", "INFO listening", "2026-11-27T00:36:42.069Z INFO  listening address=127.0.0.1:1", "a b c d e f"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        let nobody =
            parse("2026-11-27T00:36:42.069Z INFO  400   1.20s -      -      reason=head_not_http client=::1 id=x");
        assert_eq!(
            nobody.map(|line| (line.duration_ms, line.method, line.path)),
            Some((1200.0, String::new(), String::new()))
        );
    }
}
