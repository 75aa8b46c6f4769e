//! Past requests under a new configuration: who would be limited or refused, as far as an access log can tell.
//!
//! A log has no scopes, no queries and no bodies, and clients that are limited otherwise behave otherwise. What cannot be known is
//! counted as that. Memory is bounded: by the counters whose window is open, and by a number of workspaces.

mod judge;
mod line;
mod report;
mod tally;

use std::io::{self, BufRead, Read as _};

use crate::config::settings::Config;
use crate::policy::time::UnixMillis;
use crate::replay::judge::Judge;
use crate::replay::line::Line;
use crate::replay::tally::Tallies;

/// A longer line is none of ours: a head has at most 1 MiB, and its path is the only long part of a line.
const LONGEST_LINE: usize = 2 << 20;
/// Lines are written when requests end, by several threads: so far they may be out of order.
const DISORDER_MS: u64 = 1_000;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It passes the route, the token, the scope and the limits.
    Passes,
    /// It is refused by a limit.
    Limited,
    /// It is refused before that.
    Refused,
    /// The log does not say.
    Unknown(Gap),
}

/// What a log does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    /// Which scopes the token has.
    Scope,
    /// Whether the client has a token.
    Token,
}

/// A replay under way.
pub struct Replay<'a> {
    judge: Judge<'a>,
    tallies: Tallies,
    sample: f64,
    times: Option<(UnixMillis, UnixMillis)>,
    requests: u64,
    other_lines: u64,
    late_lines: u64,
    other_routes: u64,
    gone: u64,
}

impl<'a> Replay<'a> {
    /// Requests that were answered under `old` are judged under `new`.
    pub fn new(old: &'a Config, new: &'a Config) -> Self {
        Self {
            judge: Judge::new(&old.policy, &new.policy),
            tallies: Tallies::default(),
            sample: old.log.sample,
            times: None,
            requests: 0,
            other_lines: 0,
            late_lines: 0,
            other_routes: 0,
            gone: 0,
        }
    }

    /// Judges every line; what is no access line is counted as such.
    pub fn read(&mut self, mut log: impl BufRead) -> io::Result<()> {
        let mut text = Vec::new();
        loop {
            text.clear();
            let mut part = log.by_ref().take(LONGEST_LINE as u64);
            if part.read_until(b'\n', &mut text)? == 0 {
                return Ok(());
            }
            let is_whole = text.last() == Some(&b'\n') || text.len() < LONGEST_LINE;
            match Line::parse(&text).filter(|_| is_whole) {
                Some(line) => self.request(&line),
                None => self.other_lines += 1,
            }
            if !is_whole {
                skip_line(&mut log)?;
            }
        }
    }

    fn request(&mut self, line: &Line<'_>) {
        let (first, latest) = self.times.unwrap_or((line.at, line.at));
        if line.at.plus(std::time::Duration::from_millis(DISORDER_MS)) < latest {
            self.late_lines += 1;
        }
        let now = line.at.max(latest);
        self.times = Some((first, now));
        self.requests += 1;
        let judged = self.judge.judge(line, now);
        self.other_routes += u64::from(judged.is_of_another_file);
        self.gone += u64::from(judged.before == Fate::Passes && judged.after == Fate::Refused);
        self.tallies.add(line.workspace.as_deref(), judged.before, judged.after);
    }
}

/// Reads up to the end of a line that is too long.
fn skip_line(log: &mut impl BufRead) -> io::Result<()> {
    loop {
        let available = log.fill_buf()?;
        let (used, is_end) = match available.iter().position(|octet| *octet == b'\n') {
            Some(at) => (at + 1, true),
            None => (available.len(), available.is_empty()),
        };
        log.consume(used);
        if is_end {
            return Ok(());
        }
    }
}
