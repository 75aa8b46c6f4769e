//! One look-up for everybody who wants to know the same token at the same time.
//!
//! The look-up is a task of its own: a client that goes away takes neither the answer from the others nor its place in the cache.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::auth::cache::Finding;
use crate::policy::credential::TokenDigest;
use crate::policy::refusal::Refusal;

/// What a look-up came to.
pub(super) type Landing = Result<Finding, Refusal>;

/// Look-ups under way.
#[derive(Clone, Default)]
pub(super) struct Flights(Arc<Mutex<HashMap<TokenDigest, watch::Receiver<Option<Landing>>>>>);

/// Takes its flight out of the list when it ends, however it ends.
struct Departed {
    flights: Flights,
    digest: TokenDigest,
}

impl Drop for Departed {
    fn drop(&mut self) {
        self.flights.0.lock().remove(&self.digest);
    }
}

impl Flights {
    /// Whether somebody is looking this token up.
    pub(super) fn has(&self, digest: TokenDigest) -> bool {
        self.0.lock().contains_key(&digest)
    }

    /// Waits for the look-up of `digest` that is under way, or begins one with `look_up`.
    pub(super) async fn join<F>(&self, digest: TokenDigest, look_up: impl FnOnce() -> F) -> Landing
    where
        F: Future<Output = Landing> + Send + 'static,
    {
        let mut landing = self.board(digest, look_up);
        let landed = landing.wait_for(Option::is_some).await.ok().and_then(|landing| landing.clone());
        // A look-up that panicked has not said that the token is unknown.
        landed.unwrap_or(Err(Refusal::Internal("token_look_up")))
    }

    /// Begins a look-up of `digest`, unless one is under way, without waiting for it.
    pub(super) fn begin<F>(&self, digest: TokenDigest, look_up: impl FnOnce() -> F)
    where
        F: Future<Output = Landing> + Send + 'static,
    {
        drop(self.board(digest, look_up));
    }

    fn board<F>(&self, digest: TokenDigest, look_up: impl FnOnce() -> F) -> watch::Receiver<Option<Landing>>
    where
        F: Future<Output = Landing> + Send + 'static,
    {
        let mut flights = self.0.lock();
        if let Some(landing) = flights.get(&digest) {
            return landing.clone();
        }
        let (land, landing) = watch::channel(None);
        flights.insert(digest, landing.clone());
        let (departed, look_up) = (Departed { flights: self.clone(), digest }, look_up());
        drop(flights);
        tokio::spawn(async move {
            let landed = look_up.await;
            // Out of the list first: whoever comes now finds the cache filled.
            drop(departed);
            // Everybody may have gone.
            let _ = land.send(Some(landed));
        });
        landing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::refusal::TokenProblem;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn a_thousand_first_uses_are_one_look_up_and_the_first_may_go_away() {
        let (flights, digest) = (Flights::default(), TokenDigest::of("t"));
        let (asked, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let look_up = || {
            let (asked, go) = (Arc::clone(&asked), Arc::clone(&go));
            async move {
                asked.fetch_add(1, Ordering::SeqCst);
                go.notified().await;
                Ok(Err(TokenProblem::Unknown))
            }
        };
        let first = tokio::spawn({
            let (flights, look_up) = (flights.clone(), look_up());
            async move { flights.join(digest, || look_up).await }
        });
        while asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let followers: Vec<_> = (0..999)
            .map(|_| {
                let (flights, look_up) = (flights.clone(), look_up());
                tokio::spawn(async move { flights.join(digest, || look_up).await })
            })
            .collect();
        first.abort();
        tokio::task::yield_now().await;
        go.notify_one();
        for follower in followers {
            assert_eq!(follower.await.unwrap(), Ok(Err(TokenProblem::Unknown)));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert!(!flights.has(digest));
    }

    #[tokio::test]
    async fn a_look_up_that_panics_is_a_fault_and_not_an_unknown_token() {
        let (flights, digest) = (Flights::default(), TokenDigest::of("t"));
        let landed = flights.join(digest, || async { panic!("on purpose") }).await;
        assert_eq!(landed, Err(Refusal::Internal("token_look_up")));
        assert!(!flights.has(digest));
    }
}
