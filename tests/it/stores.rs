//! The contract of a limit store, kept by the embedded store and by Redis alike.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderValue;
use mailtrixy_gateway::config::settings::LinkSettings;
use mailtrixy_gateway::config::units::Secret;
use mailtrixy_gateway::limits::memory::MemoryStore;
use mailtrixy_gateway::limits::redis::RedisStore;
use mailtrixy_gateway::policy::limit::{Ask, Count, CountedBy, Limit, LimitKey, OnStoreFailure};
use mailtrixy_gateway::ports::{Clock as _, LimitStore, StoreError, SystemClock};
use mailtrixy_gateway::redis::Link;
use mailtrixy_gateway::telemetry::metrics::Metrics;

use crate::harness::redis::Redis;
use crate::harness::wait_for;

/// The embedded store on the machine's clock.
struct Embedded(MemoryStore, SystemClock);

#[async_trait]
impl LimitStore for Embedded {
    async fn take(&self, asks: &[Ask]) -> Result<Count, StoreError> {
        Ok(self.0.take(asks, self.1.steady()))
    }
}

/// Both stores, and what keeps the second alive.
async fn stores() -> (Vec<(&'static str, Arc<dyn LimitStore>)>, Redis) {
    let redis = Redis::start().await;
    let settings = LinkSettings { url: Secret(redis.url()), url_file: None, key_prefix: "test:".to_owned() };
    let link = Link::start(settings, "replica".to_owned(), Arc::new(Metrics::new().unwrap()));
    wait_for("the link", || std::future::ready(link.is_up().then_some(()))).await;
    let embedded: Arc<dyn LimitStore> = Arc::new(Embedded(MemoryStore::default(), SystemClock::default()));
    (vec![("embedded", embedded), ("redis", Arc::new(RedisStore::new(link, Duration::from_secs(1))))], redis)
}

fn ask(key: &str, requests: u32, window: Duration) -> Ask {
    let limit = Limit {
        name: "test".into(),
        requests,
        window,
        by: CountedBy::Workspace,
        on_store_failure: OnStoreFailure::Local,
        requests_header: HeaderValue::from(requests),
    };
    Ask { limit: Arc::new(limit), key: LimitKey::named(key) }
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_window_begins_with_its_first_hit_and_keeps_its_end() {
    for (name, store) in stores().await.0 {
        let asks = [ask("{w}:a", 3, MINUTE)];
        let first = store.take(&asks).await.unwrap();
        assert_eq!(first.tallies[0].ends, first.now.plus(MINUTE), "{name}");
        let rest: Vec<Count> =
            [store.take(&asks).await, store.take(&asks).await, store.take(&asks).await].map(Result::unwrap).into();
        let seen: Vec<_> = rest.iter().map(|count| (count.granted, count.tallies[0].remaining)).collect();
        assert_eq!(seen, [(true, 1), (true, 0), (false, 0)], "{name}");
        assert!(rest.iter().all(|count| count.tallies[0].ends == first.tallies[0].ends), "{name}");
    }
}

#[tokio::test]
async fn the_full_quota_is_back_when_the_window_has_ended() {
    let (stores, redis) = stores().await;
    for (name, store) in stores {
        let asks = [ask("{w}:b", 1, Duration::from_secs(1))];
        assert!(store.take(&asks).await.unwrap().granted, "{name}");
        // A counter that lost its time to live ends all the same: the end is in its value.
        if name == "redis" {
            redis.command::<()>(&["PERSIST", "test:rl:1:{w}:b"]).await;
        }
        let refused = store.take(&asks).await.unwrap();
        assert!(!refused.granted, "{name}");
        tokio::time::sleep(refused.tallies[0].ends.since(refused.now)).await;
        let again = store.take(&asks).await.unwrap();
        assert_eq!((again.granted, again.tallies[0].remaining), (true, 0), "{name}");
    }
}

#[tokio::test]
async fn all_limits_of_a_request_are_taken_or_none() {
    for (name, store) in stores().await.0 {
        let (wide, narrow) = (ask("{w}:wide", 10, MINUTE), ask("{w}:narrow", 1, MINUTE));
        let both = [wide.clone(), narrow.clone()];
        assert!(store.take(&both).await.unwrap().granted, "{name}");
        let refused = store.take(&both).await.unwrap();
        let left: Vec<u32> = refused.tallies.iter().map(|tally| tally.remaining).collect();
        assert_eq!((refused.granted, left), (false, vec![9, 0]), "{name}");
        assert_eq!(store.take(&[wide]).await.unwrap().tallies[0].remaining, 8, "{name}: the refused request was free");
    }
}

#[tokio::test]
async fn refused_requests_neither_count_nor_move_the_end() {
    for (name, store) in stores().await.0 {
        let asks = [ask("{w}:c", 1, MINUTE)];
        let first = store.take(&asks).await.unwrap();
        for _ in 0..100 {
            let refused = store.take(&asks).await.unwrap();
            assert_eq!((refused.granted, refused.tallies[0].ends), (false, first.tallies[0].ends), "{name}");
        }
        let raised = store.take(&[ask("{w}:c", 3, MINUTE)]).await.unwrap();
        assert_eq!((raised.granted, raised.tallies[0].remaining), (true, 1), "{name}: one was counted, not a hundred");
    }
}

#[tokio::test]
async fn a_changed_limit_applies_to_the_running_window() {
    for (name, store) in stores().await.0 {
        for _ in 0..3 {
            store.take(&[ask("{w}:d", 3, MINUTE)]).await.unwrap();
        }
        let raised = store.take(&[ask("{w}:d", 5, MINUTE)]).await.unwrap();
        assert_eq!((raised.granted, raised.tallies[0].remaining), (true, 1), "{name}");
        let lowered = store.take(&[ask("{w}:d", 2, MINUTE)]).await.unwrap();
        assert_eq!((lowered.granted, lowered.tallies[0].remaining), (false, 0), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exactly_the_limit_is_granted_to_any_number_at_once() {
    for (name, store) in stores().await.0 {
        let takes: Vec<_> = (0..500)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.take(&[ask("{w}:e", 60, MINUTE)]).await.unwrap().granted })
            })
            .collect();
        let mut granted = 0;
        for take in takes {
            granted += usize::from(take.await.unwrap());
        }
        assert_eq!(granted, 60, "{name}");
    }
}

#[tokio::test]
async fn a_counter_that_holds_something_else_is_an_error_and_not_an_empty_window() {
    let (stores, redis) = stores().await;
    let (_, store) = &stores[1];
    redis.command::<()>(&["SET", "test:rl:1:{w}:f", "text"]).await;
    assert_eq!(store.take(&[ask("{w}:f", 1, MINUTE)]).await, Err(StoreError::Failed));
    redis.command::<()>(&["HSET", "test:rl:1:{w}:g", "c", "many", "e", "soon"]).await;
    assert_eq!(store.take(&[ask("{w}:g", 1, MINUTE)]).await, Err(StoreError::Failed));
}
