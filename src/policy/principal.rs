//! Who is calling: a token's record, judged by the time.

use std::fmt;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::policy::refusal::TokenProblem;
use crate::policy::scope::ScopeSet;
use crate::policy::time::{UnixMillis, UnixSeconds};

/// What a backend is told about the caller, in the order of [`Principal::headers`].
pub const IDENTITY: [HeaderName; 4] = [
    HeaderName::from_static("x-workspace-id"),
    HeaderName::from_static("x-user-id"),
    HeaderName::from_static("x-token-id"),
    HeaderName::from_static("x-token-scopes"),
];

/// What a token source knows of one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    id: HeaderValue,
    workspace: HeaderValue,
    user: HeaderValue,
    scopes: ScopeSet,
    life: Lifetime,
    disabled: bool,
}

/// When a token was made and when it ends by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// `created_at` or `iat`.
    pub created_at: Option<UnixSeconds>,
    /// `expires_at` or `exp`.
    pub expires_at: Option<UnixSeconds>,
}

/// A record that cannot be used: a missing or malformed identifier or scope. Never let in, and not the caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenRecord(pub &'static str);

impl fmt::Display for BrokenRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the token's record has no usable {}", self.0)
    }
}

impl TokenRecord {
    /// Reads a record from its fields as a source delivers them.
    ///
    /// Identifiers go into header fields and keys, so they are 1 to 128 visible ASCII characters.
    pub fn new<'a>(
        id: &str,
        workspace: &str,
        user: &str,
        scopes: impl IntoIterator<Item = &'a str>,
        life: Lifetime,
    ) -> Result<Self, BrokenRecord> {
        Ok(Self {
            id: identifier(id).ok_or(BrokenRecord("id"))?,
            workspace: identifier(workspace).ok_or(BrokenRecord("workspace"))?,
            user: identifier(user).ok_or(BrokenRecord("user"))?,
            scopes: ScopeSet::parse(scopes).ok_or(BrokenRecord("scopes"))?,
            life,
            disabled: false,
        })
    }

    /// The same record, marked as disabled by its owner.
    #[must_use]
    pub fn disabled(self, disabled: bool) -> Self {
        Self { disabled, ..self }
    }

    /// Judges an opaque token as Sanctum does: `expires_at` holds, and the age limit `max_age` holds too, where there is one.
    /// A record with neither time is refused while there is an age limit.
    pub fn opaque(self, now: UnixMillis, max_age: Option<Duration>) -> Result<Principal, TokenProblem> {
        let by_age = max_age.and_then(|age| Some(self.life.created_at?.plus(age)));
        let ends = match (self.life.expires_at, by_age) {
            (None, None) if max_age.is_some() => return Err(TokenProblem::Expired),
            (a, b) => a.into_iter().chain(b).min(),
        };
        self.until(ends.map(UnixSeconds::millis), now)
    }

    /// Judges a signed token: `exp` holds with `leeway` for clocks that differ.
    pub fn signed(self, now: UnixMillis, leeway: Duration) -> Result<Principal, TokenProblem> {
        let ends = self.life.expires_at.ok_or(TokenProblem::Claims)?;
        self.until(Some(ends.plus(leeway).millis()), now)
    }

    fn until(self, ends_at: Option<UnixMillis>, now: UnixMillis) -> Result<Principal, TokenProblem> {
        if self.disabled {
            return Err(TokenProblem::Disabled);
        }
        let scopes_header = HeaderValue::try_from(self.scopes.to_string()).map_err(|_| TokenProblem::Claims)?;
        let principal = Principal {
            workspace: self.workspace,
            user: self.user,
            token_id: self.id,
            scopes: self.scopes,
            scopes_header,
            created_at: self.life.created_at,
            ends_at,
        };
        principal.is_alive(now).then_some(principal).ok_or(TokenProblem::Expired)
    }
}

fn identifier(text: &str) -> Option<HeaderValue> {
    let is_identifier = (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    is_identifier.then(|| HeaderValue::try_from(text).ok())?
}

/// An authenticated caller. Exists only for a token that was valid when it was made.
///
/// The identifiers are held as header values because that is what a request needs them for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    workspace: HeaderValue,
    user: HeaderValue,
    token_id: HeaderValue,
    scopes: ScopeSet,
    scopes_header: HeaderValue,
    created_at: Option<UnixSeconds>,
    ends_at: Option<UnixMillis>,
}

impl Principal {
    /// The workspace that limits are counted for by default.
    pub fn workspace(&self) -> &str {
        text(&self.workspace)
    }

