//! Clients that go on whatever they are answered, and what that was.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::client::Connection;
use super::token::token;
use super::wait_for;

/// Clients, each with a connection that it keeps. Every request has a path of its own, which a good backend answers with.
pub struct Crowd {
    clients: Vec<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
}

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answered with 200 and their own path, by whom (`X-Answered-By`).
    pub whole: BTreeMap<String, usize>,
    /// Answered with another status.
    pub refused: BTreeMap<u16, usize>,
    /// Answered with a closed connection.
    pub cut: usize,
    /// How long each answer took.
    pub waits: Vec<Duration>,
}

impl Tally {
    /// How many had the answer they ought to have.
    pub fn good(&self) -> usize {
        self.whole.values().sum()
    }

    /// How many had not.
    pub fn failed(&self) -> usize {
        self.cut + self.refused.values().sum::<usize>()
    }

    /// What became of them, without their times.
    pub fn summary(&self) -> String {
        format!("good {:?}, refused {:?}, cut {}", self.whole, self.refused, self.cut)
    }
}

impl Crowd {
    /// So many clients of `address`, each of which sends its requests one after the other, no sooner than `pace` after each other.
    pub fn start(address: SocketAddr, clients: usize, method: &'static str, pace: Duration) -> Self {
        let (is_over, tally) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Tally>>::default());
        let token = token("crowd", "contacts");
        let client = |number| {
            let (is_over, tally, token) = (Arc::clone(&is_over), Arc::clone(&tally), token.clone());
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                let mut turns = (pace > Duration::ZERO).then(|| tokio::time::interval(pace));
                for turn in 0.. {
                    if let Some(turns) = &mut turns {
                        turns.tick().await;
                    }
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    let path = format!("/api/v1/contacts/{number}-{turn}");
                    if !ask(&mut connection, method, &path, &token, &tally).await {
                        connection = Connection::open(address).await;
                    }
                }
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { clients, is_over, tally }
    }

    /// Waits until so many more have been answered well.
    pub async fn more(&self, count: usize) {
        let good = || self.tally.lock().unwrap().good();
        let before = good();
        wait_for("answers", || std::future::ready((good() >= before + count).then_some(()))).await;
    }

    /// Waits until this server has answered so many more.
    pub async fn more_by(&self, server: SocketAddr, count: usize) {
        let name = server.port().to_string();
        let good = || self.tally.lock().unwrap().whole.get(&name).copied().unwrap_or_default();
        let before = good();
        wait_for("answers of a server", || std::future::ready((good() >= before + count).then_some(()))).await;
    }

    /// Ends it.
    pub async fn end(self) -> Tally {
        self.is_over.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.await.unwrap();
        }
        let tally = self.tally.lock().unwrap();
        tally.clone()
    }
}

/// One request; whether its connection can be used again.
async fn ask(connection: &mut Connection, method: &str, path: &str, token: &str, tally: &Mutex<Tally>) -> bool {
    let length = if method == "GET" { "" } else { "Content-Length: 0\r\n" };
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{length}\r\n");
    let asked_at = Instant::now();
    let answer = connection.request(&request).await;
    let mut tally = tally.lock().unwrap();
    tally.waits.push(asked_at.elapsed());
    let Some(answer) = answer else {
        tally.cut += 1;
        return false;
    };
    if answer.status == 200 {
        assert_eq!(answer.text(), path, "somebody else's answer");
        let by = answer.header("x-answered-by").unwrap_or_default().to_owned();
        *tally.whole.entry(by).or_default() += 1;
    } else {
        *tally.refused.entry(answer.status).or_default() += 1;
    }
    answer.header("connection") != Some("close")
}
