//! Backends at their worst, under load: how many requests notice.
//!
//! Every request has a path of its own and is answered with it, so that an answer that reaches the wrong client is noticed too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::balancing::gateway;
use crate::harness::backend::{read_head, scripted};
use crate::harness::crowd::Crowd;
use crate::harness::gateway::Gateway;
use crate::harness::server::Server;
use crate::harness::wait_for;

const CLIENTS: usize = 12;
/// After so many failures in a row a server is left out.
const IN_A_ROW: usize = 5;

/// Answers the requests on a connection with their paths, as a good backend.
async fn answer(mut stream: TcpStream) {
    let name = stream.local_addr().unwrap().port();
    loop {
        let head = String::from_utf8(read_head(&mut stream).await).unwrap();
        let Some(target) = head.split(' ').nth(1) else { return };
        let answer =
            format!("HTTP/1.1 200 OK\r\nX-Answered-By: {name}\r\nContent-Length: {}\r\n\r\n{target}", target.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn good() -> SocketAddr {
    scripted(answer).await
}

/// A gateway in front of two good servers and `bad`, and a crowd.
async fn under_load(bad: SocketAddr, settings: &str) -> (Gateway, Crowd) {
    let servers = [good().await, bad, good().await].map(|server| server.to_string());
    let gateway = gateway(&servers, settings).await;
    let crowd = Crowd::start(gateway.address, CLIENTS, "GET", Duration::ZERO);
    (gateway, crowd)
}

/// Waits until a server has been left out.
async fn ejected(gateway: &Gateway) {
    let series = r#"gateway_upstream_ejections_total{upstream="main"}"#;
    wait_for("the ejection", async || (gateway.metric(series).await >= 1.0).then_some(())).await;
}

/// Three servers that are processes, a gateway in front of them, and a crowd that all of them have served.
async fn in_front_of_processes(method: &'static str, settings: &str) -> ([Server; 3], Gateway, Crowd) {
    let servers = [Server::start().await, Server::start().await, Server::start().await];
    let addresses = servers.each_ref().map(|server| server.address.to_string());
    let gateway = gateway(&addresses, settings).await;
    let crowd = Crowd::start(gateway.address, CLIENTS, method, Duration::ZERO);
    for server in &servers {
        crowd.more_by(server.address, 20).await;
    }
    (servers, gateway, crowd)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_servers_is_killed_and_comes_back_and_no_request_notices() {
    let (mut servers, _gateway, crowd) = in_front_of_processes("GET", "eject: {failures: 5, for: 200ms}").await;
    for _ in 0..3 {
        let address = servers[1].address;
        servers[1].kill();
        crowd.more(300).await;
        servers[1] = Server::start_on(address).await;
        crowd.more_by(address, 20).await;
    }
    let tally = crowd.end().await;
    assert_eq!(tally.failed(), 0, "{}", tally.summary());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_server_may_have_done_is_not_done_again() {
    let (mut servers, _gateway, crowd) = in_front_of_processes("POST", "").await;
    servers[1].kill();
    crowd.more(300).await;
    let tally = crowd.end().await;
    let asked: Vec<(String, usize)> = servers.iter().flat_map(Server::asked).collect();
    let different: std::collections::BTreeSet<&String> = asked.iter().map(|(target, _)| target).collect();
    assert!(asked.iter().all(|(_, times)| *times == 1) && different.len() == asked.len(), "none was asked for twice");
    // Those that were with it when it died: nobody can say whether it had carried them out.
    assert!(tally.failed() <= CLIENTS && tally.cut == 0, "{}", tally.summary());
    assert!(tally.refused.keys().all(|status| *status == 502), "{}", tally.summary());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_accepts_and_never_answers_costs_those_that_it_has_and_no_more() {
    let silent = scripted(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let (gateway, crowd) = under_load(silent, "timeouts: {connect: 1s, response: 300ms}").await;
    ejected(&gateway).await;
    crowd.more(1000).await;
    let tally = crowd.end().await;
    assert!(tally.refused.keys().all(|status| *status == 504) && tally.cut == 0, "{}", tally.summary());
    assert!((IN_A_ROW..IN_A_ROW + CLIENTS).contains(&tally.failed()), "{}", tally.summary());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_instead_of_an_answer_is_noticed_by_no_request_that_may_be_sent_again() {
    const GARBAGE: [&[u8]; 10] = [
        b"",
        b"\0\0\0\0\0\0\0\0",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5",
        b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nno field\r\n\r\n",
        b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ];
    let turn = Arc::new(AtomicUsize::new(0));
    let bad = scripted(move |mut stream| {
        let turn = Arc::clone(&turn);
        async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(GARBAGE[turn.fetch_add(1, Ordering::SeqCst) % GARBAGE.len()]).await;
        }
    })
    .await;
    let (gateway, crowd) = under_load(bad, "eject: {failures: 5, for: 100ms}").await;
    ejected(&gateway).await;
    // It is tried again and again, and left out for longer each time.
    crowd.more(3000).await;
    let tally = crowd.end().await;
    assert_eq!(tally.failed(), 0, "{}", tally.summary());
}

/// A server that resets each connection in the middle of a success.
async fn breaking() -> SocketAddr {
    scripted(|mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{\"success\":true,").await;
        stream.set_zero_linger().unwrap();
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_reset_in_its_middle_is_cut_for_its_own_client_alone() {
    let bad = breaking().await;
    let (_gateway, crowd) = under_load(bad, "").await;
    crowd.more(1000).await;
    let tally = crowd.end().await;
    assert!(tally.refused.is_empty() && tally.cut > 0, "{}", tally.summary());
    assert_eq!(tally.whole.len(), 2, "by the two that are well, each answer whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_resets_in_the_middle_of_its_answers_is_left_out_after_a_few() {
    let bad = breaking().await;
    let (gateway, crowd) = under_load(bad, "").await;
    ejected(&gateway).await;
    crowd.more(1000).await;
    let tally = crowd.end().await;
    assert!(tally.refused.is_empty(), "{}", tally.summary());
    assert!((IN_A_ROW..IN_A_ROW + CLIENTS).contains(&tally.cut), "{}", tally.summary());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_and_goes_five_times_a_second_is_noticed_by_no_request() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = first.local_addr().unwrap();
    let flapping = tokio::spawn(async move {
        let mut listener = Some(first);
        for _ in 0..20 {
            let here = match listener.take() {
                Some(listener) => listener,
                None => TcpListener::bind(address).await.unwrap(),
            };
            let mut connections = JoinSet::new();
            let serving = async {
                while let Ok((stream, _)) = here.accept().await {
                    connections.spawn(answer(stream));
                }
            };
            let _ = tokio::time::timeout(Duration::from_millis(200), serving).await;
            // The listener and all connections close at once, whatever is on them.
            drop((here, connections));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let (_gateway, crowd) = under_load(address, "eject: {failures: 5, for: 100ms}").await;
    crowd.more_by(address, 1).await;
    flapping.await.unwrap();
    let tally = crowd.end().await;
    assert_eq!(tally.failed(), 0, "{}", tally.summary());
    assert!(tally.whole[&address.port().to_string()] > 10, "it served when it was there: {}", tally.summary());
}
