//! take(): asks whoever keeps the counts, as seldom as possible, and knows what to do when nobody answers.
//!
//! A request's way: what is known to be used up is refused ([`views`]) → requests that come together ask together ([`desk`]) → the
//! script decides ([`redis`], [`script`]) within its deadline → a store that does not answer is left alone ([`breaker`]), and each limit goes its
//! own way without it ([`local`]). Without a shared store the embedded one counts ([`memory`]).

mod breaker;
mod desk;
mod local;
pub mod memory;
pub mod redis;
pub mod script;
mod views;

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderValue;

use crate::limits::breaker::Breaker;
use crate::limits::desk::{Answer, Bounds, Counter, Desk, Question};
use crate::limits::local::{Debts, LocalShares, Moment, Owed};
use crate::limits::memory::MemoryStore;
use crate::limits::redis::{self as store, RedisStore};
use crate::limits::views::Views;
use crate::policy::ClientIp;
use crate::policy::limit::{
    self, Ask, Asks, CountedBy, DecidedBy, Decision, Limit, LimitKey, Mode, OnStoreFailure, Quota,
};
use crate::policy::meter::{Algorithm, Rate};
use crate::policy::route::{Grant, Route};
use crate::ports::{Clock, LimitStore as _, StoreError};
use crate::redis::{Link, jittered};

const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Calls to one server: one after the other while it is near, so that they are large when there is much to ask, and at this pace when
/// it is not.
const TOGETHER: Bounds = Bounds { calls: 64, questions: 128, pace: Duration::from_micros(250) };
/// The nodes of a Cluster have different counters, so there a call is about one question, and there are more of them.
const APART: Bounds = Bounds { calls: 1024, questions: 1, pace: Duration::ZERO };

/// Decides about the limits of requests.
pub struct Limits {
    shared: Option<Arc<Shared>>,
    embedded: Arc<MemoryStore>,
    clock: Arc<dyn Clock>,
}

/// The store that all replicas share, and what is known of it here. Kept across reloads as long as the link is.
pub struct Shared(Arc<Desk<Questions>>);

impl Limits {
    /// Counts in `shared`; without it, in `embedded`, which outlives reloads.
    pub fn new(shared: Option<Arc<Shared>>, embedded: Arc<MemoryStore>, clock: Arc<dyn Clock>) -> Self {
        Self { shared, embedded, clock }
    }

    /// The shared store, to be taken over by the next configuration.
    pub fn shared(&self) -> Option<&Arc<Shared>> {
        self.shared.as_ref()
    }

    /// Takes one request from all limits of `route`, or from none.
    pub async fn take(&self, route: &Route, grant: &Grant, client: ClientIp) -> Decision {
        if route.limits.is_empty() {
            return Decision::UNCOUNTED;
        }
        let asks = limit::asks(route, grant, client);
        match &self.shared {
            Some(shared) => shared.take(&asks).await,
            None => {
                let count = self.embedded.take(&asks, 1, self.clock.steady());
                Decision::new(&asks, &count, DecidedBy::Store)
            }
        }
    }

    /// Where each of these counters stands; nothing is taken.
    pub async fn peek(&self, asks: &[Ask]) -> Vec<Quota> {
        let mut quotas = Vec::with_capacity(asks.len());
        for ask in asks {
            quotas.extend(match &self.shared {
                Some(shared) => shared.0.counter().standing(ask).await,
                None => limit::standing(ask, &self.embedded.take(std::slice::from_ref(ask), 0, self.clock.steady())),
            });
        }
        quotas
    }
}

impl Shared {
    /// Counts in `store`. Must be called on a tokio runtime.
    pub fn new(store: RedisStore, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new_cyclic(|shared: &Weak<Self>| {
            let probe = probe(store.link());
            Self(Arc::new(Desk::new(Questions {
                store,
                views: Views::new(),
                shares: LocalShares::default(),
                breaker: Breaker::default(),
                clock,
                probe,
                shared: Weak::clone(shared),
            })))
        })
    }

    /// Whether it counts through this link, with this deadline.
    pub fn is_on(&self, link: &Arc<Link>, deadline: Duration) -> bool {
        let store = &self.0.counter().store;
        Arc::ptr_eq(store.link(), link) && store.deadline() == deadline
    }

    async fn take(&self, asks: &Asks) -> Decision {
        let questions = self.0.counter();
        let steady = questions.clock.steady();
        if let Some(refusal) = questions.views.refusal(asks, steady) {
            return refusal;
        }
        let count = match questions.breaker.admits(steady, fastrand::f64()) {
            true => self.0.take(asks).await,
            false => Err(StoreError::Down),
        };
        match count {
            Ok(count) => Decision::new(asks, &count, DecidedBy::Store),
            Err(_) => questions.decide_alone(asks),
        }
    }
}

