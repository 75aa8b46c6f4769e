//! What goes out: the request to the backend, the answer to the client, envelopes, the access line.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::Bytes;
use divan::{Bencher, black_box};
use http::{HeaderValue, StatusCode};
use mailtrixy_gateway::pipeline::Trail;
use mailtrixy_gateway::policy::answer;
use mailtrixy_gateway::policy::envelope::Envelope;
use mailtrixy_gateway::policy::normalise::normalise;
use mailtrixy_gateway::policy::refusal::Refusal;
use mailtrixy_gateway::proxy::headers::{self, Arrival, Peer, Told};
use mailtrixy_gateway::telemetry::access::AccessLog;
use mailtrixy_gateway::telemetry::log::Log;
use mailtrixy_gateway::telemetry::meters::RouteMeters;
use mailtrixy_gateway::telemetry::{Outcome, UpstreamUse};

use crate::reading::ANSWER;
use crate::sample::{CLIENT, Sample};

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[divan::bench]
fn fields_to_the_backend(bencher: Bencher<'_, '_>) {
    let sample = Sample::new();
    let (head, mut trail) = (sample.head(), Trail::default());
    let permit = sample.admit(&head, &mut trail);
    let (peer, host) = (Peer::new(PEER), HeaderValue::from_static("127.0.0.1:1"));
    bencher.bench(|| {
        let arrival = Arrival::new(black_box(&head.headers), &peer, false, &sample.config.trusted_proxies);
        headers::request(&head, &permit, &arrival, &trail.trace, &host, false)
    });
}

#[divan::bench]
fn fields_to_the_client(bencher: Bencher<'_, '_>) {
    let sample = Sample::new();
    let (head, mut trail) = (sample.head(), Trail::default());
    sample.admit(&head, &mut trail);
    let arrival = Arrival::new(&head.headers, &Peer::new(PEER), false, &sample.config.trusted_proxies);
    let answer = answer::read(&Bytes::from_static(ANSWER)).expect("an answer");
    let quota = trail.decision.as_ref().and_then(|decision| decision.quota.as_ref());
    let told = Told { quota, is_limited: true, ..Told::default() };
    bencher.bench(|| {
        let mut fields = headers::answer(black_box(&answer.fields), &told);
        told.write(&mut fields, &arrival);
        fields
    });
}

#[divan::bench]
fn envelope_of_a_status() -> Envelope {
    Envelope::standard(black_box(StatusCode::NOT_FOUND))
}

#[divan::bench]
fn envelope_of_a_refusal(bencher: Bencher<'_, '_>) {
    bencher.with_inputs(|| Refusal::NoRoute).bench_refs(|refusal| Envelope::of(refusal));
}

#[divan::bench]
fn validation_error_of_laravel(bencher: Bencher<'_, '_>) {
    let body = br#"{"message":"The email field is required.","errors":{"email":["The email field is required."]}}"#;
    bencher.bench(|| normalise(StatusCode::UNPROCESSABLE_ENTITY, black_box(body), &[]));
}

#[divan::bench]
fn access_line(bencher: Bencher<'_, '_>) {
    let sample = Sample::new();
    let (head, mut trail) = (sample.head(), Trail::default());
    let route = sample.admit(&head, &mut trail);
    let meters = RouteMeters::new(&sample.metrics, &route.route().name, Some("contacts"));
    let (log, _guard) = Log::open(&sample.config.log);
    let access = AccessLog::new(log);
    let (server, duration) = ("127.0.0.1:1", Duration::from_micros(1100));
    bencher.bench(|| {
        access.line(black_box(&Outcome {
            request_id: "01990000-0000-7000-8000-000000000000",
            method: Some(&head.method),
            path: head.uri.path(),
            status: StatusCode::OK,
            refusal: None,
            trail: &trail,
            meters: &meters,
            upstream: Some(UpstreamUse { name: "contacts", server, attempts: 1, duration }),
            duration: Duration::from_micros(1234),
            client: CLIENT.0,
            bytes_in: 0,
            bytes_out: 200,
        }))
    });
}
