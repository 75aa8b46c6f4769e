//! The contract of a limit store, kept by the embedded store and by Redis alike.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderValue;
use mailtrixy_gateway::config::settings::{LinkSettings, LinkTls};
use mailtrixy_gateway::config::units::Secret;
use mailtrixy_gateway::limits::memory::MemoryStore;
use mailtrixy_gateway::limits::redis::RedisStore;
use mailtrixy_gateway::limits::script;
use mailtrixy_gateway::policy::limit::{Ask, Count, CountedBy, Limit, LimitKey, Mode, OnStoreFailure};
use mailtrixy_gateway::policy::meter::{Algorithm, Rate};
use mailtrixy_gateway::policy::time::UnixMillis;
use mailtrixy_gateway::ports::{Clock as _, LimitStore, StoreError, SystemClock};
use mailtrixy_gateway::redis::Link;
use mailtrixy_gateway::telemetry::metrics::Metrics;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use crate::harness::groups::Cluster;
use crate::harness::redis::Redis;
use crate::harness::wait_for;

/// The embedded store on the machine's clock.
struct Embedded(MemoryStore, SystemClock);

#[async_trait]
impl LimitStore for Embedded {
    async fn take(&self, asks: &[Ask], requests: u32) -> Result<Count, StoreError> {
        Ok(self.0.take(asks, requests, self.1.steady()))
    }
}

