//! A wire in front of a server that can be slow, and that can swallow everything without a word.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// A running wire. It goes on until the test ends.
pub struct Wire {
    /// Where to connect instead of to the server.
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    swallows: AtomicBool,
    delay_ms: AtomicU64,
    opened: AtomicU64,
}

impl Wire {
    /// Starts one to a server on this machine.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<State>::default();
        let known = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                known.opened.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(join(client, port, Arc::clone(&known)));
            }
        });
        Self { address, state }
    }

    /// From now on, or no longer, nothing arrives. A connection that has lost something by it never works again.
    pub fn swallow(&self, swallows: bool) {
        self.state.swallows.store(swallows, Ordering::SeqCst);
    }

    /// How long everything takes, each way.
    pub fn delay(&self, delay: Duration) {
        self.state.delay_ms.store(delay.as_millis().try_into().unwrap(), Ordering::SeqCst);
    }

    /// How many connections were made.
    pub fn opened(&self) -> u64 {
        self.state.opened.load(Ordering::SeqCst)
    }
}

async fn join(client: TcpStream, port: u16, state: Arc<State>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let is_dead = Arc::<AtomicBool>::default();
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::spawn(carry(from_server, to_client, Arc::clone(&state), Arc::clone(&is_dead)));
    carry(from_client, to_server, state, is_dead).await;
}

/// Carries bytes one way, as late as they are to be.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: Arc<State>, is_dead: Arc<AtomicBool>) {
    let (late, mut due) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((at, bytes)) = due.recv().await {
            sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut chunk = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut chunk).await {
        is_dead.fetch_or(state.swallows.load(Ordering::SeqCst), Ordering::SeqCst);
        let delay = Duration::from_millis(state.delay_ms.load(Ordering::SeqCst));
        if !is_dead.load(Ordering::SeqCst) && late.send((Instant::now() + delay, chunk[..length].to_vec())).is_err() {
            return;
        }
    }
}
