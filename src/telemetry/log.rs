//! Where log lines go: through a bounded queue to standard output, so that a slow reader never holds a request up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::Level;
use tracing::field::{Field, Visit};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

/// Lines that may wait for their reader.
const QUEUE: usize = 16_384;

/// The log of the process.
pub struct Log {
    writer: NonBlocking,
    dropped: ErrorCounter,
    level: AtomicU8,
    json: bool,
}

/// Keeps the log's thread; what is queued is written when it is dropped.
pub struct LogGuard(#[expect(dead_code, reason = "held for its Drop")] WorkerGuard);

impl Log {
    /// Opens the log on standard output and makes it that of `tracing` and `log` in this process.
    ///
    /// The format is fixed with that; the level can change.
    pub fn open(json: bool, level: Level) -> (Arc<Self>, LogGuard) {
        let (writer, guard) =
            NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUE).finish(std::io::stdout());
        let log = Arc::new(Self { dropped: writer.error_counter(), writer, level: AtomicU8::new(rank(level)), json });
        let by_level = Arc::clone(&log);
        let filter = tracing_subscriber::filter::dynamic_filter_fn(move |metadata, _| by_level.takes(metadata));
        let base =
            tracing_subscriber::fmt::layer().with_timer(Rfc3339Millis).with_writer(log.writer.clone()).with_ansi(false);
        // Somebody else's subscriber (a test's) stays.
        let _ = match json {
            true => tracing::subscriber::set_global_default(
                tracing_subscriber::registry().with(base.event_format(JsonLine).with_filter(filter)),
            ),
            false => tracing::subscriber::set_global_default(
                tracing_subscriber::registry().with(base.with_target(false).with_filter(filter)),
            ),
        };
        let _ = tracing_log::LogTracer::builder().with_max_level(tracing_log::log::LevelFilter::Warn).init();
        (log, LogGuard(guard))
    }

    /// Changes the least level that is written.
    pub fn set_level(&self, level: Level) {
        self.level.store(rank(level), Ordering::Relaxed);
    }

    /// Whether lines of `level` are written.
    pub fn writes(&self, level: Level) -> bool {
        rank(level) <= self.level.load(Ordering::Relaxed)
    }

    /// Whether lines are JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Where a finished line goes.
    pub fn writer(&self) -> NonBlocking {
        self.writer.clone()
    }

    /// How many lines were dropped because their reader was too slow.
    pub fn dropped_lines(&self) -> usize {
        self.dropped.dropped_lines()
    }

    /// Libraries are heard from `warn` on: what they say below that may show header fields.
    fn takes(&self, metadata: &tracing::Metadata<'_>) -> bool {
        let is_ours = metadata.target().starts_with(env!("CARGO_CRATE_NAME"));
        self.writes(*metadata.level()) && (is_ours || *metadata.level() <= Level::WARN)
    }
}

fn rank(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// `{"timestamp":…,"level":…,"message":…}` and the event's other fields, like an access line.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: tracing::Subscriber + for<'l> LookupSpan<'l>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> std::fmt::Result {
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let mut line = Fields(Map::new());
        for (name, value) in [("timestamp", timestamp()), ("level", level), ("message", String::new())] {
            line.0.insert(name.to_owned(), value.into());
        }
        event.record(&mut line);
        writeln!(writer, "{}", Value::Object(line.0))
    }
}

struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

struct Rfc3339Millis;

impl FormatTime for Rfc3339Millis {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        writer.write_str(&timestamp())
    }
}

/// Now, in RFC 3339 with milliseconds.
pub fn timestamp() -> String {
    const FORMAT: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::now_utc().format(FORMAT).unwrap_or_default()
}
