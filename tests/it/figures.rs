//! Measures what faults of Redis cost, for the release notes: `cargo nextest run --release --run-ignored only figures --no-capture -j 1`.
//!
//! Two gateways, 400 requests a second for ten seconds, the fault begins after two. Half of the requests are of one workspace, whose
//! limit is used up after about three seconds; the rest never use theirs up. A window is longer than the run.

use std::time::{Duration, Instant};

use crate::harness::backend::Backend;
use crate::harness::gateway::{Gateway, counting_in};
use crate::harness::groups::Watched;
use crate::harness::load::{Answered, Load, failed, longest, with_status};
use crate::harness::proxy::Wire;
use crate::harness::redis::Redis;
use crate::harness::token::token;
use crate::harness::wait_for;

const LIMIT: usize = 1_000;

/// A run that goes on.
struct Run {
    gateways: Vec<Gateway>,
    load: Load,
    began: Instant,
}

/// What is measured of a fault.
struct Fault {
    name: &'static str,
    ended: Instant,
}

impl Run {
    async fn start(url: &str, redis: &str) -> Self {
        let backend = Backend::start().await;
        let config = counting_in(url, redis, backend.address, &format!("contacts: {{requests: {LIMIT}, per: 1m}}"));
        let mut gateways = Vec::new();
        for _ in 0..2 {
            let gateway = Gateway::start(&config).await;
            gateway.log_lines(1, |line| line["message"] == "connected to Redis").await;
            gateways.push(gateway);
        }
        // Each says every five seconds that it is there, and is told how many there are.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let mut tokens = vec![token("bounded", "contacts"); 5];
        tokens.extend((0..5).map(|n| token(&format!("free{n}"), "contacts")));
        let addresses: Vec<_> = gateways.iter().map(|gateway| gateway.address).collect();
        let load = Load::start(&addresses, &tokens, Duration::from_millis(50));
        let run = Self { gateways, load, began: Instant::now() };
        tokio::time::sleep(Duration::from_secs(2)).await;
        run
    }

    /// Waits until both gateways count in Redis again, goes on to the tenth second, and prints the line of the table.
    #[expect(clippy::print_stdout, reason = "what it measures is read by people")]
    async fn finish(self, Fault { name, ended }: Fault) {
        for gateway in &self.gateways {
            let before = gateway.decided_by("store").await;
            wait_for("Redis to count again", async || (gateway.decided_by("store").await > before).then_some(())).await;
        }
        let recovery = ended.elapsed();
        tokio::time::sleep(Duration::from_secs(10).saturating_sub(self.began.elapsed())).await;
        let answered = self.load.stop().await;
        let bounded: Vec<&Answered> = answered.iter().filter(|answered| answered.token < 5).collect();
        let admitted = bounded.iter().filter(|answered| answered.response.status == 200).count();
        let mut waits: Vec<Duration> = answered.iter().map(|answered| answered.took).collect();
        waits.sort();
        println!(
            "| {name} | {} | {:.1} ms | {:.1} ms | {} | {:.2} s | {admitted} of {LIMIT} | {} |",
            answered.len(),
            longest(&answered).as_secs_f64() * 1e3,
            waits[waits.len() * 99 / 100].as_secs_f64() * 1e3,
            failed(&answered),
            recovery.as_secs_f64(),
            with_status(&answered, 200) + with_status(&answered, 429) == answered.len(),
        );
    }
}

fn ended(name: &'static str) -> Fault {
    Fault { name, ended: Instant::now() }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

const LONG: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn figures_for_the_release_notes() {
    let redis = Redis::start().await;
    let run = Run::start(&redis.url(), "").await;
    run.finish(ended("none")).await;

    redis.command::<()>(&["FLUSHALL"]).await;
    let run = Run::start(&redis.url(), "").await;
    let port = redis.port();
    drop(redis);
    pass(LONG).await;
    let redis = Redis::start_on(port).await;
    run.finish(ended("kill -9, empty after 3 s")).await;

    redis.command::<()>(&["FLUSHALL"]).await;
    let run = Run::start(&redis.url(), "").await;
    redis.signal("STOP");
    pass(LONG).await;
    redis.signal("CONT");
    run.finish(ended("SIGSTOP for 3 s")).await;

    redis.command::<()>(&["FLUSHALL"]).await;
    let wire = Wire::to(redis.port()).await;
    let run = Run::start(&format!("redis://{}", wire.address), "").await;
    wire.swallow(true);
    pass(LONG).await;
    wire.swallow(false);
    run.finish(ended("packets dropped for 3 s")).await;

    redis.command::<()>(&["FLUSHALL"]).await;
    let run = Run::start(&redis.url(), "").await;
    let other = Redis::start().await;
    redis.command::<()>(&["REPLICAOF", "127.0.0.1", &other.port().to_string()]).await;
    pass(LONG).await;
    redis.command::<()>(&["REPLICAOF", "NO", "ONE"]).await;
    run.finish(ended("demoted for 3 s, emptied by it")).await;

    redis.command::<()>(&["FLUSHALL"]).await;
    let run = Run::start(&redis.url(), "").await;
    for _ in 0..30 {
        redis.command::<()>(&["SCRIPT", "FLUSH"]).await;
        pass(LONG / 30).await;
    }
    run.finish(ended("SCRIPT FLUSH every 100 ms for 3 s")).await;

    redis.command::<()>(&["FLUSHALL"]).await;
    redis.command::<()>(&["ACL", "SETUSER", "gateway", "on", ">right", "~*", "&*", "+@all"]).await;
    let run = Run::start(&format!("redis://gateway:right@127.0.0.1:{}", redis.port()), "").await;
    redis.command::<()>(&["ACL", "SETUSER", "gateway", "resetpass", ">wrong"]).await;
    redis.command::<()>(&["CLIENT", "KILL", "USER", "gateway"]).await;
    pass(LONG).await;
    redis.command::<()>(&["ACL", "SETUSER", "gateway", "resetpass", ">right"]).await;
    run.finish(ended("wrong password for 3 s")).await;

    redis.command::<()>(&["FLUSHALL"]).await;
    let run = Run::start(&redis.url(), "").await;
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    pass(LONG).await;
    redis.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    run.finish(ended("out of memory for 3 s")).await;

    let watched = Watched::start().await;
    let run = Run::start(&watched.url(), "").await;
    watched.primary.signal("KILL");

    wait_for("the promotion", async || watched.replica.says(&["INFO", "replication"], "role:master").await).await;

    run.finish(ended("kill -9 of the master, failover by Sentinel")).await;

    let watched = Watched::start().await;
    let run = Run::start(&watched.url(), "").await;
    watched.swap_roles().await;
    run.finish(ended("demoted under its clients, Sentinel names another")).await;
}
