//! A connection that is no longer HTTP: octets pass both ways until one side has enough, or nothing comes for too long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::time::{Instant, sleep_until};

use crate::proxy::channel::Channel;

const ROOM: usize = 16 << 10;

/// How many octets have passed, and when the last did.
#[derive(Debug)]
struct Traffic {
    began: Instant,
    last: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

/// What has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Passed {
    /// From the client.
    pub up: u64,
    /// To the client.
    pub down: u64,
}

/// Passes octets between two connections, those that were read already first, until both sides have ended, one breaks, or none comes
/// for `idle`.
pub(super) async fn pass<C, S>(client: &mut Channel<C>, server: &mut Channel<S>, idle: Duration) -> Passed
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let traffic = Traffic { began: Instant::now(), last: 0.into(), up: 0.into(), down: 0.into() };
    let (from_client, from_server) = (std::mem::take(&mut client.read), std::mem::take(&mut server.read));
    let ((client_reads, client_writes), (server_reads, server_writes)) =
        (split(client.stream()), split(server.stream()));
    let up = pump(from_client, client_reads, server_writes, &traffic, &traffic.up);
    let down = pump(from_server, server_reads, client_writes, &traffic, &traffic.down);
    tokio::select! {
        _ = async { tokio::try_join!(up, down) } => {}
        () = silence(&traffic, idle) => {}
    }
    Passed { up: traffic.up.load(Ordering::Relaxed), down: traffic.down.load(Ordering::Relaxed) }
}

/// One direction, to its end, which is passed on as well.
async fn pump(
    mut waiting: BytesMut,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    traffic: &Traffic,
    passed: &AtomicU64,
) -> std::io::Result<()> {
    loop {
        if !waiting.is_empty() {
            passed.fetch_add(waiting.len() as u64, Ordering::Relaxed);
            to.write_all(&waiting).await?;
            to.flush().await?;
            waiting.clear();
        }
        waiting.reserve(ROOM);
        if from.read_buf(&mut waiting).await? == 0 {
            return to.shutdown().await;
        }
        traffic.note();
    }
}

/// Ends when nothing has passed for `idle`.
async fn silence(traffic: &Traffic, idle: Duration) {
    loop {
        let over = traffic.last() + idle;
        if over <= Instant::now() {
            return;
        }
        sleep_until(over).await;
    }
}

impl Traffic {
    fn note(&self) {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::duplex;

    #[tokio::test]
    async fn octets_pass_both_ways_and_an_end_is_passed_on() {
        let (mut client, ours) = duplex(64);
        let (mut server, theirs) = duplex(64);
        let passing = tokio::spawn(async {
            let mut early = Channel::begun(ours, BytesMut::from(&b"early "[..]));
            pass(&mut early, &mut Channel::new(theirs), Duration::from_secs(60)).await
        });
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut read = String::new();
        server.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "early hello");
        server.write_all(b"bye").await.unwrap();
        drop(server);
        let mut read = String::new();
        client.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "bye");
        assert_eq!(passing.await.unwrap(), Passed { up: 11, down: 3 });
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_for_too_long_is_left() {
        let (mut client, ours) = duplex(64);
        let (_server, theirs) = duplex(64);
        let passing = tokio::spawn(async {
            pass(&mut Channel::new(ours), &mut Channel::new(theirs), Duration::from_secs(60)).await
        });
        tokio::time::sleep(Duration::from_secs(59)).await;
        client.write_all(b"x").await.unwrap();
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert!(!passing.is_finished());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(passing.await.unwrap(), Passed { up: 1, down: 0 });
    }
}
