//! What metrics know, read for people: sums over series, and quantiles from the buckets of histograms.

use prometheus::proto::{Metric, MetricFamily, MetricType};

use crate::telemetry::metrics::{FAMILIES, Metrics};

/// All metrics at one moment.
pub(super) struct Figures(Vec<MetricFamily>);

/// How long things took.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Distribution {
    /// Upper bounds in seconds, and how many took at most as long.
    buckets: Vec<(f64, u64)>,
    count: u64,
}

/// A quantile, as exactly as buckets tell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Quantile {
    /// About so many seconds.
    About(f64),
    /// More than the last bucket's bound.
    Above(f64),
}

/// Which series: all that have these labels.
pub(super) type Labels<'l> = &'l [(&'l str, &'l str)];

impl Figures {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self(metrics.families())
    }

    /// The sum over series of a family.
    pub(super) fn sum(&self, family: &str, labels: Labels<'_>) -> f64 {
        self.series(family, labels).map(|(metric, kind)| value(metric, kind)).sum()
    }

    /// The same for what is counted.
    pub(super) fn count(&self, family: &str, labels: Labels<'_>) -> u64 {
        whole(self.sum(family, labels))
    }

    /// The value of the one series with these labels.
    pub(super) fn gauge(&self, family: &str, labels: Labels<'_>) -> Option<f64> {
        self.series(family, labels).next().map(|(metric, kind)| value(metric, kind))
    }

    /// The series of a family, each with the values of some labels.
    pub(super) fn each<'f, const N: usize>(
        &'f self,
        family: &str,
        labels: [&str; N],
    ) -> impl Iterator<Item = ([&'f str; N], f64)> {
        self.series(family, &[]).map(move |(metric, kind)| {
            (labels.map(|name| label(metric, name).unwrap_or_default()), value(metric, kind))
        })
    }

    /// Requests by the hundreds of their status: `[4xx, 5xx]`.
    pub(super) fn failed(&self, labels: Labels<'_>) -> [u64; 2] {
        let mut failed = [0.0; 2];
        for (metric, kind) in self.series("gateway_requests_total", labels) {
            match label(metric, "status").and_then(|status| status.bytes().next()) {
                Some(b'4') => failed[0] += value(metric, kind),
                Some(b'5') => failed[1] += value(metric, kind),
                _ => {}
            }
        }
        failed.map(whole)
    }

    /// Histograms of a family, added up.
    pub(super) fn distribution(&self, family: &str, labels: Labels<'_>) -> Distribution {
        let mut sum = Distribution::default();
        for (metric, _) in self.series(family, labels) {
            let histogram = metric.get_histogram();
            sum.count += histogram.get_sample_count();
            for bucket in histogram.get_bucket() {
                match sum.buckets.iter_mut().find(|(bound, _)| *bound == bucket.upper_bound()) {
                    Some((_, count)) => *count += bucket.cumulative_count(),
                    None => sum.buckets.push((bucket.upper_bound(), bucket.cumulative_count())),
                }
            }
        }
        sum
    }

    fn series(&self, family: &str, labels: Labels<'_>) -> impl Iterator<Item = (&Metric, MetricType)> {
        debug_assert!(FAMILIES.iter().any(|(name, ..)| *name == family), "there is no family {family}");
        let families = self.0.iter().filter(move |other| other.name() == family);
        let all = families.flat_map(|family| {
            let kind = family.get_field_type();
            family.get_metric().iter().map(move |metric| (metric, kind))
        });
        all.filter(move |(metric, _)| labels.iter().all(|(name, value)| label(metric, name) == Some(value)))
    }
}

impl Distribution {
    /// Of how many.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Within which time `share` of all was done, 0 to 1; `None` of nothing. Within a bucket all times are taken for equally likely, as
    /// Prometheus' `histogram_quantile` does.
    pub(super) fn quantile(&self, share: f64) -> Option<Quantile> {
        #[expect(clippy::cast_precision_loss, reason = "a quantile of so many is no more exact than that")]
        let float = |count: u64| count as f64;
        let rank = share * float(self.count);
        let (mut bound_before, mut count_before) = (0.0, 0);
        for (bound, count) in self.buckets.iter().filter(|_| self.count > 0) {
            if float(*count) >= rank && bound.is_finite() {
                let part = (rank - float(count_before)) / float(count.saturating_sub(count_before).max(1));
                return Some(Quantile::About(bound_before + (bound - bound_before) * part.clamp(0.0, 1.0)));
            }
            if bound.is_finite() {
                (bound_before, count_before) = (*bound, *count);
            }
        }
        (self.count > 0).then_some(Quantile::Above(bound_before))
    }
}

fn label<'m>(metric: &'m Metric, name: &str) -> Option<&'m str> {
    metric.get_label().iter().find(|label| label.name() == name).map(|label| label.value())
}

fn value(metric: &Metric, kind: MetricType) -> f64 {
    match kind {
        MetricType::COUNTER => metric.get_counter().get_value(),
        MetricType::GAUGE => metric.get_gauge().get_value(),
        _ => 0.0,
    }
}

/// A count, which metrics keep as a float.
pub(super) fn whole(value: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates, which is meant")]
    let whole = value.round() as u64;
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn answered(times: &[u64]) -> Distribution {
        let metrics = Metrics::new().unwrap();
        for micros in times {
            metrics.store_answered("redis", "take", Duration::from_micros(*micros));
        }
        Figures::new(&metrics).distribution("gateway_store_duration_seconds", &[("store", "redis")])
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        assert_eq!(answered(&[]).quantile(0.5), None);
        let some = answered(&[5, 5, 5, 5, 700, 700, 700, 700, 700, 5_000_000]);
        let Some(Quantile::About(median)) = some.quantile(0.5) else { panic!("{some:?}") };
        assert!(median > 0.000_5 && median <= 0.001, "{median}");
        assert_eq!(some.quantile(0.99), Some(Quantile::Above(1.0)));
        assert_eq!(some.quantile(0.2), Some(Quantile::About(0.000_005)));
    }

    #[test]
    fn series_are_added_up_by_their_labels() {
        let metrics = Metrics::new().unwrap();
        metrics.store_failed("redis", "take");
        metrics.store_failed("redis", "peek");
        metrics.store_failed("sql", "token");
        metrics.store_up("sql", false);
        let figures = Figures::new(&metrics);
        let count = |labels| figures.count("gateway_store_errors_total", labels);
        assert_eq!((count(&[]), count(&[("store", "redis")]), count(&[("store", "none")])), (3, 2, 0));
        assert_eq!(figures.gauge("gateway_store_up", &[("store", "sql")]), Some(0.0));
        assert_eq!(figures.gauge("gateway_store_up", &[("store", "redis")]), None);
        let each: Vec<_> = figures.each("gateway_store_errors_total", ["store", "operation"]).collect();
        assert!(each.contains(&(["sql", "token"], 1.0)), "{each:?}");
    }
}