/// Both stores, and what keeps the second alive.
async fn stores() -> (Vec<(&'static str, Arc<dyn LimitStore>)>, Redis) {
    let redis = Redis::start().await;
    let embedded: Arc<dyn LimitStore> = Arc::new(Embedded(MemoryStore::default(), SystemClock::default()));
    let shared = Arc::new(store_at(&redis.url()).await);
    (vec![("embedded", embedded), ("redis", shared)], redis)
}

/// A store at a url, connected.
async fn store_at(url: &str) -> RedisStore {
    let settings = LinkSettings {
        url: Secret(url.to_owned()),
        url_file: None,
        password_file: None,
        tls: LinkTls::default(),
        key_prefix: "test:".to_owned(),
    };
    let link = Link::start(settings, Some("replica".to_owned()), Arc::new(Metrics::new().unwrap()));
    wait_for("the link", || std::future::ready(link.is_up().then_some(()))).await;
    RedisStore::new(link, Duration::from_secs(5))
}

const MINUTE: Duration = Duration::from_secs(60);

fn limited(key: &str, rate: Rate, cost: u32, mode: Mode) -> Ask {
    let limit = Limit {
        name: "test".into(),
        rate,
        by: CountedBy::Workspace,
        on_store_failure: OnStoreFailure::Local,
        mode,
        requests_header: HeaderValue::from(rate.requests),
    };
    Ask { limit: Arc::new(limit), key: LimitKey::named(key), cost }
}

fn rate(algorithm: Algorithm, requests: u32, window: Duration) -> Rate {
    Rate { algorithm, requests, capacity: requests, window }
}

fn ask(key: &str, requests: u32, window: Duration) -> Ask {
    limited(key, rate(Algorithm::FixedWindow, requests, window), 1, Mode::Enforce)
}

const ALGORITHMS: [Algorithm; 3] = [Algorithm::FixedWindow, Algorithm::SlidingLog, Algorithm::Gcra];

#[tokio::test]
async fn a_window_begins_with_its_first_hit_and_keeps_its_end() {
    for (name, store) in stores().await.0 {
        let asks = [ask("{w}:a", 3, MINUTE)];
        let first = store.take(&asks, 1).await.unwrap();
        assert_eq!(first.tallies[0].ends, first.now.plus(MINUTE), "{name}");
        let rest: Vec<Count> = [store.take(&asks, 1).await, store.take(&asks, 1).await, store.take(&asks, 1).await]
            .map(Result::unwrap)
            .into();
        let seen: Vec<_> = rest.iter().map(|count| (count.granted, count.tallies[0].remaining)).collect();
        assert_eq!(seen, [(1, 1), (1, 0), (0, 0)], "{name}");
        assert!(rest.iter().all(|count| count.tallies[0].ends == first.tallies[0].ends), "{name}");
    }
}

#[tokio::test]
async fn case_07_the_full_quota_is_back_when_the_window_has_ended_also_without_a_time_to_live() {
    let (stores, redis) = stores().await;
    for (name, store) in stores {
        let asks = [ask("{w}:b", 1, Duration::from_secs(1))];
        assert_eq!(store.take(&asks, 1).await.unwrap().granted, 1, "{name}");
        // A counter that lost its time to live ends all the same: the end is in its value.
        if name == "redis" {
            redis.command::<()>(&["PERSIST", "test:rl:3:{w}:b"]).await;
        }
        let refused = store.take(&asks, 1).await.unwrap();
        assert_eq!(refused.granted, 0, "{name}");
        tokio::time::sleep(refused.tallies[0].free_at.since(refused.now)).await;
        let again = store.take(&asks, 1).await.unwrap();
        assert_eq!((again.granted, again.tallies[0].remaining), (1, 0), "{name}");
    }
}

#[tokio::test]
async fn case_08_all_limits_of_a_request_are_taken_or_none() {
    for (name, store) in stores().await.0 {
        let (wide, narrow) = (ask("{w}:wide", 10, MINUTE), ask("{w}:narrow", 1, MINUTE));
        let both = [wide.clone(), narrow.clone()];
        assert_eq!(store.take(&both, 1).await.unwrap().granted, 1, "{name}");
        let refused = store.take(&both, 1).await.unwrap();
        let left: Vec<u32> = refused.tallies.iter().map(|tally| tally.remaining).collect();
        assert_eq!((refused.granted, left), (0, vec![9, 0]), "{name}");
        let reversed = [narrow, wide.clone()];
        assert_eq!(store.take(&reversed, 1).await.unwrap().granted, 0, "{name}");
        let left = store.take(&[wide], 1).await.unwrap().tallies[0].remaining;
        assert_eq!(left, 8, "{name}: the refused requests were free");
    }
}

#[tokio::test]
async fn case_04_refused_requests_neither_count_nor_move_the_end() {
    for (name, store) in stores().await.0 {
        let asks = [ask("{w}:c", 1, MINUTE)];
        let first = store.take(&asks, 1).await.unwrap();
        for _ in 0..100 {
            let refused = store.take(&asks, 100).await.unwrap();
            assert_eq!((refused.granted, refused.tallies[0].ends), (0, first.tallies[0].ends), "{name}");
        }
        let raised = store.take(&[ask("{w}:c", 3, MINUTE)], 1).await.unwrap();
        assert_eq!((raised.granted, raised.tallies[0].remaining), (1, 1), "{name}: one was counted, not ten thousand");
    }
}

#[tokio::test]
async fn a_changed_limit_applies_to_the_running_window() {
    for (name, store) in stores().await.0 {
        assert_eq!(store.take(&[ask("{w}:d", 3, MINUTE)], 3).await.unwrap().granted, 3);
        let raised = store.take(&[ask("{w}:d", 5, MINUTE)], 1).await.unwrap();
        assert_eq!((raised.granted, raised.tallies[0].remaining), (1, 1), "{name}");
        let lowered = store.take(&[ask("{w}:d", 2, MINUTE)], 1).await.unwrap();
        assert_eq!((lowered.granted, lowered.tallies[0].remaining), (0, 0), "{name}");
    }
}

#[tokio::test]
async fn case_09_a_request_takes_its_cost_or_nothing() {
    for (name, store) in stores().await.0 {
        for algorithm in ALGORITHMS {
            let asks =
                |cost| [limited(&format!("{{w}}:{algorithm:?}"), rate(algorithm, 10, MINUTE), cost, Mode::Enforce)];
            assert_eq!(store.take(&asks(8), 1).await.unwrap().tallies[0].remaining, 2, "{name} {algorithm:?}");
            let refused = store.take(&asks(3), 1).await.unwrap();
            assert_eq!((refused.granted, refused.tallies[0].remaining), (0, 2), "{name} {algorithm:?}");
            let fits = store.take(&asks(2), 1).await.unwrap();
            assert_eq!((fits.granted, fits.tallies[0].remaining), (1, 0), "{name} {algorithm:?}");
        }
    }
}

#[tokio::test]
async fn a_limit_in_shadow_counts_what_passes_and_refuses_nothing() {
    for (name, store) in stores().await.0 {
        let enforced = ask("{w}:enforced", 4, MINUTE);
        let shadow = limited("{w}:shadow", rate(Algorithm::FixedWindow, 2, MINUTE), 1, Mode::Shadow);
        let count = store.take(&[enforced, shadow], 6).await.unwrap();
        let taken: Vec<_> = count.tallies.iter().map(|tally| (tally.taken, tally.remaining)).collect();
        assert_eq!((count.granted, taken), (4, vec![(4, 0), (2, 0)]), "{name}");
    }
}

#[tokio::test]
async fn to_ask_where_a_counter_stands_takes_nothing() {
    for (name, store) in stores().await.0 {
        for algorithm in ALGORITHMS {
            let asks = [limited(&format!("{{w}}:p{algorithm:?}"), rate(algorithm, 3, MINUTE), 1, Mode::Enforce)];
            assert_eq!(store.take(&asks, 0).await.unwrap().tallies[0].remaining, 3, "{name} {algorithm:?}");
            store.take(&asks, 1).await.unwrap();
            for _ in 0..3 {
                assert_eq!(store.take(&asks, 0).await.unwrap().tallies[0].remaining, 2, "{name} {algorithm:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_the_limit_is_granted_to_any_number_at_once() {
    for (name, store) in stores().await.0 {
        let takes: Vec<_> = (0..500)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.take(&[ask("{w}:e", 60, MINUTE)], 1).await.unwrap().granted })
            })
            .collect();
        let mut granted = 0;
        for take in takes {
            granted += take.await.unwrap();
        }
        assert_eq!(granted, 60, "{name}");
    }
}

#[tokio::test]
async fn a_counter_that_holds_something_else_is_an_error_and_not_an_empty_window() {
    let (stores, redis) = stores().await;
    let (_, store) = &stores[1];
    redis.command::<()>(&["SET", "test:rl:3:{w}:f", "text"]).await;
    redis.command::<()>(&["HSET", "test:rl:3:{w}:g", "c", "many", "e", "soon"]).await;
    redis.command::<()>(&["RPUSH", "test:rl:3:{w}:h", "once"]).await;
    for (key, algorithm) in [
        ("{w}:f", Algorithm::FixedWindow),
        ("{w}:f", Algorithm::SlidingLog),
        ("{w}:g", Algorithm::FixedWindow),
        ("{w}:g", Algorithm::Gcra),
        ("{w}:h", Algorithm::SlidingLog),
    ] {
        let asks = [limited(key, rate(algorithm, 1, MINUTE), 1, Mode::Enforce)];
        assert_eq!(store.take(&asks, 1).await, Err(StoreError::Failed), "{key} {algorithm:?}");
    }
}

/// One question of a trace: how much time has passed (or gone back), which limits, how many requests.
#[derive(Clone, Debug)]
struct Step {
    passed: i64,
    asks: Vec<Ask>,
    requests: u32,
}

/// Questions about the same few counters: every algorithm, enforced and in shadow, with costs, bursts and changing limits.
fn trace() -> impl Strategy<Value = Vec<Step>> {
    let limit = (0usize..3, 1u32..12, 1u32..4, prop::bool::weighted(0.8), 0u8..2).prop_map(
        |(kind, requests, cost, enforced, n)| {
            let algorithm = ALGORITHMS[kind];
            let capacity = if algorithm == Algorithm::Gcra { requests.div_ceil(2) } else { requests };
            let rate = Rate { algorithm, requests, capacity, window: Duration::from_secs(10) };
            let mode = if enforced { Mode::Enforce } else { Mode::Shadow };
            (format!("{{w}}:{algorithm:?}{n}"), rate, cost, mode)
        },
    );
    let asks = (prop::collection::vec(limit, 1..4), 1u32..4).prop_map(|(mut limits, cost)| {
        limits.sort_by(|one, other| one.0.cmp(&other.0));
        limits.dedup_by(|one, other| one.0 == other.0);
        limits.into_iter().map(|(key, rate, _, mode)| limited(&key, rate, cost, mode)).collect::<Vec<_>>()
    });
    let passed = prop_oneof![8 => 0i64..3_000, 1 => 8_000i64..15_000, 1 => -12_000i64..0];
    let step = (passed, asks, 0u32..5).prop_map(|(passed, asks, requests)| Step { passed, asks, requests });
    prop::collection::vec(step, 1..120)
}

/// Some traces, the same in every run.
fn traces(count: usize) -> Vec<Vec<Step>> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| trace().new_tree(&mut runner).unwrap().current()).collect()
}

