//! The admin listener: /metrics, /livez and /readyz, for Prometheus and whoever restarts the process, and the console for people. Never
//! public. What `explain --admin` asks is beside them in [`explain`].

pub mod console;
mod explain;

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::watch;

use crate::admin::console::Console;
use crate::proxy::snapshot::Live;
use crate::telemetry::log::Log;
use crate::telemetry::metrics::Metrics;

const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const TEXT: &str = "text/plain; charset=utf-8";
/// The text format of Prometheus.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the admin listener tells about.
#[derive(Clone)]
pub struct Health {
    /// The configuration in force.
    pub live: Arc<Live>,
    /// True from the signal to end on.
    pub draining: watch::Receiver<bool>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// For how many lines were dropped.
    pub log: Arc<Log>,
    /// The page for people.
    pub console: Arc<Console>,
}

/// Serves `listener` for as long as it is polled.
pub async fn serve(listener: TcpListener, health: Health) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("the admin listener cannot be served: {error}"),
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let health = health.clone();
                let service = service_fn(move |request| {
                    let health = health.clone();
                    async move { Ok::<_, Infallible>(health.answer(&request).await) }
                });
                let mut server = hyper::server::conn::http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
                // A scraper that breaks off is its own affair.
                tokio::spawn(async move { drop(server.serve_connection(TokioIo::new(stream), service).await) });
            }
            // Out of file descriptors: they come back.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

impl Health {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        }
        match request.uri().path() {
            "/metrics" => {
                self.metrics.log_lines_dropped(self.log.newly_dropped());
                answer(StatusCode::OK, METRICS, self.metrics.render().into())
            }
            "/livez" => text(StatusCode::OK, "alive\n"),
            "/readyz" if *self.draining.borrow() => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            "/readyz" if !self.live.load().is_ready() => {
                text(StatusCode::SERVICE_UNAVAILABLE, "no upstream has a healthy server\n")
            }
            "/readyz" => text(StatusCode::OK, "ready\n"),
            "/explain" => explain::answer(&self.live.load(), request.uri().query()).await,
            "/" => self.page(),
            _ => text(StatusCode::NOT_FOUND, "not found\n"),
        }
    }

    fn page(&self) -> Response<Full<Bytes>> {
        self.metrics.log_lines_dropped(self.log.newly_dropped());
        self.console.page().unwrap_or_else(|| text(StatusCode::OK, "/metrics\n/livez\n/readyz\n"))
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    answer(status, TEXT, Bytes::from_static(body.as_bytes()))
}

fn answer(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
