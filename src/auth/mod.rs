//! identify(): from an Authorization header to a [`Principal`], with as few look-ups as possible.
//!
//! A signed token is verified here; an opaque one is asked for in the configured order of sources. What was found out is cached
//! under the token's digest, never under the token, and never past the token's end. A revocation is looked at on every use, so no
//! look-up that was under way when it came can bring the token back.

mod borrowed;
mod budget;
mod cache;
pub mod file;
mod flight;
pub mod introspection;
mod jwks;
mod last_used;
pub mod redis;
mod remote;
pub mod revocation;
mod signed;
pub mod sql;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use crate::auth::budget::Budget;
use crate::auth::cache::{Cached, Finding, TokenCache};
use crate::auth::flight::{Flights, Landing};
use crate::auth::last_used::LastUsed;
use crate::auth::revocation::Revocations;
use crate::auth::signed::SignedSource;
use crate::config::settings::{AuthSettings, SourceSettings};
use crate::policy::ClientIp;
use crate::policy::credential::{Credential, Form, TokenDigest, TokenGrammar};
use crate::policy::principal::Principal;
use crate::policy::refusal::{Refusal, TokenProblem};
use crate::policy::time::{UnixMillis, millis};
use crate::ports::{Clock, LookUpError, Question, TokenSource, Verdict};
use crate::redis::Link;
use crate::telemetry::metrics::{LookUpResult, Metrics};

/// The longest wait for all sources together; a look-up that takes longer is 503, not 401.
const LOOK_UP_DEADLINE: Duration = Duration::from_secs(1);
/// For how long after a failed look-up nobody waits for a source who can do without.
const TROUBLE_LASTS: Duration = Duration::from_secs(1);

/// Turns credentials into principals.
pub struct Identifier {
    grammar: TokenGrammar,
    signed: Vec<SignedSource>,
    stored: Vec<Arc<dyn TokenSource>>,
    cache: TokenCache,
    flights: Flights,
    budget: Budget,
    revocations: Arc<Revocations>,
    last_used: Option<LastUsed>,
    troubled_at: AtomicU64,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl Identifier {
    /// Builds the sources of `settings` and starts what keeps them up to date. `link` is where the `redis` source looks.
    ///
    /// Must be called on a tokio runtime.
    pub fn start(
        settings: &AuthSettings,
        link: Option<&Arc<Link>>,
        revocations: Arc<Revocations>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let mut signed = Vec::new();
        let mut stored: Vec<Arc<dyn TokenSource>> = Vec::new();
        let mut last_used = None;
        let max_age = settings.max_age;
        for source in &settings.sources {
            match (source, link) {
                (SourceSettings::Signed { expected, keys, jwks }, _) => {
                    signed.push(SignedSource::start(expected.clone(), keys.clone(), jwks.clone(), &clock, &metrics));
                }
                (SourceSettings::Redis { key_prefix }, Some(link)) => {
                    stored.push(Arc::new(redis::RedisTokens::new(Arc::clone(link), key_prefix.clone(), max_age)));
                }
                // The compiler leaves this source out, with a warning, while there is no Redis.
                (SourceSettings::Redis { .. }, None) => {}
                (SourceSettings::Sql(sql), _) => {
                    let source = sql::SqlTokens::new(sql, max_age, Arc::clone(&metrics));
                    last_used = last_used.or_else(|| source.last_used());
                    stored.push(Arc::new(source));
                }
                (SourceSettings::Introspection(service), _) => {
                    stored.push(Arc::new(introspection::Introspection::new(service, max_age, Arc::clone(&metrics))));
                }
                (SourceSettings::File { path }, _) => {
                    stored.push(Arc::new(file::FileTokens::new(path.clone(), max_age)));
                }
            }
        }
        Arc::new(Self {
            grammar: settings.grammar.clone(),
            signed,
            stored,
            cache: TokenCache::new(settings.cache),
            flights: Flights::default(),
            budget: Budget::new(settings.look_ups, clock.steady()),
            revocations,
            last_used,
            troubled_at: AtomicU64::new(0),
            clock,
            metrics,
        })
    }

    /// Waits until published keys have been asked for once.
    pub async fn settle(&self) {
        for source in &self.signed {
            source.settle().await;
        }
    }

    /// Writes down what is not written down yet, before the process ends.
    pub async fn flush(&self) {
        if let Some(last_used) = &self.last_used {
            last_used.flush().await;
        }
    }

    /// Who presents these headers from `client`, and the Authorization value to forward for them.
    pub async fn identify(
        self: &Arc<Self>,
        headers: &HeaderMap,
        client: ClientIp,
    ) -> Result<(Arc<Principal>, HeaderValue), Refusal> {
        let credential = Credential::from_headers(headers, &self.grammar)?;
        let finding = match credential.form() {
            Form::Signed { jwt } => self.verify(credential.digest(), jwt).await?,
            Form::Opaque { .. } => self.find(&credential, client).await?,
        };
        let principal = finding.map_err(Refusal::InvalidToken)?;
        // A look-up takes time, and a token may end meanwhile.
        if !principal.is_alive(self.clock.now()) {
            return Err(Refusal::InvalidToken(TokenProblem::Expired));
        }
        if self.revocations.end(credential.digest(), credential.form(), &principal) {
            return Err(Refusal::InvalidToken(TokenProblem::Revoked));
        }
        match credential.form() {
            Form::Opaque { id: Some(id) } if !principal.has_id(id) => {
                return Err(Refusal::InvalidToken(TokenProblem::WrongId));
            }
            Form::Opaque { .. } => self.last_used.iter().for_each(|used| used.note(&principal, self.clock.now())),
            Form::Signed { .. } => {}
        }
        Ok((principal, credential.authorization()))
    }

    /// Verifies a signed token, unless that has been done.
    async fn verify(&self, digest: TokenDigest, jwt: &str) -> Landing {
        let (now, steady) = (self.clock.now(), self.clock.steady());
        let keys_since = self.signed.iter().map(SignedSource::keys_since).max().unwrap_or_default();
        if let Some(finding) = self.cache.get(digest, now, steady, keys_since).finding() {
            self.metrics.token_looked_up("cache", LookUpResult::of(&finding));
            return Ok(finding);
        }
        let mut finding = Err(TokenProblem::Unknown);
        for source in &self.signed {
            finding = match source.verify(jwt, now).await {
                Ok(verified) => verified.map(Arc::new),
                Err(error) => return Err(self.no_verdict("signed", digest, error)),
            };
            if finding.is_ok() {
                break;
            }
        }
        self.metrics.token_looked_up("signed", LookUpResult::of(&finding));
        self.cache.insert(digest, finding.clone(), steady);
        Ok(finding)
    }

    /// Finds out about an opaque token: from the cache, or from the sources as far as that is allowed and necessary.
    async fn find(self: &Arc<Self>, credential: &Credential<'_>, client: ClientIp) -> Landing {
        let (digest, steady) = (credential.digest(), self.clock.steady());
        let cached = self.cache.get(digest, self.clock.now(), steady, self.revocations.doubted_before());
        if let Some(finding) = cached.finding() {
            self.metrics.token_looked_up("cache", LookUpResult::of(&finding));
        }
        match cached {
            Cached::Fresh(finding) => Ok(finding),
            Cached::Ageing(principal) => {
                self.flights.begin(digest, || self.look_up(credential, None));
                Ok(Ok(principal))
            }
            Cached::Stale(principal) if self.is_in_trouble(steady) => {
                self.flights.begin(digest, || self.look_up(credential, None));
                Ok(self.make_do(principal))
            }
            Cached::Stale(principal) => match self.flights.join(digest, || self.look_up(credential, None)).await {
                Err(Refusal::StoreUnavailable(_)) => Ok(self.make_do(principal)),
                landed => landed,
            },
            Cached::Forgotten => self.flights.join(digest, || self.look_up(credential, None)).await,
            Cached::Unknown if self.flights.has(digest) => {
                self.flights.join(digest, || self.look_up(credential, None)).await
            }
            Cached::Unknown => {
                self.budget.check(client, steady)?;
                let leave = self.budget.leave(steady)?;
                let landed = self.flights.join(digest, || self.look_up(credential, Some(leave))).await;
                if landed == Ok(Err(TokenProblem::Unknown)) {
                    self.budget.failed(client, steady);
                }
                landed
            }
        }
    }

    /// A look-up that goes on without whoever wanted it, and leaves what it found in the cache.
    fn look_up(
        self: &Arc<Self>,
        credential: &Credential<'_>,
        leave: Option<budget::Leave>,
    ) -> impl Future<Output = Landing> + Send + 'static {
        let question = Question { digest: credential.digest(), presented: credential.presented().into() };
        let identifier = Arc::clone(self);
        async move {
            let _leave = leave;
            let (now, began) = (identifier.clock.now(), identifier.clock.steady());
            // Another look-up may have ended between the question to the cache and this one's beginning.
            let doubted = identifier.revocations.doubted_before();
            if let Cached::Fresh(finding) = identifier.cache.get(question.digest, now, began, doubted) {
                return Ok(finding);
            }
            let late = Err(Refusal::StoreUnavailable("tokens"));
            let landed = tokio::time::timeout(LOOK_UP_DEADLINE, identifier.ask(&question, now)).await.unwrap_or(late);
            match &landed {
                Ok(finding) => identifier.cache.insert(question.digest, finding.clone(), began),
                Err(_) => identifier.troubled_at.store(identifier.clock.steady().0, Ordering::Relaxed),
            }
            landed
        }
    }

