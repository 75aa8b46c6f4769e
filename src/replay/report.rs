//! What a replay came to, for people and for programs.

use std::fmt::{self, Write as _};

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::policy::time::UnixMillis;
use crate::replay::Replay;
use crate::replay::tally::Counts;

/// Workspaces that are shown by name.
const MOST_ROWS: usize = 20;

impl Replay<'_> {
    /// The same for programs.
    pub fn json(&self) -> Value {
        let counts = |counts: &Counts| {
            json!({
                "passed": counts.passes,
                "limited": counts.limited,
                "refused": counts.refused,
                "unknown": counts.unknown(),
            })
        };
        let total = self.tallies.total();
        let row = |(name, tally): &(String, super::tally::Tally)| json!({"workspace": name, "before": counts(&tally.before), "now": counts(&tally.after)});
        json!({
            "requests": self.requests,
            "other_lines": self.other_lines,
            "before": counts(&total.before),
            "now": counts(&total.after),
            "workspaces": self.tallies.rows(MOST_ROWS).iter().map(row).collect::<Vec<_>>(),
            "notes": self.notes(),
        })
    }

    /// What keeps the numbers from being the whole truth.
    fn notes(&self) -> Vec<String> {
        let unknown = self.tallies.total().after;
        let all = [
            (unknown.unknown_scope, "another scope is needed, and a log does not say which scopes a token has"),
            (unknown.unknown_token, "a token is needed, and a log does not say who would have one"),
            (self.gone, "no route takes it any more"),
            (self.other_routes, "the old file has another route than the log, so it was not in force then"),
            (self.late_lines, "a line is older than one before it (`sort` brings logs of several gateways in order)"),
            (self.other_lines, "a line is no access line in JSON"),
        ];
        let mut notes: Vec<String> =
            all.iter().filter(|(count, _)| *count > 0).map(|(count, text)| format!("{text}: {count}")).collect();
        if self.sample < 1.0 {
            let share = self.sample;
            notes.push(format!("only {share} of all successes are in the log (observability.log.sample): limits are met sooner than it says here"));
        }
        notes
    }
}

impl fmt::Display for Replay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "past requests: {}, of {} workspaces", self.requests, self.tallies.workspaces())?;
        if let Some((first, last)) = self.times {
            write!(f, ", from {} to {}", shown(first), shown(last))?;
        }
        f.write_str("\n")?;
        let total = self.tallies.total();
        let rows = self.tallies.rows(MOST_ROWS);
        let name = |name: &str| name.chars().take(40).collect::<String>();
        let width = rows.iter().map(|(row, _)| name(row).chars().count()).max().unwrap_or_default().max(9);
        let columns = "requests   passed    now  limited    now  refused    now  unknown";
        writeln!(f, "  {:width$}  {columns}", "workspace")?;
        for (row, tally) in rows.iter().map(|(row, tally)| (name(row), tally)).chain([("all".to_owned(), &total)]) {
            let (before, after) = (&tally.before, &tally.after);
            let mut line = format!("  {row:width$}  {:>8}", before.all());
            for (was, now) in
                [(before.passes, after.passes), (before.limited, after.limited), (before.refused, after.refused)]
            {
                write!(line, "  {was:>7}  {now:>5}")?;
            }
            writeln!(f, "{line}  {:>7}", after.unknown())?;
        }
        self.notes().iter().try_for_each(|note| writeln!(f, "  {note}"))
    }
}

fn shown(at: UnixMillis) -> String {
    let at = OffsetDateTime::from_unix_timestamp(i64::try_from(at.seconds().0).unwrap_or_default());
    at.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
}