/// Questions to the store, and what they taught.
struct Questions {
    store: RedisStore,
    views: Views,
    shares: LocalShares,
    breaker: Breaker,
    clock: Arc<dyn Clock>,
    probe: Ask,
    shared: Weak<Shared>,
}

#[async_trait]
impl Counter for Questions {
    async fn count(&self, questions: &[Question], within: Duration) -> Vec<Answer> {
        let asked_at = self.clock.steady();
        let owed: Vec<Owed<'_>> = questions.iter().map(|one| self.shares.end(&one.asks, asked_at)).collect();
        let asked: Vec<_> = questions.iter().zip(&owed).map(|(one, owed)| one.with(owed.debts())).collect();
        let answers = self.store.ask(&asked, within).await;
        if self.breaker.heard(self.is_well(answers.as_ref().err()), self.clock.steady()) {
            tokio::spawn(find_out_when_it_is_back(Weak::clone(&self.shared)));
        }
        let answers = answers.unwrap_or_else(|error| vec![Err(error); questions.len()]);
        for ((question, answer), owed) in questions.iter().zip(&answers).zip(owed) {
            if let Ok(count) = answer {
                owed.forget();
                self.views.learn(&question.asks, count, asked_at);
            }
        }
        answers
    }

    fn bounds(&self) -> Bounds {
        if self.store.link().is_one_server() { TOGETHER } else { APART }
    }

    fn patience(&self) -> Duration {
        self.store.deadline()
    }
}

impl Question {
    fn with<'q>(&'q self, debts: &'q Debts) -> store::Question<'q> {
        store::Question { asks: &self.asks, requests: self.requests, debts }
    }
}

impl Questions {
    /// Whether there is no reason to leave the store alone. A part of a Cluster that is away costs nothing to ask, and the rest answers.
    fn is_well(&self, error: Option<&StoreError>) -> bool {
        match error {
            None => true,
            Some(StoreError::Down) => self.store.link().is_partly_up(),
            Some(StoreError::Late | StoreError::Failed) => false,
        }
    }

    fn now(&self) -> Moment {
        Moment { steady: self.clock.steady(), wall: self.clock.now() }
    }

    fn decide_alone(&self, asks: &[Ask]) -> Decision {
        self.shares.decide(asks, &self.views, self.store.link().replicas(), self.now())
    }

    /// Has everything counted that is owed, one counter after the other: other replicas would give it away again. A debt that cannot be
    /// paid now goes with the next question about its counter.
    async fn repay(&self) {
        for ask in self.shares.owing() {
            let question = Question { asks: [ask].into(), requests: 0 };
            let answers = self.count(std::slice::from_ref(&question), self.patience()).await;
            if answers.iter().any(Result::is_err) {
                return;
            }
        }
    }

    /// What the store says, or without it this replica's share; `None` for a limit that has no share.
    async fn standing(&self, ask: &Ask) -> Option<Quota> {
        let is_worth_asking = self.breaker.admits(self.clock.steady(), fastrand::f64());
        if is_worth_asking && let Ok(count) = self.store.take(std::slice::from_ref(ask), 0).await {
            return limit::standing(ask, &count);
        }
        self.shares.peek(ask, &self.views, self.store.link().replicas(), self.now())
    }
}

/// Tries the real script on a counter of this replica's own, writing included, until it works.
async fn find_out_when_it_is_back(shared: Weak<Shared>) {
    let mut pause = SHORTEST_PAUSE;
    while let Some(strong) = shared.upgrade() {
        let questions = strong.0.counter();
        let answer = questions.store.take(std::slice::from_ref(&questions.probe), 1).await;
        if questions.is_well(answer.as_ref().err()) {
            questions.breaker.store_is_back(questions.clock.steady());
            questions.repay().await;
            return;
        }
        drop(strong);
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A counter that is asked about only to see whether the store works.
fn probe(link: &Link) -> Ask {
    let rate = Rate {
        algorithm: Algorithm::FixedWindow,
        requests: u32::MAX,
        capacity: u32::MAX,
        window: Duration::from_secs(1),
    };
    let limit = Limit {
        name: "probe".into(),
        rate,
        by: CountedBy::Workspace,
        on_store_failure: OnStoreFailure::Local,
        mode: Mode::Enforce,
        requests_header: HeaderValue::from_static("0"),
    };
    Ask { limit: Arc::new(limit), key: LimitKey::named(&format!("{{probe}}:{}", link.replica_id())), cost: 1 }
}