    /// Lets a token that nobody can ask about in as it was known.
    fn make_do(&self, principal: Arc<Principal>) -> Finding {
        self.metrics.token_looked_up("cache", LookUpResult::Stale);
        Ok(principal)
    }

    fn is_in_trouble(&self, steady: UnixMillis) -> bool {
        steady.0 < self.troubled_at.load(Ordering::Relaxed) + millis(TROUBLE_LASTS)
    }

    /// Asks the sources in order; the first that knows the token decides, and one that cannot say stops the search.
    async fn ask(&self, question: &Question, now: UnixMillis) -> Landing {
        for source in &self.stored {
            let finding: Finding = match source.look_up(question, now).await {
                Ok(Verdict::Valid(principal)) => Ok(principal),
                Ok(Verdict::Refused(problem)) => Err(problem),
                Ok(Verdict::Unknown) => {
                    self.metrics.token_looked_up(source.name(), LookUpResult::Unknown);
                    continue;
                }
                Err(error) => return Err(self.no_verdict(source.name(), question.digest, error)),
            };
            self.metrics.token_looked_up(source.name(), LookUpResult::of(&finding));
            return Ok(finding);
        }
        Ok(Err(TokenProblem::Unknown))
    }

    fn no_verdict(&self, source: &str, digest: TokenDigest, error: LookUpError) -> Refusal {
        self.metrics.token_looked_up(source, LookUpResult::Error);
        match error {
            // The access line says so, and the store's own line why; one more for each request would only flood.
            LookUpError::Unavailable(why) => {
                tracing::debug!(source, "a token could not be looked up: {why}");
                Refusal::StoreUnavailable("tokens")
            }
            LookUpError::Broken(record) => {
                tracing::error!(source, digest = digest.hint(), "{record}");
                Refusal::Internal("token_record")
            }
        }
    }
}
