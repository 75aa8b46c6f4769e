//! Where requests queue up for the store: whoever is ready to ask at the same time goes in one call, and requests that ask the same in
//! one question of it.
//!
//! Exact: the store counts as many as it grants, and they go to whoever came first. A request that is alone is asked for at once and
//! there is no timer; those that come while a call is under way go in the next one, which begins when that ends, or a moment after it
//! began where the store is far away.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::policy::limit::{Asks, Count};
use crate::ports::StoreError;

/// Whoever answers.
#[async_trait]
pub(super) trait Counter: Send + Sync + 'static {
    /// Takes as many of each question's requests as fit. Answers in their order, `within` some time.
    async fn count(&self, questions: &[Question], within: Duration) -> Vec<Answer>;

    /// How much may be under way.
    fn bounds(&self) -> Bounds;

    /// How long anybody waits.
    fn patience(&self) -> Duration;
}

/// How many calls there may be at a time, how many questions in one, and how long after one begins the next may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub calls: usize,
    pub questions: usize,
    pub pace: Duration,
}

/// How many of some requests fit that ask the same.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub asks: Asks,
    pub requests: u32,
}

pub(super) type Answer = Result<Count, StoreError>;

/// One request that waits.
struct Waiting {
    asks: Asks,
    since: Instant,
    answer: oneshot::Sender<Answer>,
}

/// Requests that wait; the most, so that a store which hangs does not fill the memory.
const MOST_WAITING: usize = 8192;

/// The queue.
pub(super) struct Desk<C> {
    counter: C,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    /// Calls under way, or about to be.
    calls: usize,
    /// When the last one began.
    began: Option<Instant>,
}

impl State {
    /// Whether a call is to begin for those who wait; it counts from now on.
    fn begins(&mut self, bounds: Bounds, now: Instant) -> bool {
        let is_apart = self.began.is_none_or(|began| now.saturating_duration_since(began) >= bounds.pace);
        let begins = self.calls == 0 || (self.calls < bounds.calls && is_apart);
        if begins {
            self.calls += 1;
            self.began = Some(now);
        }
        begins
    }
}

impl<C: Counter> Desk<C> {
    pub(super) fn new(counter: C) -> Self {
        Self { counter, state: Mutex::default() }
    }

    pub(super) fn counter(&self) -> &C {
        &self.counter
    }

    /// Takes one request, with others or alone. Waits as long as the counter has patience, and no longer.
    pub(super) async fn take(self: &Arc<Self>, asks: &Asks) -> Answer {
        let (answer, wait) = oneshot::channel();
        let calls = {
            let mut state = self.state.lock();
            if state.waiting.len() >= MOST_WAITING {
                return Err(StoreError::Down);
            }
            let since = Instant::now();
            state.waiting.push(Waiting { asks: Arc::clone(asks), since, answer });
            state.begins(self.counter.bounds(), since)
        };
        if calls {
            Call::begin(Arc::clone(self));
        }
        wait.await.unwrap_or(Err(StoreError::Failed))
    }

    /// The next ones to be asked for; with more behind them, another call is to begin.
    fn next(&self) -> (Vec<Waiting>, bool) {
        let bounds = self.counter.bounds();
        let mut state = self.state.lock();
        let rest = state.waiting.len().min(bounds.questions);
        let rest = state.waiting.split_off(rest);
        let next = std::mem::replace(&mut state.waiting, rest);
        let another = !state.waiting.is_empty() && state.calls < bounds.calls;
        state.calls += usize::from(another);
        state.began = Some(Instant::now());
        (next, another)
    }
}

/// One call after the other, until nobody waits; counted for as long as it lives.
struct Call<C: Counter>(Arc<Desk<C>>);

impl<C: Counter> Drop for Call<C> {
    fn drop(&mut self) {
        self.0.state.lock().calls -= 1;
    }
}

impl<C: Counter> Call<C> {
    fn begin(desk: Arc<Desk<C>>) {
        tokio::spawn(Self(desk).run());
    }

    async fn run(self) {
        // Whoever else is ready to ask now goes along.
        tokio::task::yield_now().await;
        loop {
            let (mut waiting, another) = self.0.next();
            if another {
                Self::begin(Arc::clone(&self.0));
            }
            let Some(oldest) = waiting.iter().map(|one| one.since).min() else { return };
            waiting.retain(|one| !one.answer.is_closed());
            let (questions, waiting) = together(waiting);
            if questions.is_empty() {
                continue;
            }
            let within = self.0.counter.patience().saturating_sub(oldest.elapsed());
            let answers = self.0.counter.count(&questions, within).await;
            for ((question, answer), waiting) in questions.iter().zip(answers).zip(waiting) {
                share_out(&answer, question, waiting);
            }
        }
    }
}

