//! Mixed load while everything around the gateway fails in turn: no request notices more than it must, and nothing is left behind.
//!
//! Two rounds in every run; `SOAK_MINUTES=60` goes on for as long as that, and prints what it found.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::harness::client::Connection;
use crate::harness::crowd::{Crowd, Tally};
use crate::harness::footprint::Footprint;
use crate::harness::gateway::{Gateway, counting_in};
use crate::harness::redis::Redis;
use crate::harness::server::Server;
use crate::harness::token::token;
use crate::reloading::reload;

const CLIENTS: usize = 4;
const PACE: Duration = Duration::from_millis(10);

/// What the gateway stands between.
struct Surroundings {
    servers: Vec<Server>,
    redis: Option<Redis>,
    port: u16,
}

/// Everything fails once, and comes back.
async fn round(gateway: &Gateway, around: &mut Surroundings, crowd: &Crowd, config: &str, number: usize) {
    let address = around.servers[number % 3].address;
    around.servers[number % 3].kill();
    crowd.more(60).await;
    around.servers[number % 3] = Server::start_on(address).await;
    crowd.more_by(address, 5).await;
    drop(around.redis.take());
    crowd.more(60).await;
    around.redis = Some(Redis::start_on(around.port).await);
    gateway.counted_again(&token("again", "contacts")).await;
    reload(gateway, &config.replace("response: 2s", &format!("response: {}s", 2 + number % 3)), number).await;
    hostile_clients(gateway.address).await;
    crowd.more(60).await;
}

/// Some who send half of something and stay, or go in the middle of it, or are refused.
async fn hostile_clients(address: SocketAddr) {
    let good = token("hostile", "contacts");
    for text in [
        "GET /api/v1/contacts HTTP/1.1\r\nHo".to_owned(),
        format!(
            "POST /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {good}\r\nContent-Length: 9\r\n\r\nhalf"
        ),
        "GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer mb_unknown\r\n\r\n".to_owned(),
        "\0\0\0\0\r\n\r\n".to_owned(),
    ] {
        for _ in 0..5 {
            let mut connection = Connection::open(address).await;
            connection.write(text.as_bytes()).await;
        }
    }
}

/// A server that is killed takes with it what it has been sent and has not answered: of the requests that may not be sent again, those.
fn assert_explained(reads: &Tally, writes: &Tally, rounds: usize) {
    assert_eq!(reads.failed(), 0, "{}", reads.summary());
    assert!(writes.failed() <= rounds * CLIENTS && writes.cut == 0, "{}", writes.summary());
    assert!(writes.refused.keys().all(|status| *status == 502), "{}", writes.summary());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_everything_around_it_fails_in_turn_the_gateway_goes_on_and_keeps_nothing() {
    let minutes = std::env::var("SOAK_MINUTES").ok().map(|minutes| minutes.parse().expect("minutes"));
    let ends = Instant::now() + Duration::from_secs(60 * minutes.unwrap_or(0));
    let redis = Redis::start().await;
    let (url, port) = (redis.url(), redis.port());
    let servers = vec![Server::start().await, Server::start().await, Server::start().await];
    let addresses = servers.iter().map(|server| format!("\"{}\"", server.address)).collect::<Vec<_>>().join(", ");
    let limits = "contacts: {requests: 100000000, per: 1m, on_store_failure: local}";
    let config = counting_in(&url, "deadline: 100ms", servers[0].address, limits)
        .replace(&format!("\"{}\"]", servers[0].address), &format!("{addresses}], eject: {{failures: 5, for: 200ms}}"));
    let gateway = Gateway::start(&config).await;
    let mut around = Surroundings { servers, redis: Some(redis), port };
    let reads = Crowd::start(gateway.address, CLIENTS, "GET", PACE);
    let writes = Crowd::start(gateway.address, CLIENTS, "POST", PACE);
    let (mut rounds, mut early) = (0, Vec::<Footprint>::new());
    while rounds < 2 || Instant::now() < ends {
        rounds += 1;
        round(&gateway, &mut around, &reads, &config, rounds).await;
        early.push(gateway.footprint());
    }
    let (first, last) = (early[early.len() / 10], gateway.footprint());
    let (reads, writes) = (reads.end().await, writes.end().await);
    assert_explained(&reads, &writes, rounds);
    if minutes.is_some() {
        println!("{rounds} rounds\nGET {}\nPOST {}\nearly {first:?}\nlate {last:?}", reads.summary(), writes.summary());
    }
    assert_eq!(last.threads, first.threads, "{first:?} {last:?}");
    assert!(last.files <= first.files + 20 && last.resident <= first.resident + (8 << 10), "{first:?} {last:?}");
}
