//! `diff`: what changes for clients from one configuration to another.

use std::fmt::Write as _;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use serde_json::json;

use crate::cli::{Failure, print};
use crate::config::diff::{Change, Protection, Version, changes};
use crate::config::settings::Config;
use crate::config::{Loaded, Located, process_environment};
use crate::replay::Replay;

/// The two files and what is wanted of their comparison.
#[derive(clap::Args)]
pub(super) struct DiffArguments {
    /// The configuration that is changed from.
    old: std::path::PathBuf,
    /// The configuration that is changed to.
    new: std::path::PathBuf,
    /// Exit status 1 when something is less protected than before.
    #[arg(long)]
    deny_weaker: bool,
    /// Judges the requests of an access log (JSON lines of ours; `-` reads standard input) under the new configuration.
    #[arg(long, value_name = "LOG")]
    replay: Option<std::path::PathBuf>,
    /// For people, or one JSON document for programs.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
}

pub(super) fn diff(arguments: &DiffArguments) -> Result<(), Failure> {
    let (old, new) = (read(&arguments.old)?, read(&arguments.new)?);
    let changes = changes(&old, &new);
    let files = Files { old: &arguments.old, new: &arguments.new };
    let replay = arguments.replay.as_deref().map(|log| replay(&old.config, &new.config, log)).transpose()?;
    match arguments.format {
        Format::Text => {
            let replayed = replay.map(|replay| format!("\n{replay}")).unwrap_or_default();
            print(&(files.text(&changes) + &replayed))?;
        }
        Format::Json => {
            let replayed = replay.map(|replay| replay.json());
            print(&format!("{:#}\n", files.json(&changes, replayed)))?;
        }
    }
    let weaker = changes.iter().filter(|change| change.protection == Protection::Weaker).count();
    if arguments.deny_weaker && weaker > 0 {
        let text = format!(
            "{weaker} of {} changes take protection away: see `weaker:`, and leave --deny-weaker out if they are meant",
            changes.len()
        );
        return Err(Failure::Because(text));
    }
    Ok(())
}

/// A configuration that can be used; of one that cannot, `check`'s report is the answer.
fn read(path: &Path) -> Result<Located, Failure> {
    let loaded = Loaded::from_path(path, &process_environment)
        .map_err(|error| format!("cannot read {}: {}; name two configuration files", path.display(), error.kind()))?;
    loaded.into_located().or_else(|report| {
        print(&report)?;
        Err(Failure::Because(format!("{} cannot be used, so there is nothing to compare", path.display())))
    })
}

/// Past requests under the new configuration.
fn replay<'a>(old: &'a Config, new: &'a Config, log: &Path) -> Result<Replay<'a>, Failure> {
    let mut replay = Replay::new(old, new);
    let read = match log.to_str() {
        Some("-") => replay.read(std::io::stdin().lock()),
        _ => File::open(log).and_then(|file| replay.read(BufReader::new(file))),
    };
    read.map_err(|error| {
        format!("cannot read {}: {}; name an access log, or - for standard input", log.display(), error.kind())
    })?;
    Ok(replay)
}

/// The files, for the places of changes.
struct Files<'a> {
    old: &'a Path,
    new: &'a Path,
}

impl Files<'_> {
    fn name(&self, change: &Change) -> String {
        let file = match change.spot.version {
            Version::Old => self.old,
            Version::New => self.new,
        };
        file.display().to_string()
    }

    fn text(&self, changes: &[Change]) -> String {
        if changes.is_empty() {
            return "no change for clients\n".to_owned();
        }
        let mut text = String::new();
        for group in changes.chunk_by(|one, next| one.effect == next.effect) {
            for (at, change) in group.iter().enumerate() {
                if at == 0 {
                    // Writing to a String cannot fail.
                    let _ = writeln!(text, "{}", change.effect.title());
                }
                let mark = match change.protection {
                    Protection::Weaker => "weaker: ",
                    Protection::Kept => "",
                };
                let _ = writeln!(text, "  {}:{}: {mark}{}", self.name(change), change.spot.line, change.text);
            }
        }
        text
    }

    fn json(&self, changes: &[Change], replay: Option<serde_json::Value>) -> serde_json::Value {
        let one = |change: &Change| {
            json!({
                "effect": change.effect.as_str(),
                "weaker": change.protection == Protection::Weaker,
                "file": self.name(change),
                "line": change.spot.line,
                "text": change.text,
            })
        };
        let changes: Vec<_> = changes.iter().map(one).collect();
        match replay {
            Some(replay) => json!({"changes": changes, "replay": replay}),
            None => json!({"changes": changes}),
        }
    }
}