/// The script, told the time by its last two keys instead of asking for it.
fn script_with_a_clock() -> redis::Script {
    let with_a_clock = script::SOURCE.replace("call('TIME')", "{KEYS[#KEYS - 1], KEYS[#KEYS]}");
    assert_ne!(script::SOURCE, with_a_clock);
    redis::Script::new(&with_a_clock)
}

/// Asks the script some questions in one call.
async fn run_script(
    script: &redis::Script,
    redis: &Redis,
    questions: &[(&[Ask], u32, u32)],
    prefix: &str,
    now: UnixMillis,
) -> Vec<Result<Count, StoreError>> {
    let mut call = script.prepare_invoke();
    for ask in questions.iter().flat_map(|(asks, ..)| *asks) {
        call.key(format!("{prefix}{}", ask.key.as_str()));
    }
    call.key(now.0 / 1000).key(now.0 % 1000 * 1000);
    let mut asked = script::Call::default();
    for (asks, requests, debt) in questions {
        asked.ask(asks, *requests, |_| *debt);
    }
    for argument in asked.arguments() {
        call.arg(argument);
    }
    let reply: Vec<u8> = call.invoke_async(&mut redis.connection().await.unwrap()).await.unwrap();
    script::answers(&reply, questions.iter().map(|(asks, ..)| asks.len())).unwrap()
}

