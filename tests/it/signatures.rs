//! Signed tokens that are none: case 30 of the research, RFC 8725 from outside.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, crypto, encode};
use serde_json::{Value, json};

use crate::harness::backend::Backend;
use crate::harness::gateway::{CONTACTS, Gateway, config};
use crate::harness::token::{SECRET, claims, key_file, now};

/// A gateway that verifies under a shared secret `k1` and the public keys `rs`, `es` and `ed`.
async fn gateway(backend: SocketAddr) -> Gateway {
    let public = |id: &str, algorithm: &str, file: &str| {
        format!("{{id: {id}, algorithm: {algorithm}, public_key_file: \"{}\"}}", key_file(&format!("{file}.pub.pem")))
    };
    let keys = [
        r#"{id: k1, algorithm: HS256, secret: "${MB_SIGNING_SECRET}"}"#.to_owned(),
        public("rs", "RS256", "rs256"),
        public("es", "ES256", "es256"),
        public("ed", "EdDSA", "ed25519"),
    ];
    let sections = format!(
        "auth: {{sources: [{{signed: {{issuer: mailtrixy, audience: mailtrixy-api, keys: [{}]}}}}]}}\nscopes: [contacts]\nupstreams: {{main: {{servers: [\"{backend}\"]}}}}\nroutes:\n{CONTACTS}",
        keys.join(", "),
    );
    Gateway::start(&config(&sections)).await
}

fn private_key(algorithm: Algorithm) -> EncodingKey {
    let pem = |name: &str| std::fs::read(key_file(name)).unwrap();
    match algorithm {
        Algorithm::RS256 | Algorithm::RS512 | Algorithm::PS256 => {
            EncodingKey::from_rsa_pem(&pem("rs256.key.pem")).unwrap()
        }
        Algorithm::ES256 => EncodingKey::from_ec_pem(&pem("es256.key.pem")).unwrap(),
        Algorithm::EdDSA => EncodingKey::from_ed_pem(&pem("ed25519.key.pem")).unwrap(),
        _ => EncodingKey::from_secret(SECRET.as_bytes()),
    }
}

/// The first two parts of a token, as they are, whatever they say.
fn unsigned(header: &str, claims: &str) -> String {
    format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
}

/// A token with this header and these claims, under any key.
fn forged(header: &str, claims: &str, algorithm: Algorithm, key: &EncodingKey) -> String {
    let message = unsigned(header, claims);
    format!("mb_{message}.{}", crypto::sign(message.as_bytes(), key, algorithm).unwrap())
}

/// A token under `k1` with this header.
fn with_header(header: &Value) -> String {
    let key = private_key(Algorithm::HS256);
    forged(&header.to_string(), &claims("w", "contacts").to_string(), Algorithm::HS256, &key)
}

/// A valid header under `k1` with one thing changed or added.
fn header(name: &str, value: Value) -> Value {
    let mut header = json!({"alg": "HS256", "typ": "JWT", "kid": "k1"});
    header[name] = value;
    header
}

/// A token under `k1` with one claim changed, added, or taken away.
fn with_claim(name: &str, value: Option<Value>) -> String {
    let mut claims = claims("w", "contacts");
    match value {
        Some(value) => claims[name] = value,
        None => drop(claims.as_object_mut().unwrap().remove(name)),
    }
    let key = private_key(Algorithm::HS256);
    forged(&header("kid", json!("k1")).to_string(), &claims.to_string(), Algorithm::HS256, &key)
}

#[tokio::test]
async fn case_30_each_algorithm_is_verified_under_its_own_key_alone() {
    let backend = Backend::start().await;
    let gateway = gateway(backend.address).await;
    let algorithms =
        [("k1", Algorithm::HS256), ("rs", Algorithm::RS256), ("es", Algorithm::ES256), ("ed", Algorithm::EdDSA)];
    for (id, key_algorithm) in algorithms {
        for (_, algorithm) in algorithms {
            let mut header = Header::new(algorithm);
            header.kid = Some(id.to_owned());
            let token = encode(&header, &claims("w", "contacts"), &private_key(algorithm)).unwrap();
            let expected = if algorithm == key_algorithm { 200 } else { 401 };
            let status = gateway.get("/api/v1/contacts", &format!("mb_{token}")).await.status;
            assert_eq!(status, expected, "{algorithm:?} with the id of {key_algorithm:?}");
        }
    }
    assert_eq!(backend.seen().len(), 4);
}

