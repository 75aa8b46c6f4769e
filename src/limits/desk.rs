//! Where requests queue up for the store: at most one question about the same counters is under way, and whoever comes meanwhile is
//! asked for together in the next one.
//!
//! Exact: the store counts as many as it grants, and they go to whoever came first. An idle counter pays nothing, there is no timer, and
//! a busy one costs a call for each round trip instead of one for each request.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::policy::limit::{Ask, Asks, Count};
use crate::ports::StoreError;

/// Whoever answers.
#[async_trait]
pub(super) trait Counter: Send + Sync + 'static {
    /// Takes as many of `requests` as fit.
    async fn count(&self, asks: &[Ask], requests: u32) -> Result<Count, StoreError>;

    /// How long anybody waits.
    fn patience(&self) -> std::time::Duration;
}

type Answer = Result<Count, StoreError>;
type Waiting = Vec<oneshot::Sender<Answer>>;

/// The queues, one for each set of counters that is being asked about.
pub(super) struct Desk<C> {
    counter: C,
    queues: Mutex<HashMap<Asks, Waiting>>,
}

impl<C: Counter> Desk<C> {
    pub(super) fn new(counter: C) -> Arc<Self> {
        Arc::new(Self { counter, queues: Mutex::default() })
    }

    pub(super) fn counter(&self) -> &C {
        &self.counter
    }

    /// Takes one request, alone or with others. Waits twice for the store at the most, and no longer than once its patience.
    pub(super) async fn take(self: &Arc<Self>, asks: &Asks) -> Answer {
        match self.queue(asks) {
            None => {
                let turn = Turn { desk: self, asks };
                let answer = self.counter.count(asks, 1).await;
                drop(turn);
                answer
            }
            Some(answer) => {
                let answer = timeout(self.counter.patience(), answer).await;
                answer.map_err(|_| StoreError::Late)?.unwrap_or(Err(StoreError::Failed))
            }
        }
    }

    /// A place in the queue, or `None` for the first, who asks by himself.
    fn queue(&self, asks: &Asks) -> Option<oneshot::Receiver<Answer>> {
        let mut queues = self.queues.lock();
        let Some(waiting) = queues.get_mut(asks) else {
            queues.insert(Arc::clone(asks), Waiting::new());
            return None;
        };
        let (answer, wait) = oneshot::channel();
        waiting.push(answer);
        Some(wait)
    }

    /// Those who wait; the queue is gone when there is nobody.
    fn next(&self, asks: &Asks) -> Option<Waiting> {
        let mut queues = self.queues.lock();
        let waiting = std::mem::take(queues.get_mut(asks)?);
        if waiting.is_empty() {
            queues.remove(asks);
        }
        Some(waiting).filter(|waiting| !waiting.is_empty())
    }

    /// Asks for all who wait, until nobody does.
    async fn serve(self: Arc<Self>, asks: Asks, mut waiting: Waiting) {
        loop {
            waiting.retain(|answer| !answer.is_closed());
            if let Ok(requests @ 1..) = u32::try_from(waiting.len()) {
                share_out(self.counter.count(&asks, requests).await, &asks, waiting);
            }
            match self.next(&asks) {
                Some(more) => waiting = more,
                None => return,
            }
        }
    }
}

/// Gives each request what it got. One that has gone away meanwhile leaves its place to the next.
fn share_out(answer: Answer, asks: &[Ask], waiting: Waiting) {
    let mut number = 0;
    for request in waiting {
        if request.send(answer.clone().map(|count| count.of(number, asks))).is_ok() {
            number += 1;
        }
    }
}

/// Whoever asks by himself; when he is done, or goes away, those who came meanwhile are served.
struct Turn<'d, C: Counter> {
    desk: &'d Arc<Desk<C>>,
    asks: &'d Asks,
}

