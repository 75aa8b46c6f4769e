//! The metric families, in one table, in a registry of ours.
//!
//! Labels come from closed sets: the names in gateway.yaml, methods, statuses, codes and reasons. Never a path, an id, a token or
//! an address of a client, so the number of series is bounded by the configuration.

use std::time::Duration;

use http::Method;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::policy::contract::Drift;
use crate::policy::principal::Principal;
use crate::policy::refusal::TokenProblem;
use crate::policy::route::{Methods, NO_ROUTE};
use crate::telemetry::{Outcome, UpstreamUse};

/// Half a millisecond to a minute, for whole requests and backends.
const REQUEST_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Ten microseconds to a second, for our own work and stores.
const OVERHEAD_BUCKETS: &[f64] =
    &[0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0];

/// A millisecond to five minutes, for what goes from replica to replica.
const LAG_BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0, 300.0];

/// What came of a token look-up; the `result` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookUpResult {
    /// A caller.
    Valid,
    /// Known, and not valid.
    Refused,
    /// Not known.
    Unknown,
    /// A caller who was one a while ago; nobody could be asked again.
    Stale,
    /// Nobody can say.
    Error,
}

impl LookUpResult {
    /// What a finding is.
    pub fn of(finding: &Result<std::sync::Arc<Principal>, TokenProblem>) -> Self {
        match finding {
            Ok(_) => Self::Valid,
            Err(TokenProblem::Unknown) => Self::Unknown,
            Err(_) => Self::Refused,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::Stale => "stale",
            Self::Error => "error",
        }
    }
}

/// What became of a span; the `fate` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanFate {
    /// The collector took it.
    Exported,
    /// Too many waited for the collector.
    NoRoom,
    /// The collector did not take it.
    Failed,
}

impl SpanFate {
    fn as_str(self) -> &'static str {
        match self {
            Self::Exported => "exported",
            Self::NoRoom => "no_room",
            Self::Failed => "failed",
        }
    }
}

macro_rules! families {
    ($($field:ident: $kind:ident = $name:literal [$($label:literal),*] $help:literal $(, buckets $buckets:ident)?;)*) => {
        /// All families of the gateway.
        pub struct Metrics {
            registry: Registry,
            $(pub(super) $field: $kind,)*
        }

        /// Name, labels and help of each family, for tables and tests.
        pub const FAMILIES: &[(&str, &[&str], &str)] = &[$(($name, &[$($label),*], $help),)*];

        impl Metrics {
            /// Registers all families. Fails only if two of them had one name.
            pub fn new() -> Result<Self, prometheus::Error> {
                let registry = Registry::new();
                $(let $field = families!(@new $kind, $name, $help, [$($label),*] $(, $buckets)?)?;)*
                for collector in [$(Box::new($field.clone()) as Box<dyn Collector>),*] {
                    registry.register(collector)?;
                }
                Ok(Self { registry, $($field,)* })
            }
        }
    };
    (@new HistogramVec, $name:literal, $help:literal, [$($label:literal),*], $buckets:ident) => {
        HistogramVec::new(HistogramOpts::new($name, $help).buckets($buckets.to_vec()), &[$($label),*])
    };
    (@new Histogram, $name:literal, $help:literal, [], $buckets:ident) => {
        Histogram::with_opts(HistogramOpts::new($name, $help).buckets($buckets.to_vec()))
    };
    (@new IntCounter, $name:literal, $help:literal, []) => { IntCounter::new($name, $help) };
    (@new IntGauge, $name:literal, $help:literal, []) => { IntGauge::new($name, $help) };
    (@new Gauge, $name:literal, $help:literal, []) => { Gauge::new($name, $help) };
    (@new $kind:ident, $name:literal, $help:literal, [$($label:literal),*]) => { $kind::new(Opts::new($name, $help), &[$($label),*]) };
}

