//! Signed tokens: a JWT verified under a key of ours, after RFC 8725.
//!
//! The key decides the algorithm, never the token: `kid` selects a key from the table (no path, no URL), and the header's `alg`
//! must be that key's own. A token that points at key material (`jku`, `x5u`, `jwk`) or at extensions (`crit`) is refused.

use std::fmt;
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use crate::policy::credential::TokenDigest;
use crate::policy::principal::{Lifetime, Principal, TokenRecord};
use crate::policy::refusal::TokenProblem;
use crate::policy::time::{UnixMillis, UnixSeconds};

/// What is asked of a signed token besides its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// `iss`
    pub issuer: String,
    /// One of `aud`.
    pub audience: String,
    /// How far the issuer's clock may differ from ours.
    pub leeway: Duration,
}

/// The keys that signed tokens may be verified with. None of them is shared between algorithms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeySet(pub Vec<VerifyingKey>);

/// A key with the one algorithm it is used with. Debug shows its id.
#[derive(Clone)]
pub struct VerifyingKey {
    id: String,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        let material = |key: &Self| key.key.try_get_as_bytes().map(<[u8]>::to_vec).ok();
        self.id == other.id && self.algorithm == other.algorithm && material(self) == material(other)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({}, {:?})", self.id, self.algorithm)
    }
}

/// Why key material cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyProblem {
    /// An HMAC secret below 32 bytes (RFC 7518 section 3.2).
    ShortSecret,
    /// An RSA modulus below 2048 bits (RFC 7518 section 3.3).
    ShortRsa,
    /// Not the PEM of a public key for this algorithm.
    NotAKey,
}

/// The claims of a token of ours, with their exact types. A claim that appears twice is an error of the reader.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    workspace: String,
    scope: String,
    jti: Option<String>,
    iat: u64,
    exp: u64,
    nbf: Option<u64>,
    iss: String,
    aud: Audience,
}

/// `aud` is one text or a list (RFC 7519 section 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// A modulus of 2048 bits in base64url.
const SHORTEST_MODULUS: usize = 342;
/// The longest header part that is decoded, in base64url characters: 512 octets.
const MAX_HEADER: usize = 684;

impl VerifyingKey {
    /// A key for HS256 from its secret.
    pub fn hmac(id: String, secret: &[u8]) -> Result<Self, KeyProblem> {
        match secret.len() {
            32.. => Ok(Self { id, algorithm: Algorithm::HS256, key: DecodingKey::from_secret(secret) }),
            _ => Err(KeyProblem::ShortSecret),
        }
    }

    /// A key for RS256 from a public key in PEM.
    pub fn rsa(id: String, pem: &[u8]) -> Result<Self, KeyProblem> {
        /// The DER of a public key whose modulus has 2048 bits is never shorter.
        const SHORTEST_DER: usize = 267;
        let key = DecodingKey::from_rsa_pem(pem).map_err(|_| KeyProblem::NotAKey)?;
        match key.try_get_as_bytes().map_err(|_| KeyProblem::NotAKey)?.len() {
            SHORTEST_DER.. => Ok(Self { id, algorithm: Algorithm::RS256, key }),
            _ => Err(KeyProblem::ShortRsa),
        }
    }

    /// A key for ES256 from a public key in PEM: a point on P-256.
    pub fn ecdsa(id: String, pem: &[u8]) -> Result<Self, KeyProblem> {
        /// An uncompressed point: a tag and two coordinates of 32 octets (SEC 1 section 2.3.3).
        const POINT: usize = 65;
        let key = DecodingKey::from_ec_pem(pem).map_err(|_| KeyProblem::NotAKey)?;
        let is_p256 = key.try_get_as_bytes().is_ok_and(|point| point.len() == POINT);
        is_p256.then_some(Self { id, algorithm: Algorithm::ES256, key }).ok_or(KeyProblem::NotAKey)
    }

    /// A key for EdDSA from a public key in PEM: Ed25519.
    pub fn eddsa(id: String, pem: &[u8]) -> Result<Self, KeyProblem> {
        let key = DecodingKey::from_ed_pem(pem).map_err(|_| KeyProblem::NotAKey)?;
        Ok(Self { id, algorithm: Algorithm::EdDSA, key })
    }

