//! Traces: what a collector is sent of a request, what its backend is told, and that no request ever waits for either.

use mailtrixy_gateway::config::Loaded;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use crate::harness::backend::{Backend, json, nobody, read_head, scripted};
use crate::harness::client::Connection;
use crate::harness::collector::{Answer, Collector, Span};
use crate::harness::gateway::{CONTACTS, Gateway, counting_in, simple};
use crate::harness::redis::Redis;
use crate::harness::token::{SECRET, token};
use crate::harness::wait_for;

const LIMITED: &str = "  contacts: {path: /contacts/**, scope: contacts, limit: contacts, upstream: main}\n";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A gateway that sends everything it samples to `collector`.
async fn traced(collector: &Collector, tracing: &str, config: &str) -> Gateway {
    Gateway::start(&format!("{}{config}", collector.section(tracing))).await
}

/// GET with a `traceparent`, and with a `tracestate` and a secret in the query besides.
async fn get(gateway: &Gateway, traceparent: &str, token: &str) -> u16 {
    let fields = format!("Traceparent: {traceparent}\r\nTracestate: vendor=1\r\nAuthorization: Bearer {token}");
    gateway.send(&format!("GET /api/v1/contacts/7?secret=query HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n")).await.status
}

/// GET of which the status and the spans are told.
async fn told(gateway: &Gateway, collector: &Collector, path: &str, token: &str) -> (u16, Vec<Span>) {
    let answer = gateway.get(path, token).await;
    let spans = collector.trace(answer.header("x-request-id").unwrap()).await;
    (answer.status, spans)
}

#[track_caller]
fn named<'s>(spans: &'s [Span], name: &str) -> &'s Span {
    let mut found = spans.iter().filter(|span| span.name() == name);
    let span = found.next().unwrap_or_else(|| panic!("no {name} in {spans:?}"));
    assert!(found.next().is_none(), "{name} is there twice");
    span
}

#[track_caller]
fn assert_attributes(span: &Span, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(span.attribute(name).as_deref(), Some(*value), "{name} of {span:?}");
    }
}

#[tokio::test]
async fn a_callers_trace_goes_on_through_every_step_to_the_backend() {
    let (backend, collector) = (Backend::start().await, Collector::start().await);
    let config = simple(&[backend.address], "contacts: {requests: 5, per: 1m}", LIMITED);
    let gateway = traced(&collector, "sample: 0", &config).await;
    let token = token("w1", "contacts");
    assert_eq!(get(&gateway, SENT, &token).await, 200);
    let spans = collector.spans(4, |_| true).await;
    assert!(spans.iter().all(|span| span.trace() == TRACE), "{spans:?}");

    let request = named(&spans, "GET /api/v1/contacts/**");
    assert_eq!((request.kind(), request.parent().as_str()), (SpanKind::Server, "00f067aa0ba902b7"));
    assert_eq!((request.error(), request.events()), (None, vec!["route", "scope"]));
    assert_attributes(
        request,
        &[
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("http.route", "/api/v1/contacts/**"),
            ("url.path", "/api/v1/contacts/7"),
            ("url.scheme", "http"),
            ("client.address", "127.0.0.1"),
            ("http.response.body.size", "26"),
            ("gateway.route", "contacts"),
            ("gateway.workspace", "w1"),
            ("user.id", "user-1"),
        ],
    );
    let limit = named(&spans, "limit");
    assert_attributes(limit, &[("gateway.limit.name", "contacts"), ("gateway.limit.remaining", "4")]);
    assert!(named(&spans, "token").attribute("gateway.token.id").is_some());
    let attempt = named(&spans, "GET");
    assert_eq!((attempt.kind(), attempt.error(), attempt.events()), (SpanKind::Client, None, vec!["response head"]));
    let port = backend.address.port().to_string();
    assert_attributes(attempt, &[("server.address", "127.0.0.1"), ("server.port", &port)]);
    assert_attributes(attempt, &[("gateway.upstream", "main"), ("http.response.status_code", "200")]);
    for step in spans.iter().filter(|span| span.id() != request.id()) {
        assert!(step.parent() == request.id() && step.is_within(request), "{step:?} in {request:?}");
    }

    let seen = backend.only();
    assert_eq!(seen.header("traceparent"), Some(&*format!("00-{TRACE}-{}-01", attempt.id())));
    assert_eq!(seen.header("tracestate"), Some("vendor=1"));
    let line = &gateway.access_lines(1).await[0];
    assert_eq!(line["trace_id"], TRACE);
    assert_eq!(request.attribute("gateway.request_id").as_deref(), line["request_id"].as_str());
    assert_eq!(collector.resource("service.name").as_deref(), Some("mailtrixy-gateway"));
    for secret in ["secret", "query", token.as_str(), token.rsplit('.').next().unwrap(), "success"] {
        assert!(!collector.has_seen(secret), "{secret}");
    }
}