#[tokio::test]
async fn case_30_a_header_that_wants_to_choose_how_it_is_verified_is_refused() {
    let backend = Backend::start().await;
    let gateway = gateway(backend.address).await;
    let good = claims("w", "contacts").to_string();
    assert_eq!(gateway.get("/api/v1/contacts", &with_header(&header("kid", json!("k1")))).await.status, 200);
    let public = std::fs::read(key_file("rs256.pub.pem")).unwrap();
    let of_public =
        |header: Value| forged(&header.to_string(), &good, Algorithm::HS256, &EncodingKey::from_secret(&public));
    let none = |spelling: &str, signature: &str| {
        let message = unsigned(&header("alg", json!(spelling)).to_string(), &good);
        format!("mb_{message}.{signature}")
    };
    let jwk = json!({"kty": "oct", "kid": "k1", "k": URL_SAFE_NO_PAD.encode(SECRET)});
    let under = |algorithm: Algorithm, said: &str, id: &str| {
        let header = json!({"alg": said, "kid": id}).to_string();
        forged(&header, &good, algorithm, &private_key(algorithm))
    };
    let refused = [
        ("alg none", none("none", "")),
        ("alg none with something for a signature", none("none", "AA")),
        ("alg None", none("None", "AA")),
        ("alg NONE", none("NONE", "AA")),
        ("no alg", with_header(&json!({"kid": "k1"}))),
        ("alg as a list", with_header(&header("alg", json!(["HS256"])))),
        (
            "alg twice",
            forged(
                r#"{"alg":"HS256","alg":"none","kid":"k1"}"#,
                &good,
                Algorithm::HS256,
                &private_key(Algorithm::HS256),
            ),
        ),
        ("HS256 under the public key of rs", of_public(json!({"alg": "HS256", "kid": "rs"}))),
        ("HS256 under the public key of rs as k1", of_public(json!({"alg": "HS256", "kid": "k1"}))),
        ("RS256 said, HS256 done, under the public key", of_public(json!({"alg": "RS256", "kid": "rs"}))),
        ("RS256 with the id of es", under(Algorithm::RS256, "RS256", "es")),
        ("RS256 with the id of k1", under(Algorithm::RS256, "RS256", "k1")),
        ("RS512 with the id of rs", under(Algorithm::RS512, "RS512", "rs")),
        ("PS256 with the id of rs", under(Algorithm::PS256, "PS256", "rs")),
        ("HS512 with the id of k1", under(Algorithm::HS512, "HS512", "k1")),
        ("no kid among several keys", with_header(&json!({"alg": "HS256"}))),
        ("a kid that nobody knows", with_header(&header("kid", json!("k2")))),
        ("a kid that is a path", with_header(&header("kid", json!("../../../../dev/null")))),
        ("a kid that is a path to k1", with_header(&header("kid", json!("./k1")))),
        ("a kid with a zero octet", with_header(&header("kid", json!("k1\0")))),
        ("a kid that is a query", with_header(&header("kid", json!("k1' OR '1'='1")))),
        ("a kid that is a number", with_header(&header("kid", json!(1)))),
        ("an empty kid", with_header(&header("kid", json!("")))),
        ("crit", with_header(&header("crit", json!(["exp"])))),
        ("an empty crit", with_header(&header("crit", json!([])))),
        ("jku", with_header(&header("jku", json!("https://keys.example.com/set")))),
        ("x5u", with_header(&header("x5u", json!("https://keys.example.com/chain")))),
        ("jwk", with_header(&header("jwk", jwk))),
        ("another typ", with_header(&header("typ", json!("dpop+jwt")))),
        ("a header that is too long", with_header(&header("cty", json!("x".repeat(600))))),
        ("a header that is no JSON", forged("alg", &good, Algorithm::HS256, &private_key(Algorithm::HS256))),
        ("a token that is too long", with_claim("note", Some(json!("x".repeat(4096))))),
    ];
    for (what, token) in refused {
        let answer = gateway.get("/api/v1/contacts", &token).await;
        answer.assert_envelope(401, "UNAUTHENTICATED", "Missing or invalid API token.");
        assert_eq!(
            answer.header("www-authenticate"),
            Some(r#"Bearer realm="mailtrixy", error="invalid_token""#),
            "{what}"
        );
        assert_eq!(backend.seen().len(), 1, "{what}");
    }
}

#[tokio::test]
async fn case_30_claims_that_are_not_exactly_a_tokens_of_ours_are_refused() {
    let backend = Backend::start().await;
    let gateway = gateway(backend.address).await;
    let status = async |token: &str| gateway.get("/api/v1/contacts", token).await.status;
    for (what, token) in [
        ("as they are", with_claim("note", Some(json!("more than we ask for")))),
        ("no jti", with_claim("jti", None)),
        ("nbf in the past", with_claim("nbf", Some((now() - 5).into()))),
        ("aud among others", with_claim("aud", Some(json!(["other", "mailtrixy-api"])))),
        ("a life of a week", with_claim("exp", Some((now() + 7 * 24 * 3600).into()))),
        ("within the leeway", with_claim("exp", Some((now() - 10).into()))),
    ] {
        assert_eq!(status(&token).await, 200, "{what}");
    }
    let let_in = backend.seen().len();
    for missing in ["exp", "iat", "sub", "workspace", "scope", "iss", "aud"] {
        assert_eq!(status(&with_claim(missing, None)).await, 401, "no {missing}");
        assert_eq!(status(&with_claim(missing, Some(json!(null)))).await, 401, "{missing} null");
    }
    for (name, value) in [
        ("exp", json!((now() + 3600).to_string())),
        ("exp", json!(now() as f64 + 3600.5)),
        ("exp", json!(-1)),
        ("exp", json!(now() - 31)),
        ("exp", json!([now() + 3600])),
        ("nbf", json!(now() + 3600)),
        ("nbf", json!((now() - 5).to_string())),
        ("iat", json!(now() + 3600)),
        ("iat", json!("now")),
        ("iss", json!("other")),
        ("iss", json!(["mailtrixy"])),
        ("aud", json!("other")),
        ("aud", json!([])),
        ("aud", json!({"mailtrixy-api": true})),
        ("sub", json!(7)),
        ("sub", json!("")),
        ("sub", json!("user-1\r\nX-Workspace-Id: w2")),
        ("workspace", json!("")),
        ("workspace", json!("w\n2")),
        ("workspace", json!(["w"])),
        ("scope", json!(["contacts"])),
        ("scope", json!("contacts\nX-User-Id:1 \u{e4}")),
        ("jti", json!("a b")),
        ("jti", json!(7)),
    ] {
        assert_eq!(status(&with_claim(name, Some(value.clone()))).await, 401, "{name} {value}");
    }
    let twice = claims("w", "contacts").to_string().replacen('{', r#"{"sub":"admin","#, 1);
    let key = private_key(Algorithm::HS256);
    let twice = forged(&header("kid", json!("k1")).to_string(), &twice, Algorithm::HS256, &key);
    assert_eq!(status(&twice).await, 401, "sub twice");
    assert_eq!(backend.seen().len(), let_in);
}

#[tokio::test]
async fn case_30_a_token_that_was_touched_is_refused() {
    let backend = Backend::start().await;
    let gateway = gateway(backend.address).await;
    let good = with_claim("jti", Some(json!("touched")));
    assert_eq!(gateway.get("/api/v1/contacts", &good).await.status, 200, "and is cached");
    let other = with_claim("workspace", Some(json!("w2")));
    let [good_head, good_claims, good_signature] = parts(&good);
    let [_, other_claims, _] = parts(&other);
    // The last character of 32 octets in base64url has two bits that mean nothing, and are 0.
    let same_octets = char::from(good_signature.bytes().last().unwrap() + 1);
    let cut = &good_signature[..good_signature.len() - 1];
    for (what, token) in [
        ("other claims", format!("mb_{good_head}.{other_claims}.{good_signature}")),
        ("a shorter signature", format!("mb_{good_head}.{good_claims}.{cut}")),
        ("a longer signature", format!("mb_{good_head}.{good_claims}.{good_signature}A")),
        ("another spelling of the signature", format!("mb_{good_head}.{good_claims}.{cut}{same_octets}")),
        ("no signature", format!("mb_{good_head}.{good_claims}.")),
        ("padding", format!("{good}=")),
        ("two tokens", format!("{good}.{good}")),
        ("two tokens as a list", format!("{good}, Bearer {good}")),
        ("an id in front", format!("1|{good}")),
    ] {
        assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 401, "{what}");
    }
    let folded = format!("mb_{good_head}.{good_claims}.\r\n {good_signature}");
    assert_eq!(gateway.get("/api/v1/contacts", &folded).await.status, 400, "an embedded newline");
    assert_eq!(backend.seen().len(), 1);
}

fn parts(token: &str) -> [&str; 3] {
    let parts: Vec<&str> = token.strip_prefix("mb_").unwrap().split('.').collect();
    parts.try_into().unwrap()
}
