//! What was found out about tokens, for a while: bounded, keyed by digest, never past a token's end.

use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::config::settings::CacheSettings;
use crate::policy::credential::TokenDigest;
use crate::policy::principal::Principal;
use crate::policy::refusal::TokenProblem;
use crate::policy::time::UnixMillis;

/// A caller, or why there is none.
pub(super) type Finding = Result<Arc<Principal>, TokenProblem>;

/// What the cache can say of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cached {
    /// This is still believed.
    Fresh(Finding),
    /// This is still believed, and it is time to look again without anybody waiting.
    Ageing(Arc<Principal>),
    /// This was so a while ago: to be looked up again, and good enough while nobody can.
    Stale(Arc<Principal>),
    /// This token was valid once, too long ago to be believed.
    Forgotten,
    /// It was never seen, or not for long.
    Unknown,
}

impl Cached {
    /// What is believed without asking anybody.
    pub(super) fn finding(&self) -> Option<Finding> {
        match self {
            Self::Fresh(finding) => Some(finding.clone()),
            Self::Ageing(principal) => Some(Ok(Arc::clone(principal))),
            Self::Stale(_) | Self::Forgotten | Self::Unknown => None,
        }
    }
}

#[derive(Clone)]
struct Entry {
    finding: Finding,
    found_at: UnixMillis,
}

/// Known tokens and, apart from them, refused ones: a flood of nonsense cannot push a customer's token out.
pub(super) struct TokenCache {
    settings: CacheSettings,
    known: Cache<TokenDigest, Entry>,
    refused: Cache<TokenDigest, Entry>,
}

impl TokenCache {
    pub(super) fn new(settings: CacheSettings) -> Self {
        Self { settings, known: Cache::new(settings.entries), refused: Cache::new(settings.entries) }
    }

    /// `now` decides about the token's own end, `steady` about the age of what is known. What was found before `doubted` is stale.
    pub(super) fn get(&self, digest: TokenDigest, now: UnixMillis, steady: UnixMillis, doubted: UnixMillis) -> Cached {
        let Some(entry) = self.known.get(&digest) else {
            let is_believed = |entry: &Entry| steady.since(entry.found_at) < self.settings.negative_ttl;
            let refused = self.refused.get(&digest).filter(is_believed);
            return refused.map_or(Cached::Unknown, |entry| Cached::Fresh(entry.finding));
        };
        let Ok(principal) = entry.finding else { return Cached::Unknown };
        let age = steady.since(entry.found_at);
        match self.settings.ttl {
            // Its end has come: nobody has to be asked about that.
            _ if !principal.is_alive(now) => Cached::Fresh(Err(TokenProblem::Expired)),
            ttl if age < ttl.mul_f64(0.8) && entry.found_at >= doubted => Cached::Fresh(Ok(principal)),
            ttl if age < ttl && entry.found_at >= doubted => Cached::Ageing(principal),
            ttl if age < ttl + self.settings.stale_cap => Cached::Stale(principal),
            _ => Cached::Forgotten,
        }
    }

    pub(super) fn insert(&self, digest: TokenDigest, finding: Finding, steady: UnixMillis) {
        let (cache, other) = match &finding {
            Ok(_) => (&self.known, &self.refused),
            Err(_) => (&self.refused, &self.known),
        };
        other.remove(&digest);
        cache.insert(digest, Entry { finding, found_at: steady });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::principal::{Lifetime, TokenRecord};
    use crate::policy::time::UnixSeconds;
    use std::time::Duration;

    fn cache() -> TokenCache {
        TokenCache::new(CacheSettings {
            ttl: Duration::from_secs(30),
            negative_ttl: Duration::from_secs(5),
            entries: 100,
            stale_cap: Duration::from_secs(120),
        })
    }

    fn principal(expires_at: u64) -> Arc<Principal> {
        let life = Lifetime { created_at: None, expires_at: Some(UnixSeconds(expires_at)) };
        Arc::new(TokenRecord::new("1", "w", "u", [], life).unwrap().opaque(UnixMillis(0), None).unwrap())
    }

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis(seconds * 1000)
    }

    fn get(cache: &TokenCache, digest: TokenDigest, seconds: u64) -> Cached {
        cache.get(digest, at(seconds), at(seconds), at(0))
    }

    #[test]
    fn a_known_token_is_believed_then_looked_up_again_then_forgotten() {
        let (cache, digest, known) = (cache(), TokenDigest::of("t"), principal(1000));
        assert_eq!(get(&cache, digest, 100), Cached::Unknown);
        cache.insert(digest, Ok(Arc::clone(&known)), at(100));
        assert_eq!(get(&cache, digest, 123), Cached::Fresh(Ok(Arc::clone(&known))));
        assert_eq!(get(&cache, digest, 124), Cached::Ageing(Arc::clone(&known)));
        assert_eq!(get(&cache, digest, 130), Cached::Stale(Arc::clone(&known)));
        assert_eq!(get(&cache, digest, 249), Cached::Stale(known));
        assert_eq!(get(&cache, digest, 250), Cached::Forgotten);
    }

    #[test]
    fn what_is_doubted_is_looked_up_again_and_what_is_found_after_that_is_not() {
        let (cache, digest, known) = (cache(), TokenDigest::of("t"), principal(1000));
        cache.insert(digest, Ok(Arc::clone(&known)), at(100));
        assert_eq!(cache.get(digest, at(102), at(102), at(101)), Cached::Stale(Arc::clone(&known)));
        cache.insert(digest, Ok(Arc::clone(&known)), at(103));
        assert_eq!(cache.get(digest, at(104), at(104), at(101)), Cached::Fresh(Ok(known)));
    }

    #[test]
    fn a_refused_token_is_refused_for_a_short_while() {
        let (cache, digest) = (cache(), TokenDigest::of("t"));
        cache.insert(digest, Ok(principal(1000)), at(100));
        cache.insert(digest, Err(TokenProblem::Unknown), at(200));
        assert_eq!(get(&cache, digest, 204), Cached::Fresh(Err(TokenProblem::Unknown)));
        assert_eq!(get(&cache, digest, 205), Cached::Unknown);
    }

    #[test]
    fn a_cached_token_ends_when_it_ends() {
        let (cache, digest) = (cache(), TokenDigest::of("t"));
        cache.insert(digest, Ok(principal(103)), at(100));
        assert!(matches!(cache.get(digest, UnixMillis(102_999), at(100), at(0)), Cached::Fresh(Ok(_))));
        assert_eq!(cache.get(digest, at(103), at(100), at(0)), Cached::Fresh(Err(TokenProblem::Expired)));
    }

    #[test]
    fn a_flood_of_unknown_tokens_leaves_known_ones_alone() {
        let (cache, digest) = (cache(), TokenDigest::of("t"));
        cache.insert(digest, Ok(principal(1000)), at(100));
        for n in 0..10_000 {
            cache.insert(TokenDigest::of(&n.to_string()), Err(TokenProblem::Unknown), at(100));
        }
        assert!(matches!(get(&cache, digest, 101), Cached::Fresh(Ok(_))));
    }
}
