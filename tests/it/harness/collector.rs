//! A collector that takes spans over OTLP/HTTP and decodes them by the published schema.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{Span as Wire, span::SpanKind};
use prost::Message as _;
use tokio::net::TcpListener;

use super::wait_for;

/// What a delivery is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Taken.
    Taken,
    /// A status, and the spans are thrown away.
    Status(u16),
    /// Nothing, ever.
    Silence,
}

/// A running collector. It goes on until the test ends.
pub struct Collector {
    /// Where it listens.
    pub address: SocketAddr,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    deliveries: usize,
    octets: Vec<u8>,
    resource: Vec<KeyValue>,
    authorization: Option<String>,
    spans: Vec<Span>,
}

/// A span as it was delivered.
#[derive(Clone, Debug)]
pub struct Span(Wire);

impl Collector {
    /// Takes everything.
    pub async fn start() -> Self {
        Self::answering(|_| Answer::Taken).await
    }

    /// Answers each delivery, counted from 0, as `answer` says.
    pub async fn answering(answer: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (taken, answer) = (Arc::<Mutex<Taken>>::default(), Arc::new(answer));
        let all = Arc::clone(&taken);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (all, answer) = (Arc::clone(&all), Arc::clone(&answer));
                let service = service_fn(move |request| take(request, Arc::clone(&all), Arc::clone(&answer)));
                let server = hyper::server::conn::http1::Builder::new();
                tokio::spawn(async move { drop(server.serve_connection(TokioIo::new(stream), service).await) });
            }
        });
        Self { address, taken }
    }

    /// The section of gateway.yaml that sends spans here.
    pub fn section(&self, tracing: &str) -> String {
        format!("observability: {{tracing: {{otlp: \"http://{}\", {tracing}}}}}\n", self.address)
    }

    /// The spans that `wanted` takes, as soon as there are `count`, in the order of their beginning.
    pub async fn spans(&self, count: usize, wanted: impl Fn(&Span) -> bool) -> Vec<Span> {
        let mut spans = wait_for("spans", async || {
            let spans: Vec<Span> = self.taken().spans.iter().filter(|span| wanted(span)).cloned().collect();
            (spans.len() >= count).then_some(spans)
        })
        .await;
        spans.sort_by_key(|span| (span.0.start_time_unix_nano, span.kind() != SpanKind::Server));
        spans
    }

    /// The spans of the request with this id.
    pub async fn trace(&self, request_id: &str) -> Vec<Span> {
        let is_it = |span: &Span| span.attribute("gateway.request_id").as_deref() == Some(request_id);
        let trace = self.spans(1, is_it).await[0].trace();
        self.spans(1, |span| span.trace() == trace).await
    }

    /// How often something was delivered, taken or not.
    pub fn deliveries(&self) -> usize {
        self.taken().deliveries
    }

    /// How many spans it has.
    pub fn count(&self) -> usize {
        self.taken().spans.len()
    }

    /// An attribute of who delivers.
    pub fn resource(&self, name: &str) -> Option<String> {
        attribute(&self.taken().resource, name)
    }

    /// How who delivers has said who it is.
    pub fn authorization(&self) -> Option<String> {
        self.taken().authorization.clone()
    }

    /// Whether this stands anywhere in what was delivered.
    pub fn has_seen(&self, text: &str) -> bool {
        self.taken().octets.windows(text.len()).any(|window| window == text.as_bytes())
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap()
    }
}

async fn take(
    request: Request<Incoming>,
    all: Arc<Mutex<Taken>>,
    answer: Arc<impl Fn(usize) -> Answer>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/v1/traces"));
    assert_eq!(request.headers()["content-type"], "application/x-protobuf");
    let authorization = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let number = {
        let mut all = all.lock().unwrap();
        all.authorization = authorization;
        all.deliveries += 1;
        all.deliveries - 1
    };
    let status = match answer(number) {
        Answer::Silence => std::future::pending().await,
        Answer::Status(status) => status,
        Answer::Taken => {
            all.lock().unwrap().add(&body);
            200
        }
    };
    let mut response = Response::new(Full::default());
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    Ok(response)
}

impl Taken {
    /// A delivery goes in whole.
    fn add(&mut self, body: &[u8]) {
        self.octets.extend(body);
        for by_resource in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
            self.resource = by_resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let spans = by_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.extend(spans.map(Span));
        }
    }
}

fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let mut found = attributes.iter().filter(|attribute| attribute.key == name);
    let value = found.next()?.value.clone();
    assert!(found.next().is_none(), "{name} is there twice");
    match value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => Some(text),
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => Some(number.to_string()),
        other => panic!("{name} is {other:?}"),
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

impl Span {
    /// Its trace, in hexadecimal digits.
    pub fn trace(&self) -> String {
        hex(&self.0.trace_id)
    }

    /// Its own id.
    pub fn id(&self) -> String {
        hex(&self.0.span_id)
    }

    /// Its parent's id, empty where there is none.
    pub fn parent(&self) -> String {
        hex(&self.0.parent_span_id)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its kind.
    pub fn kind(&self) -> SpanKind {
        self.0.kind()
    }

    /// An attribute as text.
    pub fn attribute(&self, name: &str) -> Option<String> {
        attribute(&self.0.attributes, name)
    }

    /// Its events by name.
    pub fn events(&self) -> Vec<&str> {
        self.0.events.iter().map(|event| event.name.as_str()).collect()
    }

    /// What went wrong, where its status is an error.
    pub fn error(&self) -> Option<String> {
        let status = self.0.status.as_ref().filter(|status| status.code == 2);
        status.map(|status| status.message.clone())
    }

    /// Whether it begins and ends, events included, within another.
    pub fn is_within(&self, other: &Self) -> bool {
        let (from, to) = (other.0.start_time_unix_nano, other.0.end_time_unix_nano);
        let events = self.0.events.iter().map(|event| event.time_unix_nano);
        let mut times = events.chain([self.0.start_time_unix_nano, self.0.end_time_unix_nano]);
        times.all(|time| (from..=to).contains(&time)) && self.0.start_time_unix_nano <= self.0.end_time_unix_nano
    }
}
