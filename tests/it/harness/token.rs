//! Tokens for the tests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

/// The HS256 secret that every test's gateway is given.
pub const SECRET: &str = "a signing secret for tests, 32 bytes or more";

/// A file with a key of the tests' own.
pub fn key_file(name: &str) -> String {
    format!("{}/tests/it/harness/keys/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Now, in Unix seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The claims of a valid token.
pub fn claims(workspace: &str, scope: &str) -> Value {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    json!({
        "iss": "mailtrixy", "aud": "mailtrixy-api", "sub": "user-1", "workspace": workspace, "scope": scope,
        "jti": format!("t{}", SERIAL.fetch_add(1, Ordering::Relaxed)), "iat": now() - 10, "exp": now() + 3600,
    })
}

/// A valid token of `workspace` with `scope`.
pub fn token(workspace: &str, scope: &str) -> String {
    sign(&claims(workspace, scope))
}

/// Any claims under the tests' key.
pub fn sign(claims: &Value) -> String {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("k1".to_owned());
    format!("mb_{}", encode(&header, claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap())
}

/// A Sanctum token around 40 characters made from `seed`.
pub fn opaque(seed: &str) -> String {
    let entropy: String = seed
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .chain("AbCdEfGhIjKlMnOpQrStUvWxYz0123456789abcdefgh".chars())
        .take(40)
        .collect();
    format!("mb_{entropy}{}", mailtrixy_gateway::policy::credential::crc32b(&entropy))
}

/// The digest of a token as the stores hold it.
pub fn digest(token: &str) -> String {
    mailtrixy_gateway::policy::credential::TokenDigest::of(token).to_hex()
}

/// What must not be found anywhere: of every token in `text`, the part that nobody can guess.
///
/// That is the whole of an opaque token behind its prefix, and the signature of a signed one.
pub fn secrets(text: &str) -> impl Iterator<Item = String> {
    let is_of_token = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.');
    text.match_indices("mb_").filter_map(move |(at, prefix)| {
        let rest = &text[at + prefix.len()..];
        let token = &rest[..rest.find(|character| !is_of_token(character)).unwrap_or(rest.len())];
        let secret = token.rsplit('.').next().unwrap_or(token);
        (secret.len() >= 32).then(|| secret.to_owned())
    })
}
