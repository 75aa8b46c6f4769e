//! Clocks that are wrong: case 5 of the research.

use std::path::Path;

use serde_json::json;

use crate::harness::backend::Backend;
use crate::harness::gateway::{Gateway, counting_in};
use crate::harness::redis::Redis;
use crate::harness::token::{claims, now, sign};

/// A gateway whose clock is what `file` says, whenever it looks.
async fn gateway_by(file: &Path, config: &str) -> Gateway {
    let library = "/usr/$LIB/faketime/libfaketime.so.1";
    let environment = [
        ("LD_PRELOAD", library),
        ("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let gateway = Gateway::start_with(config, &environment).await;
    gateway.log_lines(1, |line| line["message"] == "connected to Redis").await;
    gateway
}

#[tokio::test]
async fn case_05_no_clock_of_a_gateway_changes_a_decision_or_a_reset() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let folder = tempfile::tempdir().unwrap();
    let config = counting_in(&redis.url(), "deadline: 10s", backend.address, "contacts: {requests: 12, per: 1m}");
    let (mut gateways, mut clocks) = (Vec::new(), Vec::new());
    for (at, shift) in ["-2s", "+2s", "+0s"].into_iter().enumerate() {
        let clock = folder.path().join(at.to_string());
        std::fs::write(&clock, shift).unwrap();
        gateways.push(gateway_by(&clock, &config).await);
        clocks.push(clock);
    }
    let mut claims = claims("w", "contacts");
    claims["exp"] = json!(now() + 10 * 3600);
    let token = sign(&claims);
    let mut resets = Vec::new();
    for left in (0..12).rev() {
        let gateway = &gateways[left % 3];
        if left == 5 {
            clocks.iter().for_each(|clock| std::fs::write(clock, "+2h").unwrap());
        }
        let answer = gateway.get("/api/v1/contacts", &token).await;
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (200, left as u64));
        resets.push(answer.number("x-ratelimit-reset"));
    }
    for gateway in &gateways {
        let refused = gateway.get("/api/v1/contacts", &token).await;
        assert_eq!(refused.status, 429);
        assert!((50..=60).contains(&refused.number("retry-after")), "{refused:?}");
        resets.push(refused.number("x-ratelimit-reset"));
        let lines = gateway.access_lines(5).await;
        let [first, .., last] = lines.as_slice() else { panic!("{lines:?}") };
        let hour = |line: &serde_json::Value| line["timestamp"].as_str().unwrap()[..13].to_owned();
        assert_ne!(hour(first), hour(last), "libfaketime moves the clock; deploy/prepare faketime installs it");
    }
    resets.dedup();
    assert_eq!(resets.len(), 1, "{resets:?}");
    assert!(resets[0].abs_diff(now() + 60) <= 30, "the end is on the clock of Redis");
}