#[tokio::test]
async fn every_server_that_was_asked_has_a_span_of_its_own() {
    let (backend, collector) = (Backend::answering(|_| json(500, "{}")).await, Collector::start().await);
    let broken = scripted(|mut stream| async move { drop(read_head(&mut stream).await) }).await;
    let servers = [nobody().await, broken, backend.address];
    let config = simple(&servers, "", CONTACTS).replace("timeouts:", "retries: 5, timeouts:");
    let gateway = traced(&collector, "sample: 1", &config).await;
    // Whose turn it is first is the balancer's affair; who answers is asked last of three sooner or later.
    let asked = wait_for("a request that all three were asked about", async || {
        let (status, spans) = told(&gateway, &collector, "/api/v1/contacts", &token("w", "contacts")).await;
        assert_eq!(status, 500);
        let asked: Vec<Span> = spans.into_iter().filter(|span| span.kind() == SpanKind::Client).collect();
        (asked.len() == 3).then_some(asked)
    })
    .await;
    let errors: Vec<_> = asked.iter().map(|span| span.error().unwrap()).collect();
    assert_eq!(errors, ["upstream_refused", "upstream_closed", "500"]);
    let resent: Vec<_> = asked.iter().map(|span| span.attribute("http.request.resend_count")).collect();
    assert_eq!(resent, [None, Some("1".to_owned()), Some("2".to_owned())]);
    let told = format!("00-{}-{}-01", asked[2].trace(), asked[2].id());
    assert!(backend.seen().iter().any(|seen| seen.header("traceparent") == Some(&told)), "{told}");
}

#[tokio::test]
async fn a_refusal_is_told_at_the_step_that_refused_and_blamed_on_whose_fault_it_is() {
    let (backend, collector, redis) = (Backend::start().await, Collector::start().await, Redis::start().await);
    let limit = "contacts: {requests: 1, per: 1m, on_store_failure: deny}";
    let config = counting_in(&redis.url(), "deadline: 25ms", backend.address, limit);
    let gateway = traced(&collector, "sample: 1", &config).await;
    gateway.log_lines(1, |line| line["message"] == "connected to Redis").await;
    let names = |spans: &[Span]| spans.iter().map(|span| span.name().to_owned()).collect::<Vec<_>>();

    let (status, spans) = told(&gateway, &collector, "/nothing", "x").await;
    assert_eq!((status, names(&spans)), (404, vec!["GET".to_owned()]));
    assert_attributes(&spans[0], &[("gateway.refusal", "no_route"), ("http.response.status_code", "404")]);
    assert_eq!(spans[0].error(), None);

    let (status, spans) = told(&gateway, &collector, "/api/v1/contacts", "mb_nonsense").await;
    assert_eq!((status, names(&spans)), (401, vec!["GET /api/v1/contacts/**".to_owned(), "token".to_owned()]));
    assert_attributes(&spans[1], &[("gateway.refusal", "token_malformed")]);
    assert_eq!((spans[0].error(), spans[1].error()), (None, None));

    let used_up = token("w", "contacts");
    assert_eq!(gateway.get("/api/v1/contacts", &used_up).await.status, 200);
    let (status, spans) = told(&gateway, &collector, "/api/v1/contacts", &used_up).await;
    assert_eq!((status, spans.len()), (429, 3), "{spans:?}");
    assert_attributes(named(&spans, "limit"), &[("gateway.refusal", "limit"), ("gateway.limit.remaining", "0")]);
    assert_eq!(named(&spans, "limit").error(), None);

    redis.signal("STOP");
    let (status, spans) = told(&gateway, &collector, "/api/v1/contacts", &token("other", "contacts")).await;
    redis.signal("CONT");
    assert_eq!(status, 503);
    assert_eq!(named(&spans, "GET /api/v1/contacts/**").error().as_deref(), Some("limit_store"));
    assert_eq!(named(&spans, "limit").error().as_deref(), Some("limit_store"));
}