families! {
    requests: IntCounterVec = "gateway_requests_total" ["route", "method", "status"] "Requests answered, 499 where the client had gone.";
    duration: HistogramVec = "gateway_request_duration_seconds" ["route"] "From the complete head of a request to the last byte of its answer.", buckets REQUEST_BUCKETS;
    overhead: HistogramVec = "gateway_overhead_duration_seconds" ["route"] "Time a request spent in the gateway, the backend's time taken off.", buckets OVERHEAD_BUCKETS;
    upstream_duration: HistogramVec = "gateway_upstream_duration_seconds" ["upstream"] "Time a request spent at its backend, all attempts together.", buckets REQUEST_BUCKETS;
    refusals: IntCounterVec = "gateway_refusals_total" ["route", "code", "reason"] "Requests the gateway answered by itself.";
    decisions: IntCounterVec = "gateway_ratelimit_decisions_total" ["limit", "decision", "by"] "Decisions about limits.";
    store_duration: HistogramVec = "gateway_store_duration_seconds" ["store", "operation"] "Time a store took to answer.", buckets OVERHEAD_BUCKETS;
    store_errors: IntCounterVec = "gateway_store_errors_total" ["store", "operation"] "Questions a store did not answer, or not in time.";
    store_up: IntGaugeVec = "gateway_store_up" ["store"] "1 while there is a connection to the store.";
    revocation_lag: Histogram = "gateway_token_revocation_lag_seconds" [] "From a revocation's entry in the stream to its effect here.", buckets LAG_BUCKETS;
    token_lookups: IntCounterVec = "gateway_token_lookups_total" ["source", "result"] "Tokens looked up, by who was asked.";
    server_healthy: IntGaugeVec = "gateway_upstream_server_healthy" ["upstream", "server"] "1 while requests are sent to the server.";
    retries: IntCounterVec = "gateway_upstream_retries_total" ["upstream"] "Requests sent to a further server.";
    ejections: IntCounterVec = "gateway_upstream_ejections_total" ["upstream"] "Servers left out because their answers failed.";
    circuit_open: IntGaugeVec = "gateway_upstream_circuit_open" ["upstream"] "1 while requests to the upstream are refused at once.";
    leaks: IntCounterVec = "gateway_backend_leaks_blocked_total" ["upstream"] "Error bodies of backends that held something internal.";
    normalised: IntCounterVec = "gateway_backend_errors_normalised_total" ["upstream"] "Error bodies of backends that became envelopes.";
    drifts: IntCounterVec = "gateway_contract_drift_total" ["route", "field"] "Success bodies, of those looked at, in which the field was not as agreed.";
    in_flight: IntGaugeVec = "gateway_requests_in_flight" ["listener"] "Requests being answered.";
    connections: IntGaugeVec = "gateway_connections" ["listener"] "Open connections of clients.";
    handshakes_failed: IntCounterVec = "gateway_tls_handshake_failures_total" ["listener"] "Connections that did not come to be encrypted.";
    introductions_failed: IntCounterVec = "gateway_proxy_protocol_failures_total" ["listener"] "Connections of load balancers that did not begin with a PROXY protocol header.";
    certificate_end: GaugeVec = "gateway_certificate_expiry_timestamp_seconds" ["listener", "certificate"] "Until when the certificate in use is valid, by its file.";
    certificate_reloads: IntCounterVec = "gateway_certificate_reloads_total" ["listener", "result"] "Changed certificate files that were applied, or refused.";
    log_lines_dropped: IntCounter = "gateway_log_lines_dropped_total" [] "Log lines dropped because their reader was too slow.";
    spans: IntCounterVec = "gateway_trace_spans_total" ["fate"] "Spans of sampled requests: exported, dropped for want of room, or failed to be delivered.";
    reload_successful: IntGauge = "gateway_config_last_reload_successful" [] "1 if the last reload was applied, 0 if it was refused.";
    reload_timestamp: Gauge = "gateway_config_last_reload_timestamp_seconds" [] "When the configuration in force was applied.";
    build_info: GaugeVec = "gateway_build_info" ["version", "revision"] "1.";
}

