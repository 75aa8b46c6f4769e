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