    /// A public key of a JWK Set (RFC 7517) that may verify signatures; `None` for any other key, which is to be ignored (section 5).
    ///
    /// A symmetric key in a document that is served to everybody is nobody's secret.
    pub fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let is_for_signatures = jwk
            .common
            .public_key_use
            .as_ref()
            .is_none_or(|usage| *usage == PublicKeyUse::Signature)
            && jwk.common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) if rsa.n.len() >= SHORTEST_MODULUS => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
            _ => return None,
        };
        let says_otherwise = jwk.common.key_algorithm.is_some_and(|said| said.to_string() != format!("{algorithm:?}"));
        if !is_for_signatures || says_otherwise {
            return None;
        }
        Some(Self { id: jwk.common.key_id.clone()?, algorithm, key: DecodingKey::from_jwk(jwk).ok()? })
    }

    /// The `kid`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The one algorithm it is used with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What tokens for this key are signed with: its own secret, or the private key in PEM that belongs to it.
    pub fn signing_key(&self, private_key: Option<&[u8]>) -> Result<EncodingKey, &'static str> {
        let Some(pem) = private_key else {
            return match (self.algorithm, self.key.try_get_as_bytes()) {
                (Algorithm::HS256, Ok(secret)) => Ok(EncodingKey::from_secret(secret)),
                _ => Err("this key is public: the private key that belongs to it is needed"),
            };
        };
        let key = match self.algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem),
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
            _ => return Err("this key is a shared secret: no private key belongs to it"),
        };
        key.map_err(|_| "this is not a private key for the key's algorithm in PEM")
    }
}

impl KeySet {
    /// Verifies a JWT without its prefix: the caller, or which kind of problem it has.
    ///
    /// A token that names a key which is not here is [`TokenProblem::UnknownKey`]: the set may be out of date.
    pub fn verify(&self, expected: &Expected, jwt: &str, now: UnixMillis) -> Result<Principal, TokenProblem> {
        let key = self.key_for(jwt)?;
        let mut signature_only = Validation::new(key.algorithm);
        signature_only.required_spec_claims.clear();
        signature_only.validate_exp = false;
        signature_only.validate_aud = false;
        let claims = decode::<Claims>(jwt, &key.key, &signature_only).map_err(|error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::Json(_) => TokenProblem::Claims,
            _ => TokenProblem::Signature,
        })?;
        expected.judge(claims.claims, jwt, now)
    }

    /// The key a token names. Without `kid` it is the only one, where there is only one; while there is none it is unknown.
    fn key_for(&self, jwt: &str) -> Result<&VerifyingKey, TokenProblem> {
        if jwt.find('.').is_none_or(|end| end > MAX_HEADER) {
            return Err(TokenProblem::Malformed);
        }
        let header = decode_header(jwt).map_err(|_| TokenProblem::Signature)?;
        let points_elsewhere =
            header.crit.is_some() || header.jku.is_some() || header.x5u.is_some() || header.jwk.is_some();
        let is_typed = header
            .typ
            .as_deref()
            .is_none_or(|typ| typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("at+jwt"));
        if points_elsewhere || !is_typed {
            return Err(TokenProblem::Claims);
        }
        let key = match (&header.kid, self.0.as_slice()) {
            (None, [only]) => Some(only),
            (None, []) => None,
            (None, _) => return Err(TokenProblem::Signature),
            (Some(kid), keys) => keys.iter().find(|key| key.id == *kid),
        };
        let key = key.ok_or(TokenProblem::UnknownKey)?;
        if key.algorithm == header.alg { Ok(key) } else { Err(TokenProblem::Signature) }
    }
}

impl Expected {
    /// Reads the claims of a token whose signature is good.
    fn judge(&self, claims: Claims, jwt: &str, now: UnixMillis) -> Result<Principal, TokenProblem> {
        let is_ours = match &claims.aud {
            Audience::One(one) => *one == self.audience,
            Audience::Many(many) => many.contains(&self.audience),
        };
        let latest = now.plus(self.leeway).seconds();
        let is_begun = UnixSeconds(claims.iat) <= latest && claims.nbf.is_none_or(|nbf| UnixSeconds(nbf) <= latest);
        if claims.iss != self.issuer || !is_ours || !is_begun {
            return Err(TokenProblem::Claims);
        }
        let id = public_id(claims.jti, jwt);
        let life = Lifetime { created_at: Some(UnixSeconds(claims.iat)), expires_at: Some(UnixSeconds(claims.exp)) };
        TokenRecord::new(&id, &claims.workspace, &claims.sub, claims.scope.split_ascii_whitespace(), life)
            .map_err(|_| TokenProblem::Claims)?
            .signed(now, self.leeway)
    }
}

/// A token's id: its `jti`, else the digest of what is signed. Of the signature itself there may be several (ECDSA).
fn public_id(jti: Option<String>, jwt: &str) -> String {
    let signed = jwt.rsplit_once('.').map_or(jwt, |(signed, _)| signed);
    jti.unwrap_or_else(|| TokenDigest::of(signed).to_hex())
}