impl Metrics {
    /// Everything in Prometheus' text format.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        // Encoding into memory fails for invalid families only, and ours are registered.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        text
    }

    /// Everything, as values.
    pub fn families(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// Counts the rarer things that a finished request can have had; [`RouteMeters`](super::meters::RouteMeters) count what all of them have.
    pub fn record(&self, outcome: &Outcome<'_>) {
        if let Some(refusal) = outcome.refusal {
            let route = outcome.trail.route.as_ref().map_or(NO_ROUTE, |route| &route.name);
            let code = outcome.code().map_or("", |code| code.as_str());
            self.refusals.with_label_values(&[route, code, refusal.reason()]).inc();
        }
        if let Some(UpstreamUse { name, attempts: attempts @ 2.., .. }) = &outcome.upstream {
            self.retries.with_label_values(&[name]).inc_by(u64::from(attempts - 1));
        }
    }

    /// Notes how long a revocation took to take effect.
    pub fn token_revoked(&self, lag: Duration) {
        self.revocation_lag.observe(lag.as_secs_f64());
    }

    /// Counts a look-up of a token.
    pub fn token_looked_up(&self, source: &str, result: LookUpResult) {
        self.token_lookups.with_label_values(&[source, result.as_str()]).inc();
    }

    /// Notes how long a store took to answer.
    pub fn store_answered(&self, store: &str, operation: &str, took: Duration) {
        self.store_duration.with_label_values(&[store, operation]).observe(took.as_secs_f64());
    }

    /// Counts a question that a store did not answer.
    pub fn store_failed(&self, store: &str, operation: &str) {
        self.store_errors.with_label_values(&[store, operation]).inc();
    }

    /// Whether there is a connection to a store.
    pub fn store_up(&self, store: &str, up: bool) {
        self.store_up.with_label_values(&[store]).set(i64::from(up));
    }

    /// Whether requests are sent to a server.
    pub fn server_healthy(&self, upstream: &str, server: &str, healthy: bool) {
        self.server_healthy.with_label_values(&[upstream, server]).set(i64::from(healthy));
    }

    /// Forgets a server that is configured no longer.
    pub fn server_gone(&self, upstream: &str, server: &str) {
        // It may never have been seen.
        let _ = self.server_healthy.remove_label_values(&[upstream, server]);
    }

    /// Counts a server that was left out.
    pub fn ejected(&self, upstream: &str) {
        self.ejections.with_label_values(&[upstream]).inc();
    }

    /// Whether requests to an upstream are refused at once.
    pub fn circuit_open(&self, upstream: &str, open: bool) {
        self.circuit_open.with_label_values(&[upstream]).set(i64::from(open));
    }

    /// Counts a backend's error that became an envelope.
    pub fn normalised(&self, upstream: &str, leaked: bool) {
        self.normalised.with_label_values(&[upstream]).inc();
        if leaked {
            self.leaks.with_label_values(&[upstream]).inc();
        }
    }

    /// Counts a success body that was not as agreed.
    pub fn drifted(&self, route: &str, drift: Drift) {
        self.drifts.with_label_values(&[route, drift.as_str()]).inc();
    }

    /// The gauge of requests being answered on a listener.
    pub fn in_flight(&self, listener: &str) -> IntGauge {
        self.in_flight.with_label_values(&[listener])
    }

    /// The gauge of open connections on a listener.
    pub fn connections(&self, listener: &str) -> IntGauge {
        self.connections.with_label_values(&[listener])
    }

    /// Counts a connection to an encrypted listener that came to nothing.
    pub fn handshake_failed(&self, listener: &str) {
        self.handshakes_failed.with_label_values(&[listener]).inc();
    }

    /// Counts a connection of a load balancer that did not say whom it is from.
    pub fn introduction_failed(&self, listener: &str) {
        self.introductions_failed.with_label_values(&[listener]).inc();
    }

    /// Notes until when a certificate in use is valid, in Unix seconds.
    pub fn certificate_ends(&self, listener: &str, certificate: &str, until: i64) {
        #[expect(clippy::cast_precision_loss, reason = "seconds are exact for some hundred million years")]
        self.certificate_end.with_label_values(&[listener, certificate]).set(until as f64);
    }

    /// Counts certificate files that changed.
    pub fn certificates_reloaded(&self, listener: &str, applied: bool) {
        let result = if applied { "applied" } else { "refused" };
        self.certificate_reloads.with_label_values(&[listener, result]).inc();
    }

    /// Counts dropped log lines.
    pub fn log_lines_dropped(&self, lines: usize) {
        self.log_lines_dropped.inc_by(u64::try_from(lines).unwrap_or(u64::MAX));
    }

    /// Counts spans by what became of them.
    pub fn spans(&self, fate: SpanFate, count: usize) {
        self.spans.with_label_values(&[fate.as_str()]).inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }

    /// Begins the rare counts of an upstream at 0: where a series begins at 1, Prometheus sees no increase.
    pub fn knows_upstream(&self, upstream: &str) {
        for family in [&self.retries, &self.ejections, &self.leaks, &self.normalised] {
            let _ = family.with_label_values(&[upstream]);
        }
    }

    /// Begins the counts of spans at 0, for the same reason.
    pub fn knows_collector(&self) {
        for fate in [SpanFate::Exported, SpanFate::NoRoom, SpanFate::Failed] {
            self.spans(fate, 0);
        }
    }

    /// Notes a reload; `at` is in Unix seconds.
    pub fn reloaded(&self, successful: bool, at: f64) {
        self.reload_successful.set(i64::from(successful));
        if successful {
            self.reload_timestamp.set(at);
        }
    }

    /// Names this build.
    pub fn build(&self, version: &str, revision: &str) {
        self.build_info.with_label_values(&[version, revision]).set(1.0);
    }
}

/// The `method` label: a known method, or `other`, because clients can invent methods.
pub(super) fn method(method: Option<&Method>) -> &'static str {
    method.and_then(Methods::name).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invented_method_makes_no_new_series() {
        assert_eq!(method(Some(&Method::PATCH)), "PATCH");
        assert_eq!(method(Some(&Method::from_bytes(b"BREW").unwrap())), "other");
        assert_eq!(method(None), "other");
    }

    #[test]
    fn every_family_has_the_prefix_and_a_sentence_of_help() {
        for (name, _, help) in FAMILIES {
            assert!(name.starts_with("gateway_") && help.ends_with('.'), "{name}");
        }
        assert!(Metrics::new().is_ok());
    }
}