    /// The user who owns the token.
    pub fn user(&self) -> &str {
        text(&self.user)
    }

    /// The token's public id: the row's, or a signed token's `jti`.
    pub fn token_id(&self) -> &str {
        text(&self.token_id)
    }

    /// Whether the token is the row that a credential's `id|` names.
    pub fn has_id(&self, id: u64) -> bool {
        self.token_id.as_bytes() == id.to_string().as_bytes()
    }

    /// What the token may do.
    pub fn scopes(&self) -> &ScopeSet {
        &self.scopes
    }

    /// When the token was made, where its source says so.
    pub fn created_at(&self) -> Option<UnixSeconds> {
        self.created_at
    }

    /// When the token stops being valid; `None` for one that does not end by itself.
    pub fn ends_at(&self) -> Option<UnixMillis> {
        self.ends_at
    }

    /// Whether the token is still valid: its end is ahead, not reached.
    pub fn is_alive(&self, now: UnixMillis) -> bool {
        self.ends_at.is_none_or(|end| now < end)
    }

    /// The values of [`IDENTITY`].
    pub fn headers(&self) -> [&HeaderValue; 4] {
        [&self.workspace, &self.user, &self.token_id, &self.scopes_header]
    }
}

/// Identifiers are visible ASCII by construction.
fn text(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(created_at: Option<u64>, expires_at: Option<u64>) -> TokenRecord {
        let life = Lifetime { created_at: created_at.map(UnixSeconds), expires_at: expires_at.map(UnixSeconds) };
        TokenRecord::new("7", "w1", "u1", ["contacts"], life).unwrap()
    }

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: f64) -> UnixMillis {
        UnixMillis((seconds * 1000.0) as u64)
    }

    #[test]
    fn an_opaque_token_ends_at_the_earlier_of_expires_at_and_its_age_limit() {
        let ends = |record: TokenRecord, age| record.opaque(at(1.0), age).unwrap().ends_at();
        assert_eq!(ends(record(None, None), None), None);
        assert_eq!(ends(record(Some(10), None), None), None);
        assert_eq!(ends(record(Some(10), Some(50)), None), Some(at(50.0)));
        assert_eq!(ends(record(Some(10), None), Some(HOUR)), Some(at(3610.0)));
        assert_eq!(ends(record(Some(10), Some(50)), Some(HOUR)), Some(at(50.0)));
        assert_eq!(ends(record(Some(10), Some(9999)), Some(HOUR)), Some(at(3610.0)));
        assert_eq!(ends(record(None, Some(50)), Some(HOUR)), Some(at(50.0)));
    }

    #[test]
    fn a_record_with_neither_time_is_refused_while_there_is_an_age_limit() {
        assert_eq!(record(None, None).opaque(at(1.0), Some(HOUR)), Err(TokenProblem::Expired));
    }

    #[test]
    fn a_token_is_valid_until_its_end_and_not_at_it() {
        assert!(record(None, Some(3)).opaque(at(2.999), None).is_ok());
        assert_eq!(record(None, Some(3)).opaque(at(3.0), None), Err(TokenProblem::Expired));
    }

    #[test]
    fn a_signed_token_lives_its_leeway_longer_and_needs_an_end() {
        let leeway = Duration::from_secs(30);
        assert!(record(Some(0), Some(3)).signed(at(32.999), leeway).is_ok());
        assert_eq!(record(Some(0), Some(3)).signed(at(33.0), leeway), Err(TokenProblem::Expired));
        assert_eq!(record(Some(0), None).signed(at(1.0), leeway), Err(TokenProblem::Claims));
    }

    #[test]
    fn a_disabled_record_is_refused() {
        assert_eq!(record(None, None).disabled(true).opaque(at(1.0), None), Err(TokenProblem::Disabled));
    }

    #[test]
    fn a_record_without_usable_identifiers_is_broken() {
        let new = |id, workspace, user, scope| TokenRecord::new(id, workspace, user, [scope], Lifetime::default());
        assert_eq!(new("", "w", "u", "s"), Err(BrokenRecord("id")));
        assert_eq!(new("1", "w w", "u", "s"), Err(BrokenRecord("workspace")));
        assert_eq!(new("1", "w", "u\r\nX: y", "s"), Err(BrokenRecord("user")));
        assert_eq!(new("1", "w", "u", "s\"s"), Err(BrokenRecord("scopes")));
    }

    #[test]
    fn the_id_in_front_of_a_token_must_be_the_records_own() {
        let principal = record(None, None).opaque(at(1.0), None).unwrap();
        assert!(principal.has_id(7) && !principal.has_id(8));
    }
}
