//! Requests at an even pace, and what became of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::client::{Connection, Response};

/// Clients that go on until they are stopped.
pub struct Load {
    clients: Vec<JoinHandle<Vec<Answered>>>,
    is_over: Arc<AtomicBool>,
}

/// One request and its answer.
pub struct Answered {
    /// Which of the gateways it was sent to.
    pub gateway: usize,
    /// Which of the tokens it was sent with.
    pub token: usize,
    /// When its answer came.
    pub at: Instant,
    /// How long the answer took, as its client saw it.
    pub took: Duration,
    /// The answer.
    pub response: Response,
}

impl Load {
    /// Starts one client for each gateway and token, which sends a request to /contacts every `pace`.
    pub fn start(gateways: &[SocketAddr], tokens: &[String], pace: Duration) -> Self {
        let is_over = Arc::<AtomicBool>::default();
        let mut clients = Vec::new();
        for (to, gateway) in gateways.iter().enumerate() {
            for (with, token) in tokens.iter().enumerate() {
                let request =
                    format!("GET /api/v1/contacts HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\r\n");
                clients.push(tokio::spawn(client(*gateway, (to, with), request, pace, Arc::clone(&is_over))));
            }
        }
        Self { clients, is_over }
    }

    /// Ends it.
    pub async fn stop(self) -> Vec<Answered> {
        self.is_over.store(true, Ordering::SeqCst);
        let mut answered = Vec::new();
        for client in self.clients {
            answered.extend(client.await.unwrap());
        }
        answered
    }
}

async fn client(
    address: SocketAddr,
    (gateway, token): (usize, usize),
    request: String,
    pace: Duration,
    is_over: Arc<AtomicBool>,
) -> Vec<Answered> {
    let mut connection = Connection::open(address).await;
    let mut answered = Vec::new();
    let mut turns = tokio::time::interval(pace);
    while !is_over.load(Ordering::SeqCst) {
        turns.tick().await;
        let asked_at = Instant::now();
        let response = connection.request(&request).await.expect("an answer");
        answered.push(Answered { gateway, token, at: Instant::now(), took: asked_at.elapsed(), response });
    }
    answered
}

/// How many were answered with this status.
pub fn with_status(answered: &[Answered], status: u16) -> usize {
    answered.iter().filter(|answered| answered.response.status == status).count()
}

/// The longest wait.
pub fn longest(answered: &[Answered]) -> Duration {
    answered.iter().map(|answered| answered.took).max().unwrap_or_default()
}

/// How many answers blame the gateway or the backend.
pub fn failed(answered: &[Answered]) -> usize {
    answered.iter().filter(|answered| answered.response.status >= 500).count()
}
