//! Whoever is asked about tokens elsewhere: with a deadline, measured, and told of once when it fails and once when it is back.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder};
use tokio::time::timeout;

use crate::ports::LookUpError;
use crate::telemetry::metrics::Metrics;

/// The longest answer that is read.
const MAX_ANSWER: usize = 64 << 10;

/// A store or service by the name that metrics have for it.
pub(super) struct Remote {
    name: &'static str,
    operation: &'static str,
    deadline: Duration,
    is_failing: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Remote {
    pub(super) fn new(name: &'static str, operation: &'static str, deadline: Duration, metrics: Arc<Metrics>) -> Self {
        Self { name, operation, deadline, is_failing: AtomicBool::new(false), metrics }
    }

    /// Waits for the answer to a question, until the deadline.
    pub(super) async fn ask<T, E: fmt::Display>(
        &self,
        question: impl Future<Output = Result<T, E>>,
    ) -> Result<T, LookUpError> {
        let began = Instant::now();
        let answer = match timeout(self.deadline, question).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        };
        let was_failing = self.is_failing.swap(answer.is_err(), Ordering::Relaxed);
        self.metrics.store_up(self.name, answer.is_ok());
        match &answer {
            Ok(_) => {
                self.metrics.store_answered(self.name, self.operation, began.elapsed());
                if was_failing {
                    tracing::info!(store = self.name, "answers again");
                }
            }
            Err(why) => {
                self.metrics.store_failed(self.name, self.operation);
                if !was_failing {
                    tracing::error!(store = self.name, operation = self.operation, "does not answer: {why}");
                }
            }
        }
        answer.map_err(LookUpError::Unavailable)
    }
}

/// A client that trusts what the machine trusts and waits `timeout` for a whole answer.
pub(super) fn http_client(timeout: Duration) -> Client {
    crate::tls::install_provider();
    let builder = Client::builder().timeout(timeout).connect_timeout(timeout).redirect(Policy::none()).no_proxy();
    // Fails only without a TLS provider.
    builder.user_agent(concat!("mailtrixy-gateway/", env!("CARGO_PKG_VERSION"))).build().unwrap_or_default()
}

/// Sends a request and reads the body of a 200; anything else is an error, told without a word of what was sent or received.
pub(super) async fn http_answer(request: RequestBuilder) -> Result<Vec<u8>, String> {
    let said = |error: reqwest::Error| match () {
        () if error.is_timeout() => "no answer in time".to_owned(),
        () if error.is_connect() => "cannot connect".to_owned(),
        () => "the answer broke off".to_owned(),
    };
    let mut response = request.send().await.map_err(said)?;
    if response.status() != StatusCode::OK {
        return Err(format!("answered {}", response.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(said)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(format!("answered with more than {MAX_ANSWER} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
