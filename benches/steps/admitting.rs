//! What is decided: route, caller, scope, limit, and all of it in a row.

use std::sync::Arc;
use std::time::Duration;

use divan::{Bencher, black_box};
use http::Method;
use mailtrixy_gateway::config::settings::SourceSettings;
use mailtrixy_gateway::limits::memory::MemoryStore;
use mailtrixy_gateway::pipeline::Trail;
use mailtrixy_gateway::policy::credential::Credential;
use mailtrixy_gateway::policy::limit;
use mailtrixy_gateway::policy::meter::{Algorithm, Meter, Rate};
use mailtrixy_gateway::policy::path::CleanPath;
use mailtrixy_gateway::policy::time::UnixMillis;
use mailtrixy_gateway::ports::{Clock as _, SystemClock};

use crate::sample::{CLIENT, Sample, config};

/// So many routes, each with a parameter and something behind it.
fn routes(number: usize) -> String {
    let route = |n| format!("  r{n}: {{path: '/r{n}/{{id}}/sent', access: public, limit: none, upstream: u}}\n");
    let routes: String = (0..number).map(route).collect();
    format!("upstreams: {{u: {{servers: ['127.0.0.1:1']}}}}\nroutes:\n{routes}")
}

#[divan::bench(args = [10, 100, 1000])]
fn route_among(bencher: Bencher<'_, '_>, number: usize) {
    let config = config(&routes(number));
    let path = format!("/api/v1/r{}/7/sent", number / 2);
    let path = CleanPath::parse(&path).expect("a path");
    bencher.bench(|| config.policy.routes.find(black_box(&Method::GET), black_box(&path)).is_ok());
}

#[divan::bench]
fn credential(bencher: Bencher<'_, '_>) {
    let sample = Sample::new();
    let head = sample.head();
    bencher.bench(|| Credential::from_headers(black_box(&head.headers), &sample.config.auth.grammar).is_ok());
}

#[divan::bench]
fn token_seen_for_the_first_time(bencher: Bencher<'_, '_>) {
    let sample = Sample::new();
    let signed = sample.config.auth.sources.iter().find_map(|source| match source {
        SourceSettings::Signed { expected, keys, .. } => Some((expected, keys)),
        _ => None,
    });
    let (expected, keys) = signed.expect("keys");
    let now = SystemClock::default().now();
    bencher.bench(|| keys.verify(expected, black_box(sample.jwt()), now));
}

#[divan::bench]
fn token_that_is_known(bencher: Bencher<'_, '_>) {
    let sample = Sample::new();
    let head = sample.head();
    bencher.bench(|| sample.identify(black_box(&head)));
}

#[divan::bench]
fn scope(bencher: Bencher<'_, '_>) {
    let sample = Sample::new();
    let permit = sample.admit(&sample.head(), &mut Trail::default());
    let caller = permit.principal().expect("a caller");
    bencher.bench(|| permit.route().access.grant(black_box(Some(Arc::clone(caller)))));
}

#[divan::bench(args = [Algorithm::FixedWindow, Algorithm::SlidingLog, Algorithm::Gcra])]
fn arithmetic_of(bencher: Bencher<'_, '_>, algorithm: &Algorithm) {
    let rate = Rate { algorithm: *algorithm, requests: 60, capacity: 60, window: Duration::from_secs(60) };
    let mut meter = Meter::new(*algorithm);
    let mut now = UnixMillis(1_790_000_000_000);
    bencher.bench_local(|| {
        now = now.plus(Duration::from_millis(1200));
        meter.advance(&rate, now);
        let room = meter.room(&rate);
        meter.add(room.min(1), &rate, now);
        meter.full_at(&rate, now)
    });
}

#[divan::bench]
fn limit_in_memory(bencher: Bencher<'_, '_>) {
    let sample = Sample::new();
    let permit = sample.admit(&sample.head(), &mut Trail::default());
    let route = permit.route();
    let grant = route.access.grant(permit.principal().cloned()).expect("a grant");
    let store = MemoryStore::default();
    let now = SystemClock::default().steady();
    bencher.bench(|| store.take(&limit::asks(route, &grant, CLIENT), 1, now));
}

#[divan::bench]
fn everything(bencher: Bencher<'_, '_>) {
    let sample = Sample::new();
    let head = sample.head();
    bencher.bench(|| {
        let mut trail = Trail::default();
        let permit = sample.admit(black_box(&head), &mut trail);
        (permit, trail)
    });
}