/// The id that a JWT has if it is valid, without asking whether it is; `None` for what is no JWT.
pub fn claimed_id(jwt: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        jti: Option<String>,
    }
    let named = jsonwebtoken::dangerous::insecure_decode::<Named>(jwt).ok()?;
    Some(public_id(named.claims.jti, jwt))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    const SECRET: &[u8] = b"an hmac secret of thirty-two bytes";
    const ED_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJTvR4LxGFODKWAaRXWFCiGI7RHKgl1C3kDw0jSQjsQ3\n-----END PRIVATE KEY-----\n";

    fn expected() -> Expected {
        Expected { issuer: "mailtrixy".into(), audience: "mailtrixy-api".into(), leeway: Duration::from_secs(30) }
    }

    fn tokens() -> KeySet {
        KeySet(vec![VerifyingKey::hmac("k1".into(), SECRET).unwrap()])
    }

    fn claims() -> Value {
        json!({"sub": "u1", "workspace": "w1", "scope": "contacts ai", "jti": "t1", "iat": 1000, "exp": 2000,
               "iss": "mailtrixy", "aud": "mailtrixy-api"})
    }

    fn with(key: &str, value: Value) -> Value {
        let mut claims = claims();
        match value {
            Value::Null => {
                claims.as_object_mut().unwrap().remove(key);
            }
            value => claims[key] = value,
        }
        claims
    }

    fn header(change: impl FnOnce(&mut Header)) -> Header {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("k1".into());
        change(&mut header);
        header
    }

    fn verify_at(now: u64, header: &Header, claims: &Value) -> Result<Principal, TokenProblem> {
        let jwt = encode(header, claims, &EncodingKey::from_secret(SECRET)).unwrap();
        tokens().verify(&expected(), &jwt, UnixMillis(now * 1000))
    }

    fn verify(claims: &Value) -> Result<Principal, TokenProblem> {
        verify_at(1500, &header(|_| {}), claims)
    }

    #[test]
    fn a_token_of_ours_names_its_caller() {
        let principal = verify(&claims()).unwrap();
        assert_eq!((principal.workspace(), principal.user(), principal.token_id()), ("w1", "u1", "t1"));
        assert_eq!(principal.scopes().to_string(), "ai contacts");
        assert_eq!(principal.ends_at(), Some(UnixMillis(2_030_000)));
        assert_eq!(verify(&with("jti", Value::Null)).unwrap().token_id().len(), 64);
        assert!(verify(&with("aud", json!(["other", "mailtrixy-api"]))).is_ok());
    }

    #[test]
    fn claims_that_are_not_for_us_are_refused() {
        for (key, value) in [
            ("iss", json!("other")),
            ("iss", json!(["mailtrixy"])),
            ("aud", json!("other")),
            ("aud", json!([])),
            ("exp", json!("2000")),
            ("exp", json!(2000.5)),
            ("exp", json!(-1)),
            ("iat", json!(1531)),
            ("nbf", json!(1531)),
            ("sub", json!(7)),
            ("workspace", json!("")),
            ("scope", json!(["contacts"])),
            ("scope", json!("a\"b")),
            ("jti", json!("x y")),
        ] {
            assert_eq!(verify(&with(key, value.clone())).err(), Some(TokenProblem::Claims), "{key} {value}");
        }
        for key in ["exp", "iat", "sub", "workspace", "scope", "iss", "aud"] {
            assert_eq!(verify(&with(key, Value::Null)).err(), Some(TokenProblem::Claims), "{key}");
        }
    }

    #[test]
    fn exp_holds_with_the_leeway_and_not_a_millisecond_longer() {
        assert!(verify_at(2029, &header(|_| {}), &claims()).is_ok());
        assert_eq!(verify_at(2030, &header(|_| {}), &claims()).err(), Some(TokenProblem::Expired));
        assert!(verify_at(970, &header(|_| {}), &claims()).is_ok());
        assert_eq!(verify_at(969, &header(|_| {}), &claims()).err(), Some(TokenProblem::Claims));
    }

    #[test]
    fn the_header_chooses_a_key_and_nothing_else() {
        let refused = |change: fn(&mut Header)| verify_at(1500, &header(change), &claims()).err();
        assert_eq!(refused(|h| h.kid = Some("k2".into())), Some(TokenProblem::UnknownKey));
        assert_eq!(refused(|h| h.kid = Some("../k1".into())), Some(TokenProblem::UnknownKey));
        assert_eq!(refused(|h| h.alg = Algorithm::HS384), Some(TokenProblem::Signature));
        assert_eq!(refused(|h| h.crit = Some(vec!["exp".into()])), Some(TokenProblem::Claims));
        assert_eq!(refused(|h| h.jku = Some("https://evil.example".into())), Some(TokenProblem::Claims));
        assert_eq!(refused(|h| h.x5u = Some("https://evil.example".into())), Some(TokenProblem::Claims));
        assert_eq!(refused(|h| h.typ = Some("dpop+jwt".into())), Some(TokenProblem::Claims));
        assert_eq!(refused(|h| h.cty = Some("x".repeat(600))), Some(TokenProblem::Malformed));
        assert_eq!(refused(|h| h.kid = None), None);
        assert_eq!(refused(|h| h.typ = None), None);
        assert_eq!(refused(|h| h.typ = Some("at+jwt".into())), None);
    }

    #[test]
    fn an_unsigned_or_otherwise_signed_token_is_refused() {
        let good = encode(&header(|_| {}), &claims(), &EncodingKey::from_secret(SECRET)).unwrap();
        let refused = |jwt: &str| tokens().verify(&expected(), jwt, UnixMillis(1_500_000)).err();
        let (message, _) = good.rsplit_once('.').unwrap();
        let payload = message.split('.').nth(1).unwrap();
        // {"alg":"none","kid":"k1"} and {"alg":"HS256","kid":"k1","kid":"k1"}
        assert_eq!(refused(&format!("eyJhbGciOiJub25lIiwia2lkIjoiazEifQ.{payload}.x")), Some(TokenProblem::Signature));
        assert_eq!(
            refused(&format!("eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIiwia2lkIjoiazEifQ.{payload}.x")),
            Some(TokenProblem::Signature)
        );
        assert_eq!(refused(&format!("{message}.AAAA")), Some(TokenProblem::Signature));
        let other =
            encode(&header(|_| {}), &claims(), &EncodingKey::from_secret(b"another secret of at least 32 bytes"))
                .unwrap();
        assert_eq!(refused(&other), Some(TokenProblem::Signature));
    }

    #[test]
    fn a_token_under_another_keys_algorithm_is_refused() {
        let jwt = encode(
            &header(|h| h.alg = Algorithm::EdDSA),
            &claims(),
            &EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).unwrap(),
        )
        .unwrap();
        assert_eq!(tokens().verify(&expected(), &jwt, UnixMillis(1_500_000)).err(), Some(TokenProblem::Signature));
    }

    #[test]
    fn weak_key_material_is_refused() {
        assert_eq!(VerifyingKey::hmac("k".into(), &[0; 31]).err(), Some(KeyProblem::ShortSecret));
        assert_eq!(VerifyingKey::rsa("k".into(), b"not a key").err(), Some(KeyProblem::NotAKey));
        assert_eq!(VerifyingKey::eddsa("k".into(), b"").err(), Some(KeyProblem::NotAKey));
        let rsa1024 = b"-----BEGIN PUBLIC KEY-----\nMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDRhGF7X4A0ZVlEg594WmODVVUI\niiPQs04aLmvfg8SborHss5gQXu0aIdUT6nb5rTh5hD2yfpF2WIW6M8z0WxRhwicg\nXwi80H1aLPf6lEPPLvN29EhQNjBpkFkAJUbS8uuhJEeKw0cE49g80eBBF4BCqSL6\nPFQbP9/rByxdxEoAIQIDAQAB\n-----END PUBLIC KEY-----\n";
        assert_eq!(VerifyingKey::rsa("k".into(), rsa1024).err(), Some(KeyProblem::ShortRsa));
        assert_eq!(VerifyingKey::ecdsa("k".into(), rsa1024).err(), Some(KeyProblem::NotAKey));
    }

    #[test]
    fn of_a_jwk_set_only_strong_public_signature_keys_are_taken() {
        let n = format!("{}g", "n".repeat(341));
        let taken =
            |jwk: Value| VerifyingKey::from_jwk(&serde_json::from_value(jwk).unwrap()).map(|key| format!("{key:?}"));
        assert_eq!(
            taken(json!({"kty": "RSA", "kid": "a", "n": n, "e": "AQAB"})).as_deref(),
            Some("VerifyingKey(a, RS256)")
        );
        let ed = json!({"kty": "OKP", "crv": "Ed25519", "kid": "b", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "use": "sig", "alg": "EdDSA"});
        assert_eq!(taken(ed).as_deref(), Some("VerifyingKey(b, EdDSA)"));
        for jwk in [
            json!({"kty": "RSA", "n": n, "e": "AQAB"}),
            json!({"kty": "RSA", "kid": "a", "n": "short", "e": "AQAB"}),
            json!({"kty": "RSA", "kid": "a", "n": n, "e": "AQAB", "use": "enc"}),
            json!({"kty": "RSA", "kid": "a", "n": n, "e": "AQAB", "key_ops": ["sign"]}),
            json!({"kty": "RSA", "kid": "a", "n": n, "e": "AQAB", "alg": "RS512"}),
            json!({"kty": "oct", "kid": "a", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTMyYg"}),
        ] {
            assert_eq!(taken(jwk.clone()), None, "{jwk}");
        }
    }

    #[test]
    fn a_key_is_printed_without_its_material() {
        assert_eq!(format!("{:?}", VerifyingKey::hmac("k1".into(), SECRET).unwrap()), "VerifyingKey(k1, HS256)");
    }
}