impl<C: Counter> Drop for Turn<'_, C> {
    fn drop(&mut self) {
        if let Some(waiting) = self.desk.next(self.asks) {
            tokio::spawn(Arc::clone(self.desk).serve(Arc::clone(self.asks), waiting));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::limit::{CountedBy, DecidedBy, Decision, Limit, LimitKey, Mode, OnStoreFailure, Tally};
    use crate::policy::meter::{Algorithm, Rate};
    use crate::policy::time::UnixMillis;
    use http::HeaderValue;
    use std::time::Duration;
    use tokio::sync::Semaphore;

    /// Counts as far as it is let, one permit a question, and remembers for how many it was asked.
    struct Slow {
        left: Mutex<u32>,
        asked: Mutex<Vec<u32>>,
        gate: Semaphore,
    }

    impl Slow {
        fn with(left: u32) -> Arc<Desk<Self>> {
            Desk::new(Self { left: Mutex::new(left), asked: Mutex::default(), gate: Semaphore::new(0) })
        }
    }

    #[async_trait]
    impl Counter for Slow {
        async fn count(&self, _: &[Ask], requests: u32) -> Answer {
            self.asked.lock().push(requests);
            self.gate.acquire().await.unwrap().forget();
            let mut left = self.left.lock();
            let granted = requests.min(*left);
            *left -= granted;
            let tally =
                Tally { taken: granted, remaining: *left, ends: UnixMillis(60_000), free_at: UnixMillis(60_000) };
            Ok(Count { granted, now: UnixMillis(1_000), tallies: vec![tally] })
        }

        fn patience(&self) -> Duration {
            Duration::from_secs(30)
        }
    }

    fn asks() -> Asks {
        let window = Duration::from_secs(60);
        let limit = Limit {
            name: "l".into(),
            rate: Rate { algorithm: Algorithm::FixedWindow, requests: 100, capacity: 100, window },
            by: CountedBy::Workspace,
            on_store_failure: OnStoreFailure::Local,
            mode: Mode::Enforce,
            requests_header: HeaderValue::from(100),
        };
        [Ask { limit: Arc::new(limit), key: LimitKey::named("k"), cost: 1 }].into()
    }

    type Request = tokio::task::JoinHandle<Answer>;

    /// Requests that have come to the desk, one after the other.
    async fn come(desk: &Arc<Desk<Slow>>, asks: &Asks, count: usize) -> Vec<Request> {
        let mut requests = Vec::new();
        for _ in 0..count {
            let (desk, asks) = (Arc::clone(desk), Arc::clone(asks));
            requests.push(tokio::spawn(async move { desk.take(&asks).await }));
            tokio::task::yield_now().await;
        }
        requests
    }

    /// Lets everything run that can.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    async fn remaining(asks: &Asks, request: Request) -> Option<u32> {
        let count = request.await.unwrap().unwrap();
        let decision = Decision::new(asks, &count, DecidedBy::Store);
        decision.granted.then(|| decision.quota.unwrap().remaining)
    }

    #[tokio::test]
    async fn who_comes_meanwhile_is_asked_for_together_and_served_in_order() {
        let (desk, asks) = (Slow::with(4), asks());
        let requests = come(&desk, &asks, 6).await;
        assert_eq!(*desk.counter.asked.lock(), [1]);
        desk.counter.gate.add_permits(2);
        let mut told = Vec::new();
        for request in requests {
            told.push(remaining(&asks, request).await);
        }
        assert_eq!(told, [Some(3), Some(2), Some(1), Some(0), None, None]);
        assert_eq!(*desk.counter.asked.lock(), [1, 5]);
        assert!(desk.queues.lock().is_empty());
    }

    #[tokio::test]
    async fn case_22_a_first_one_who_goes_away_leaves_nobody_waiting() {
        let (desk, asks) = (Slow::with(10), asks());
        let mut requests = come(&desk, &asks, 3).await;
        requests.remove(0).abort();
        settle().await;
        assert_eq!(*desk.counter.asked.lock(), [1, 2]);
        desk.counter.gate.add_permits(1);
        for (request, left) in requests.into_iter().zip([9, 8]) {
            assert_eq!(remaining(&asks, request).await, Some(left));
        }
        settle().await;
        assert!(desk.queues.lock().is_empty());
    }

    #[tokio::test]
    async fn case_22_who_goes_away_before_the_question_is_not_counted_and_after_it_leaves_the_place_to_the_next() {
        let (desk, asks) = (Slow::with(3), asks());
        let mut requests = come(&desk, &asks, 5).await;
        requests.remove(1).abort();
        settle().await;
        desk.counter.gate.add_permits(1);
        settle().await;
        assert_eq!(*desk.counter.asked.lock(), [1, 3], "the one that had gone is not asked for");
        requests.remove(1).abort();
        settle().await;
        desk.counter.gate.add_permits(1);
        let mut told = Vec::new();
        for request in requests {
            told.push(remaining(&asks, request).await);
        }
        assert_eq!(told, [Some(2), Some(1), Some(0)], "two places for the two that are left");
    }

    #[tokio::test]
    async fn case_22_thousands_who_go_away_leave_nothing_behind() {
        let (desk, asks) = (Slow::with(100), asks());
        for _ in 0..5 {
            come(&desk, &asks, 1_000).await.iter().for_each(Request::abort);
            settle().await;
            assert!(desk.queues.lock().is_empty(), "all have gone, so there is no queue");
        }
        desk.counter.gate.add_permits(1);
        let request = come(&desk, &asks, 1).await.remove(0);
        assert_eq!(remaining(&asks, request).await, Some(99));
    }
}