#[tokio::test]
async fn whether_a_trace_is_sampled_is_decided_once_and_passed_on() {
    let unsampled = SENT.replace("-01", "-00");
    let own = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
    for (tracing, sent, flags, is_told) in [
        ("sample: 0", SENT, "01", true),
        ("sample: 1", &unsampled, "00", false),
        ("sample: 0", own, "00", false),
        ("sample: 1", own, "01", true),
        ("sample: 0, parent: ignore", SENT, "00", false),
        ("sample: 1, parent: ignore", &unsampled, "01", true),
    ] {
        let (backend, collector) = (Backend::start().await, Collector::start().await);
        let mut gateway = traced(&collector, tracing, &simple(&[backend.address], "", CONTACTS)).await;
        assert_eq!(get(&gateway, sent, &token("w", "contacts")).await, 200);
        let seen = backend.only();
        let told = seen.header("traceparent").unwrap();
        assert_eq!(told.rsplit('-').next(), Some(flags), "{tracing} {sent}");
        assert_eq!(told.contains(TRACE), sent != own, "a valid trace is continued: {told}");
        assert_eq!(seen.header("tracestate").is_some(), sent != own, "what belongs to another trace is dropped");
        gateway.signal("TERM");
        assert!(gateway.ended().await.success());
        assert_eq!(collector.count() > 0, is_told, "{tracing} {sent}");
    }
}

#[tokio::test]
async fn without_a_collector_a_trace_is_passed_on_as_it_came() {
    let backend = Backend::start().await;
    let gateway = Gateway::start(&simple(&[backend.address], "", CONTACTS)).await;
    assert_eq!(get(&gateway, SENT, &token("w", "contacts")).await, 200);
    assert_eq!(backend.only().header("traceparent"), Some(SENT));
    assert_eq!(backend.only().header("tracestate"), Some("vendor=1"));
    assert_eq!(gateway.access_lines(1).await[0].get("trace_id"), None);
}

#[tokio::test]
async fn the_end_of_the_process_waits_for_the_last_spans_and_not_for_a_collector_that_hangs() {
    for (answer, spans) in [(Answer::Taken, 3), (Answer::Silence, 0)] {
        let (backend, collector) = (Backend::start().await, Collector::answering(move |_| answer).await);
        let mut gateway = traced(&collector, "sample: 1", &simple(&[backend.address], "", CONTACTS)).await;
        assert_eq!(gateway.get("/api/v1/contacts", &token("w", "contacts")).await.status, 200);
        gateway.signal("TERM");
        assert!(gateway.ended().await.success());
        assert_eq!(collector.count(), spans);
    }
}

#[tokio::test]
async fn requests_go_on_when_the_collector_hangs_and_what_is_dropped_is_counted() {
    let (backend, collector) = (Backend::start().await, Collector::answering(|_| Answer::Silence).await);
    let gateway = traced(&collector, "sample: 1", &simple(&[backend.address], "", CONTACTS)).await;
    Connection::open(gateway.address).await.refused(5_000).await;
    let dropped = gateway.metric("gateway_trace_spans_total{fate=\"no_room\"}").await;
    assert!(dropped > 0.0 && dropped < 5_000.0, "{dropped}");
    wait_for("a delivery that is given up", async || {
        (gateway.metric("gateway_trace_spans_total{fate=\"failed\"}").await > 0.0).then_some(())
    })
    .await;
    gateway.log_lines(1, is_failing).await;
}

fn is_failing(line: &serde_json::Value) -> bool {
    line["message"].as_str().is_some_and(|text| text.starts_with("the collector does not take spans"))
}

