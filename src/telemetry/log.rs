//! Where log lines go: through a bounded queue to standard output, so that a slow reader never holds a request up.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::Level;
use tracing::field::{Field, Visit};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;

use crate::config::settings::{LogFormat, LogSettings};
use crate::telemetry::text::{self, Colours};

/// Lines that may wait for their reader.
const QUEUE: usize = 16_384;

/// The log of the process.
pub struct Log {
    writer: NonBlocking,
    dropped: ErrorCounter,
    told: AtomicUsize,
    settings: ArcSwap<LogSettings>,
    colours: Colours,
}

/// Keeps the log's thread; what is queued is written when it is dropped.
pub struct LogGuard(#[expect(dead_code, reason = "held for its Drop")] WorkerGuard);

impl Log {
    /// Opens the log on standard output and makes it that of `tracing` and `log` in this process.
    ///
    /// Colours are for a terminal, unless NO_COLOR is set.
    pub fn open(settings: &LogSettings) -> (Arc<Self>, LogGuard) {
        let (writer, guard) =
            NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUE).finish(std::io::stdout());
        let is_for_eyes =
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        let log = Arc::new(Self {
            dropped: writer.error_counter(),
            told: AtomicUsize::new(0),
            writer,
            settings: ArcSwap::from_pointee(*settings),
            colours: if is_for_eyes { Colours::Shown } else { Colours::None },
        });
        let by_level = Arc::clone(&log);
        let filter = tracing_subscriber::filter::dynamic_filter_fn(move |metadata, _| by_level.takes(metadata));
        let layer = tracing_subscriber::fmt::layer().with_writer(log.writer.clone()).with_ansi(false);
        let layer = layer.event_format(Lines(Arc::clone(&log))).with_filter(filter);
        // Somebody else's subscriber (a test's) stays.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
        let _ = tracing_log::LogTracer::builder().with_max_level(tracing_log::log::LevelFilter::Warn).init();
        (log, LogGuard(guard))
    }

    /// Writes by these settings from now on.
    pub fn apply(&self, settings: &LogSettings) {
        self.settings.store(Arc::new(*settings));
    }

    /// What lines are written by.
    pub fn settings(&self) -> LogSettings {
        **self.settings.load()
    }

    /// Whether lines for people are coloured.
    pub(super) fn colours(&self) -> Colours {
        self.colours
    }

    /// Where a finished line goes.
    pub fn writer(&self) -> NonBlocking {
        self.writer.clone()
    }

    /// How many lines were dropped, because their reader was too slow, since this was last asked.
    pub fn newly_dropped(&self) -> usize {
        let all = self.dropped.dropped_lines();
        // Of two who ask at a time, each is told of other lines.
        all.saturating_sub(self.told.fetch_max(all, Ordering::Relaxed))
    }

    /// Libraries are heard from `warn` on: what they say below that may show header fields.
    fn takes(&self, metadata: &tracing::Metadata<'_>) -> bool {
        let is_ours = metadata.target().starts_with(env!("CARGO_CRATE_NAME"));
        *metadata.level() <= self.settings().level && (is_ours || *metadata.level() <= Level::WARN)
    }
}

/// What is said beside access lines: `{"timestamp":…,"level":…,"message":…}` and the event's other fields, or a line for people.
struct Lines(Arc<Log>);

impl<S, N> FormatEvent<S, N> for Lines
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
        let level = *event.metadata().level();
        let mut line = Fields(Map::new());
        if self.0.settings().format == LogFormat::Text {
            event.record(&mut line);
            return writeln!(writer, "{}", text::event(&timestamp(), level, &line.0, self.0.colours));
        }
        for (key, value) in [("timestamp", timestamp()), ("level", name(level).to_owned()), ("message", String::new())]
        {
            line.0.insert(key.to_owned(), value.into());
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

/// A level as JSON lines say it.
pub(super) fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Now, in RFC 3339 with milliseconds.
pub fn timestamp() -> String {
    const FORMAT: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::now_utc().format(FORMAT).unwrap_or_default()
}