#[tokio::test]
async fn case_06_the_script_and_the_embedded_store_decide_alike_on_any_trace_and_any_clock() {
    let (redis, script) = (Redis::start().await, script_with_a_clock());
    for (number, steps) in traces(40).into_iter().enumerate() {
        let (embedded, mut now) = (MemoryStore::default(), UnixMillis(1_700_000_000_000));
        // Some steps at a time, at the time of the first: the script decides about them one after the other.
        for steps in steps.chunks(number % 4 + 1) {
            now = UnixMillis(now.0.saturating_add_signed(steps[0].passed));
            let questions: Vec<_> = steps.iter().map(|step| (&step.asks[..], step.requests, 0)).collect();
            let got = run_script(&script, &redis, &questions, &format!("trace{number}:"), now).await;
            for (step, got) in steps.iter().zip(got) {
                assert_eq!(got, Ok(embedded.take(&step.asks, step.requests, now)), "trace {number} {step:?}");
            }
        }
    }
}

/// The same questions about the counters of a workspace, in windows that do not end while a test runs.
fn of_workspace(steps: &[Step], workspace: &str) -> Vec<Step> {
    let moved = |ask: &Ask| {
        let Rate { algorithm, requests, capacity, .. } = ask.limit.rate;
        let rate = Rate { algorithm, requests, capacity, window: 60 * MINUTE };
        limited(&ask.key.as_str().replacen("{w}", &format!("{{w{workspace}}}"), 1), rate, ask.cost, ask.limit.mode)
    };
    steps.iter().map(|step| Step { asks: step.asks.iter().map(moved).collect(), ..step.clone() }).collect()
}