#[tokio::test]
async fn a_collector_that_is_busy_for_a_moment_is_asked_again_and_one_that_refuses_is_not() {
    let backend = Backend::start().await;
    let busy = Collector::answering(|number| if number == 0 { Answer::Status(503) } else { Answer::Taken }).await;
    let gateway = traced(&busy, "sample: 1", &simple(&[backend.address], "", CONTACTS)).await;
    gateway.get("/nothing", "x").await;
    assert_eq!(busy.spans(1, |_| true).await.len(), 1);
    assert_eq!(busy.deliveries(), 2);

    let strict = Collector::answering(|number| if number == 0 { Answer::Status(400) } else { Answer::Taken }).await;
    let gateway = traced(&strict, "sample: 1", &simple(&[backend.address], "", CONTACTS)).await;
    gateway.get("/nothing", "x").await;
    gateway.log_lines(1, is_failing).await;
    gateway.get("/nothing", "x").await;
    gateway.log_lines(1, |line| line["message"] == "the collector takes spans again").await;
    assert_eq!((strict.deliveries(), strict.count()), (2, 1));
}

#[tokio::test]
async fn the_environment_says_how_the_collector_is_spoken_to() {
    let (backend, collector) = (Backend::start().await, Collector::start().await);
    let config = format!("{}{}", collector.section("sample: 1"), simple(&[backend.address], "", CONTACTS));
    let environment = [
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Basic%20hunter2"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
        // What gateway.yaml says holds.
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9"),
    ];
    let gateway = Gateway::start_with(&config, &environment).await;
    gateway.get("/nothing", "x").await;
    collector.spans(1, |_| true).await;
    assert_eq!(collector.authorization().as_deref(), Some("Basic hunter2"));
    assert_eq!(collector.resource("deployment.environment.name").as_deref(), Some("test"));
}

#[test]
fn what_is_no_collector_and_no_share_is_named_and_a_password_is_not_shown() {
    let load = |tracing: &str| {
        let config = format!("observability: {{{tracing}}}\n{}", simple(&[([127, 0, 0, 1], 1).into()], "", CONTACTS));
        let environment = |name: &str| (name == "MB_SIGNING_SECRET").then(|| SECRET.to_owned());
        Loaded::from_text("gateway.yaml".to_owned(), config, &environment).into_config()
    };
    for (tracing, problem) in [
        ("tracing: {otlp: \"collector:4318\"}", "this is not the url of a collector"),
        ("tracing: {otlp: \"grpc://collector:4317\"}", "this is not the url of a collector"),
        ("tracing: {otlp: \"http://me:hunter2@collector\"}", "the url of a collector cannot hold a password"),
        ("tracing: {sample: 1.5}", "observability.tracing.sample is a share, from 0 to 1"),
        ("log: {sample: -0.1}", "observability.log.sample is a share, from 0 to 1"),
    ] {
        let report = load(tracing).unwrap_err();
        assert!(report.contains(problem) && report.contains(" = ") && !report.contains("hunter2"), "{report}");
    }
    let endpoint = |otlp: &str| load(&format!("tracing: {{otlp: \"{otlp}\"}}")).unwrap().tracing.map(|to| to.endpoint);
    assert_eq!(endpoint(""), None);
    for (otlp, posted_to) in [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("https://c/otlp", "https://c/otlp/v1/traces"),
        ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
    ] {
        assert_eq!(endpoint(otlp).as_deref(), Some(posted_to), "{otlp}");
    }
}

#[tokio::test]
async fn a_reload_sends_spans_elsewhere_and_loses_none() {
    let (backend, first, second) = (Backend::start().await, Collector::start().await, Collector::start().await);
    let config = simple(&[backend.address], "", CONTACTS);
    let gateway = traced(&first, "sample: 1", &config).await;
    gateway.get("/nothing", "x").await;
    std::fs::write(gateway.config_path(), format!("{}{config}", second.section("sample: 1"))).unwrap();
    gateway.signal("HUP");
    wait_for("the reload", async || (gateway.reloads() > 0).then_some(())).await;
    gateway.get("/nothing", "x").await;
    first.spans(1, |_| true).await;
    second.spans(1, |_| true).await;
    assert_eq!((first.count(), second.count()), (1, 1));
}
