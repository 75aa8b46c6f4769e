//! Sends finished spans to a collector (OTLP over HTTP): from a bounded queue, so that no request ever waits for one.
//!
//! The SDK's own batch processor is not used: it does not say how many spans it dropped while it runs, and a span would have to be begun
//! in it, not told of at its end.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use parking_lot::Mutex;
use reqwest::redirect::Policy;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::settings::TracingSettings;
use crate::telemetry::metrics::{Metrics, SpanFate};

/// Requests whose spans may wait for the collector.
const QUEUE: usize = 2048;
/// Spans that go together.
const BATCH: usize = 512;
/// How long the first of them waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// For one delivery, everything that is tried again included.
const DEADLINE: Duration = Duration::from_secs(5);
/// For what still waits when the process ends.
const LAST_DELIVERY: Duration = Duration::from_secs(3);

/// Takes spans, and delivers them in the background.
pub struct Exporter {
    settings: TracingSettings,
    queue: mpsc::Sender<Vec<SpanData>>,
    ending: Arc<Notify>,
    delivering: Mutex<Option<JoinHandle<()>>>,
    metrics: Arc<Metrics>,
}

impl Exporter {
    /// Begins to deliver; `None`, and a line in the log, where that is not possible.
    pub(super) fn start(settings: TracingSettings, metrics: Arc<Metrics>) -> Option<Arc<Self>> {
        let collector = match collector(&settings.endpoint) {
            Ok(collector) => collector,
            Err(why) => {
                tracing::error!("no spans are exported: {why}");
                return None;
            }
        };
        metrics.knows_collector();
        let (queue, waiting) = mpsc::channel(QUEUE);
        let ending = Arc::<Notify>::default();
        let delivery = Delivery {
            waiting,
            ending: Arc::clone(&ending),
            collector,
            is_failing: false,
            metrics: Arc::clone(&metrics),
        };
        let delivering = Mutex::new(Some(tokio::spawn(delivery.run())));
        Some(Arc::new(Self { settings, queue, ending, delivering, metrics }))
    }

    /// What it was started with.
    pub fn settings(&self) -> &TracingSettings {
        &self.settings
    }

    /// Takes the spans of a request, or drops and counts them where too many wait.
    pub(super) fn take(&self, spans: Vec<SpanData>) {
        let count = spans.len();
        if self.queue.try_send(spans).is_err() {
            self.metrics.spans(SpanFate::NoRoom, count);
        }
    }

    /// Takes no more; what waits is still delivered.
    pub(super) fn end(&self) {
        self.ending.notify_one();
    }

    /// Takes no more, and waits for the rest to be delivered, but not for long.
    pub(super) async fn flush(&self) {
        self.end();
        let delivering = self.delivering.lock().take();
        if let Some(delivering) = delivering
            && timeout(LAST_DELIVERY, delivering).await.is_err()
        {
            tracing::warn!("the collector did not take the last spans within {LAST_DELIVERY:?}");
        }
    }
}

/// What speaks to the collector.
fn collector(endpoint: &str) -> Result<SpanExporter, String> {
    crate::tls::install_provider();
    let client = reqwest::Client::builder().timeout(DEADLINE).redirect(Policy::none()).no_proxy();
    let client = client.build().map_err(|error| error.to_string())?;
    let exporter = SpanExporter::builder().with_http().with_http_client(client).with_protocol(Protocol::HttpBinary);
    let mut exporter =
        exporter.with_endpoint(endpoint).with_timeout(DEADLINE).build().map_err(|error| error.to_string())?;
    let ours = [
        KeyValue::new("service.name", "mailtrixy-gateway"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", uuid::Uuid::now_v7().to_string()),
    ];
    let detected = Box::new(EnvResourceDetector::new());
    exporter.set_resource(&Resource::builder_empty().with_attributes(ours).with_detector(detected).build());
    Ok(exporter)
}

/// The task that empties the queue.
struct Delivery {
    waiting: mpsc::Receiver<Vec<SpanData>>,
    ending: Arc<Notify>,
    collector: SpanExporter,
    is_failing: bool,
    metrics: Arc<Metrics>,
}

impl Delivery {
    async fn run(mut self) {
        while let Some(mut batch) = self.next().await {
            let leaves_at = Instant::now() + LINGER;
            while batch.len() < BATCH
                && let Ok(Some(spans)) = timeout_at(leaves_at, self.next()).await
            {
                batch.extend(spans);
            }
            self.deliver(batch).await;
        }
    }

    /// The next spans; `None` when there are none and there will be none.
    async fn next(&mut self) -> Option<Vec<SpanData>> {
        tokio::select! {
            biased;
            () = self.ending.notified() => self.waiting.close(),
            spans = self.waiting.recv() => return spans,
        }
        self.waiting.recv().await
    }

    async fn deliver(&mut self, batch: Vec<SpanData>) {
        let count = batch.len();
        let why = match timeout(DEADLINE, self.collector.export(batch)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        };
        self.metrics.spans(if why.is_none() { SpanFate::Exported } else { SpanFate::Failed }, count);
        match &why {
            Some(why) if !self.is_failing => {
                tracing::warn!("the collector does not take spans, they are dropped: {why}");
            }
            None if self.is_failing => tracing::info!("the collector takes spans again"),
            _ => {}
        }
        self.is_failing = why.is_some();
    }
}