type Senders = Vec<oneshot::Sender<Answer>>;

/// Makes one question of requests that ask the same, in the order in which they came.
fn together(waiting: Vec<Waiting>) -> (Vec<Question>, Vec<Senders>) {
    let mut places: HashMap<Asks, usize> = HashMap::with_capacity(waiting.len());
    let (mut questions, mut senders): (Vec<Question>, Vec<Senders>) = (Vec::new(), Vec::new());
    for Waiting { asks, answer, .. } in waiting {
        let at = *places.entry(asks).or_insert_with_key(|asks| {
            questions.push(Question { asks: Arc::clone(asks), requests: 0 });
            senders.push(Senders::new());
            questions.len() - 1
        });
        if let (Some(question), Some(senders)) = (questions.get_mut(at), senders.get_mut(at)) {
            question.requests += 1;
            senders.push(answer);
        }
    }
    (questions, senders)
}

/// Gives each request what it got. One that has gone away meanwhile leaves its place to the next.
fn share_out(answer: &Answer, question: &Question, waiting: Senders) {
    let mut number = 0;
    for request in waiting {
        let answer = answer.as_ref().map(|count| count.of(number, &question.asks)).map_err(|error| *error);
        if request.send(answer).is_ok() {
            number += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::limit::{Ask, CountedBy, DecidedBy, Decision, Limit, LimitKey, Mode, OnStoreFailure, Tally};
    use crate::policy::meter::{Algorithm, Rate};
    use crate::policy::time::UnixMillis;
    use http::HeaderValue;
    use tokio::sync::Semaphore;

    /// Counts as far as it is let, one permit a call, and remembers for how many it was asked.
    struct Slow {
        left: Mutex<HashMap<LimitKey, u32>>,
        asked: Mutex<Vec<Vec<u32>>>,
        gate: Semaphore,
        bounds: Bounds,
    }

    const ONE_CALL: Bounds = Bounds { calls: 1, questions: 1_000, pace: Duration::ZERO };

    impl Slow {
        fn with(left: u32, bounds: Bounds) -> Arc<Desk<Self>> {
            let left = Mutex::new(HashMap::from([(LimitKey::named("k"), left), (LimitKey::named("l"), left)]));
            Arc::new(Desk::new(Self { left, asked: Mutex::default(), gate: Semaphore::new(0), bounds }))
        }
    }

    #[async_trait]
    impl Counter for Slow {
        async fn count(&self, questions: &[Question], _: Duration) -> Vec<Answer> {
            self.asked.lock().push(questions.iter().map(|question| question.requests).collect());
            self.gate.acquire().await.unwrap().forget();
            let mut left = self.left.lock();
            let mut answer = |question: &Question| {
                let left = left.get_mut(&question.asks[0].key).unwrap();
                let granted = question.requests.min(*left);
                *left -= granted;
                let at = UnixMillis(60_000);
                let tally = Tally { taken: granted, remaining: *left, ends: at, free_at: at };
                Ok(Count { granted, now: UnixMillis(1_000), tallies: vec![tally] })
            };
            questions.iter().map(&mut answer).collect()
        }

        fn bounds(&self) -> Bounds {
            self.bounds
        }

        fn patience(&self) -> Duration {
            Duration::from_secs(30)
        }
    }

    fn asks(key: &str) -> Asks {
        let window = Duration::from_secs(60);
        let limit = Limit {
            name: "l".into(),
            rate: Rate { algorithm: Algorithm::FixedWindow, requests: 100, capacity: 100, window },
            by: CountedBy::Workspace,
            on_store_failure: OnStoreFailure::Local,
            mode: Mode::Enforce,
            requests_header: HeaderValue::from(100),
        };
        [Ask { limit: Arc::new(limit), key: LimitKey::named(key), cost: 1 }].into()
    }

    type Request = tokio::task::JoinHandle<Answer>;

    /// Requests that come to the desk at the same time, in this order.
    fn come(desk: &Arc<Desk<Slow>>, keys: &[&str]) -> Vec<Request> {
        let one = |key: &&str| {
            let (desk, asks) = (Arc::clone(desk), asks(key));
            tokio::spawn(async move { desk.take(&asks).await })
        };
        keys.iter().map(one).collect()
    }

    /// Lets everything run that can.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    async fn remaining(request: Request) -> Option<u32> {
        let count = request.await.unwrap().unwrap();
        let decision = Decision::new(&asks("k"), &count, DecidedBy::Store);
        decision.granted.then(|| decision.quota.unwrap().remaining)
    }

    fn asked(desk: &Desk<Slow>) -> Vec<Vec<u32>> {
        desk.counter.asked.lock().clone()
    }

    fn assert_idle(desk: &Desk<Slow>) {
        let state = desk.state.lock();
        assert_eq!((state.waiting.len(), state.calls), (0, 0));
    }

    #[tokio::test]
    async fn who_comes_at_the_same_time_is_asked_for_in_one_call_and_served_in_order() {
        let desk = Slow::with(2, ONE_CALL);
        let requests = come(&desk, &["k", "l", "k", "k"]);
        desk.counter.gate.add_permits(1);
        let mut told = Vec::new();
        for request in requests {
            told.push(remaining(request).await);
        }
        assert_eq!(told, [Some(1), Some(1), Some(0), None]);
        assert_eq!(asked(&desk), [[3, 1]]);
        settle().await;
        assert_idle(&desk);
    }

    #[tokio::test]
    async fn who_comes_meanwhile_goes_in_another_call_as_far_as_there_may_be_one() {
        let desk = Slow::with(9, Bounds { calls: 2, questions: 2, pace: Duration::ZERO });
        let mut requests = come(&desk, &["k"]);
        settle().await;
        requests.extend(come(&desk, &["k", "k"]));
        settle().await;
        requests.extend(come(&desk, &["k", "l", "l"]));
        settle().await;
        assert_eq!(asked(&desk), [vec![1], vec![2]], "two calls, and the rest waits");
        desk.counter.gate.add_permits(9);
        for request in requests {
            assert!(remaining(request).await.is_some());
        }
        assert_eq!(asked(&desk)[2..], [vec![1, 1], vec![1]]);
        settle().await;
        assert_idle(&desk);
    }

    #[tokio::test]
    async fn while_a_call_has_only_just_begun_the_next_one_waits_for_its_end() {
        let desk = Slow::with(9, Bounds { calls: 9, questions: 9, pace: Duration::from_secs(3600) });
        let mut requests = come(&desk, &["k"]);
        settle().await;
        requests.extend(come(&desk, &["k"]));
        settle().await;
        requests.extend(come(&desk, &["l"]));
        settle().await;
        assert_eq!(asked(&desk), [[1]]);
        desk.counter.gate.add_permits(2);
        for request in requests {
            assert!(remaining(request).await.is_some());
        }
        assert_eq!(asked(&desk), [vec![1], vec![1, 1]]);
    }

    #[tokio::test]
    async fn case_22_a_first_one_who_goes_away_leaves_nobody_waiting() {
        let desk = Slow::with(10, ONE_CALL);
        let mut requests = come(&desk, &["k"]);
        settle().await;
        requests.extend(come(&desk, &["k", "k"]));
        requests.remove(0).abort();
        settle().await;
        desk.counter.gate.add_permits(2);
        for (request, left) in requests.into_iter().zip([8, 7]) {
            assert_eq!(remaining(request).await, Some(left), "the first one was counted");
        }
        assert_eq!(asked(&desk), [[1], [2]]);
    }

    #[tokio::test]
    async fn case_22_who_goes_away_before_the_question_is_not_counted_and_after_it_leaves_the_place_to_the_next() {
        let desk = Slow::with(3, ONE_CALL);
        let mut requests = come(&desk, &["k"]);
        settle().await;
        requests.extend(come(&desk, &["k", "k", "k", "k"]));
        settle().await;
        requests.remove(1).abort();
        desk.counter.gate.add_permits(1);
        settle().await;
        assert_eq!(asked(&desk), [[1], [3]], "the one that had gone is not asked for");
        requests.remove(1).abort();
        settle().await;
        desk.counter.gate.add_permits(1);
        let mut told = Vec::new();
        for request in requests {
            told.push(remaining(request).await);
        }
        assert_eq!(told, [Some(2), Some(1), Some(0)], "two places for the two that are left");
    }

    #[tokio::test]
    async fn case_22_thousands_who_go_away_leave_nothing_behind() {
        let desk = Slow::with(100, ONE_CALL);
        desk.counter.gate.add_permits(100);
        for _ in 0..5 {
            come(&desk, &["k"; 1_000]).iter().for_each(Request::abort);
            settle().await;
            assert_idle(&desk);
        }
        assert_eq!(remaining(come(&desk, &["l"]).remove(0)).await, Some(99));
    }

    #[tokio::test]
    async fn a_queue_that_nobody_serves_has_an_end() {
        let desk = Slow::with(0, ONE_CALL);
        let mut requests = come(&desk, &["k"]);
        settle().await;
        requests.extend(come(&desk, &vec!["k"; MOST_WAITING]));
        settle().await;
        assert_eq!(come(&desk, &["k"]).remove(0).await.unwrap(), Err(StoreError::Down));
    }
}