#[tokio::test]
async fn the_embedded_store_redis_and_every_node_of_a_cluster_grant_the_same() {
    let (cluster, redis) = (Cluster::start(&[], 0).await, Redis::start().await);
    let shared = [("redis", store_at(&redis.url()).await), ("cluster", store_at(&cluster.url()).await)];
    for (number, steps) in traces(9).into_iter().enumerate() {
        let workspace = format!("{}t{number}", cluster.workspace_on(number % 3).await);
        let (embedded, clock) = (MemoryStore::default(), SystemClock::default());
        for step in of_workspace(&steps, &workspace) {
            let granted = |count: &Count| {
                let tallies = count.tallies.iter().map(|tally| (tally.taken, tally.remaining));
                (count.granted, tallies.collect::<Vec<_>>())
            };
            let expected = granted(&embedded.take(&step.asks, step.requests, clock.steady()));
            for (name, store) in &shared {
                let got = store.take(&step.asks, step.requests).await.unwrap();
                assert_eq!(granted(&got), expected, "{name}, trace {number} {step:?}");
            }
        }
    }
    for node in &cluster.masters {
        assert!(node.calls("evalsha").await > 0, "every node was asked");
    }
}

#[tokio::test]
async fn case_06_after_a_clock_went_back_an_exhausted_counter_is_free_one_window_later() {
    let (redis, script) = (Redis::start().await, script_with_a_clock());
    for algorithm in ALGORITHMS {
        let embedded = MemoryStore::default();
        let rate = Rate { window: Duration::from_secs(10), ..rate(algorithm, 2, MINUTE) };
        let step = |requests| Step { passed: 0, requests, asks: vec![limited("{w}:back", rate, 1, Mode::Enforce)] };
        let at = |seconds: u64| UnixMillis(1_700_000_000_000 + seconds * 1000);
        let mut granted = Vec::new();
        for (seconds, requests) in [(500, 2), (100, 1), (101, 1), (110, 2)] {
            let step = step(requests);
            let questions = [(&step.asks[..], requests, 0)];
            let got = run_script(&script, &redis, &questions, &format!("{algorithm:?}:"), at(seconds)).await;
            let got = got.into_iter().next().unwrap().unwrap();
            assert_eq!(got, embedded.take(&step.asks, requests, at(seconds)), "{algorithm:?} {seconds}");
            granted.push(got.granted);
        }
        assert_eq!(granted, [2, 0, 0, 2], "{algorithm:?}");
    }
}

#[tokio::test]
async fn what_was_let_through_elsewhere_is_counted_first_and_never_beyond_the_limit() {
    let (redis, script) = (Redis::start().await, script_with_a_clock());
    for algorithm in ALGORITHMS {
        for (owed, left) in [(4, 5), (50, 0)] {
            let asks = [limited(&format!("{algorithm:?}{owed}"), rate(algorithm, 10, MINUTE), 1, Mode::Enforce)];
            let questions = [(&asks[..], 1, owed)];
            let got = run_script(&script, &redis, &questions, "", UnixMillis(1_700_000_000_000)).await;
            let count = got.into_iter().next().unwrap().unwrap();
            assert_eq!(
                (count.granted, count.tallies[0].remaining),
                (u32::from(left > 0), left),
                "{algorithm:?} {owed}"
            );
        }
    }
}

#[tokio::test]
async fn a_counter_that_holds_something_else_costs_its_own_question_alone() {
    let (redis, script) = (Redis::start().await, script_with_a_clock());
    redis.command::<()>(&["SET", "broken", "x"]).await;
    let [good, broken] = ["good", "broken"].map(|key| [ask(key, 5, MINUTE)]);
    let questions = [(&good[..], 1, 0), (&broken[..], 1, 0), (&good[..], 1, 0)];
    let got = run_script(&script, &redis, &questions, "", UnixMillis(1_700_000_000_000)).await;
    let left = got.iter().map(|answer| answer.as_ref().map(|count| count.tallies[0].remaining));
    assert_eq!(left.collect::<Vec<_>>(), [Ok(4), Err(&StoreError::Failed), Ok(3)]);
}
