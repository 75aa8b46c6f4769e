//! Keys that an issuer publishes: fetched, rotated, taken away, and out of reach.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use crate::harness::backend::{Backend, json, nobody};
use crate::harness::client::Connection;
use crate::harness::gateway::{CONTACTS, Gateway, config};
use crate::harness::token::{SECRET, claims, token};
use crate::harness::wait_for;

/// A key pair of the issuer.
struct Pair {
    algorithm: Algorithm,
    private: EncodingKey,
}

impl Pair {
    fn of(algorithm: Algorithm) -> Self {
        let pem = |name: &str| {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/keys");
            std::fs::read(format!("{folder}/{name}.key.pem")).unwrap()
        };
        let private = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(&pem("rs256")).unwrap(),
            Algorithm::ES256 => EncodingKey::from_ec_pem(&pem("es256")).unwrap(),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(&pem("ed25519")).unwrap(),
            _ => EncodingKey::from_secret(SECRET.as_bytes()),
        };
        Self { algorithm, private }
    }

    fn published(&self, id: &str) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(&self.private, self.algorithm).unwrap();
        jwk.common.key_id = Some(id.to_owned());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        jwk
    }

    fn token(&self, id: &str) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(id.to_owned());
        format!("mb_{}", encode(&header, &claims("w", "contacts"), &self.private).unwrap())
    }
}

/// Where an issuer publishes; what it says can be changed.
struct Issuer {
    server: Backend,
    said: Arc<Mutex<(u16, String)>>,
}

impl Issuer {
    async fn publishing(keys: &[Jwk]) -> Self {
        let said = Arc::new(Mutex::new((200, String::new())));
        let answer = Arc::clone(&said);
        let server = Backend::answering(move |_| {
            let (status, body) = &*answer.lock().unwrap();
            json(*status, body)
        })
        .await;
        let issuer = Self { server, said };
        issuer.publish(keys);
        issuer
    }

    fn publish(&self, keys: &[Jwk]) {
        self.say(200, &json!({ "keys": keys }).to_string());
    }

    fn say(&self, status: u16, body: &str) {
        *self.said.lock().unwrap() = (status, body.to_owned());
    }

    fn fetches(&self) -> usize {
        self.server.seen().len()
    }
}

/// A gateway that knows the key `k1` of its file and those published at `issuer`.
async fn with_issuer(issuer: SocketAddr, backend: &Backend) -> Gateway {
    let sections = format!(
        "auth:\n  sources:\n    - signed: {{issuer: mailtrixy, audience: mailtrixy-api, jwks: {{url: \"http://{issuer}/jwks.json\"}}, keys: [{{id: k1, algorithm: HS256, secret: \"${{MB_SIGNING_SECRET}}\"}}]}}\nscopes: [contacts]\nupstreams: {{main: {{servers: [\"{}\"]}}}}\nroutes:\n{CONTACTS}",
        backend.address
    );
    Gateway::start(&config(&sections)).await
}

async fn status(gateway: &Gateway, token: &str) -> u16 {
    gateway.get("/api/v1/contacts", token).await.status
}

#[tokio::test]
async fn tokens_under_published_keys_are_let_in_with_one_fetch_for_all() {
    let pairs = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA].map(Pair::of);
    let [rsa, ec, ed] = &pairs;
    let issuer = Issuer::publishing(&[rsa.published("a"), ec.published("b"), ed.published("c")]).await;
    let backend = Backend::start().await;
    let gateway = with_issuer(issuer.server.address, &backend).await;
    for token in [rsa.token("a"), ec.token("b"), ed.token("c"), token("w", "contacts")] {
        assert_eq!(status(&gateway, &token).await, 200);
        assert_eq!(status(&gateway, &token).await, 200);
    }
    assert_eq!(status(&gateway, &rsa.token("b")).await, 401, "under another key than it says");
    assert_eq!(status(&gateway, &ed.token("a")).await, 401, "under another key than it says");
    assert_eq!((issuer.fetches(), issuer.server.only().target.as_str()), (1, "/jwks.json"));
}

#[tokio::test]
async fn a_token_under_a_new_key_is_let_in_after_one_fetch_and_one_under_a_key_that_is_gone_ends() {
    let (old, new) = (Pair::of(Algorithm::ES256), Pair::of(Algorithm::EdDSA));
    let issuer = Issuer::publishing(&[old.published("2025")]).await;
    let backend = Backend::start().await;
    let gateway = with_issuer(issuer.server.address, &backend).await;
    let (old_token, static_token) = (old.token("2025"), token("w", "contacts"));
    assert_eq!(status(&gateway, &old_token).await, 200);
    assert_eq!(status(&gateway, &old_token).await, 200, "cached");
    issuer.publish(&[new.published("2026")]);
    assert_eq!(status(&gateway, &new.token("2026")).await, 200);
    assert_eq!(issuer.fetches(), 2);
    assert_eq!(status(&gateway, &old_token).await, 401, "cached or not");
    assert_eq!(status(&gateway, &new.token("2026")).await, 200);
    assert_eq!(status(&gateway, &static_token).await, 200);
    assert_eq!(issuer.fetches(), 2);
}

#[tokio::test]
async fn a_thousand_tokens_under_keys_that_nobody_has_are_one_fetch() {
    let pair = Pair::of(Algorithm::EdDSA);
    let issuer = Issuer::publishing(&[pair.published("a")]).await;
    let backend = Backend::start().await;
    let gateway = with_issuer(issuer.server.address, &backend).await;
    let mut connections = Vec::new();
    for _ in 0..100 {
        connections.push(Connection::open(gateway.address).await);
    }
    for round in 0..10 {
        for (at, connection) in connections.iter_mut().enumerate() {
            let token = pair.token(&format!("unknown-{round}-{at}"));
            let request =
                format!("GET /api/v1/contacts HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n\r\n");
            connection.write(request.as_bytes()).await;
        }
        for connection in &mut connections {
            assert_eq!(connection.read(b"GET ").await.unwrap().status, 401);
        }
    }
    assert_eq!(issuer.fetches(), 2, "one at the start, one more");
    assert_eq!(status(&gateway, &pair.token("a")).await, 200);
}

#[tokio::test]
async fn the_keys_that_were_known_stay_while_the_issuer_fails_and_a_new_one_is_503_until_it_is_back() {
    let (known, new) = (Pair::of(Algorithm::ES256), Pair::of(Algorithm::EdDSA));
    let issuer = Issuer::publishing(&[known.published("a")]).await;
    let backend = Backend::start().await;
    let gateway = with_issuer(issuer.server.address, &backend).await;
    let cached = known.token("a");
    assert_eq!(status(&gateway, &cached).await, 200);
    issuer.say(500, "");
    let answer = gateway.get("/api/v1/contacts", &new.token("b")).await;
    answer.assert_envelope(503, "SERVER_ERROR", "The service is temporarily unavailable, please retry.");
    assert!(issuer.fetches() >= 2);
    assert_eq!(status(&gateway, &known.token("a")).await, 200);
    assert_eq!(status(&gateway, &cached).await, 200);
    issuer.publish(&[known.published("a"), new.published("b")]);
    wait_for("the new key", || async {
        let status = status(&gateway, &new.token("b")).await;
        assert!(status == 200 || status == 503);
        (status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_set_that_is_none_takes_no_key_away() {
    let known = Pair::of(Algorithm::ES256);
    for said in ["<html>", "{}", r#"{"keys":[]}"#, r#"{"keys":[{"kty":"oct","kid":"a","k":"c2VjcmV0"}]}"#] {
        let issuer = Issuer::publishing(&[known.published("a")]).await;
        let backend = Backend::start().await;
        let gateway = with_issuer(issuer.server.address, &backend).await;
        issuer.say(200, said);
        assert_eq!(status(&gateway, &known.token("b")).await, 503, "{said}");
        assert_eq!(status(&gateway, &known.token("a")).await, 200, "{said}");
    }
}

#[tokio::test]
async fn while_no_keys_were_ever_fetched_a_token_under_one_is_503_and_not_401() {
    let pair = Pair::of(Algorithm::EdDSA);
    let redirecting = Backend::answering(|_| {
        let mut redirect = json(302, "");
        redirect.headers_mut().insert("location", "/elsewhere".parse().unwrap());
        redirect
    })
    .await;
    let large = Issuer::publishing(&[pair.published("a")]).await;
    large.say(200, &format!("{}{}", json!({"keys": [pair.published("a")]}), " ".repeat(64 << 10)));
    for issuer in [nobody().await, redirecting.address, large.server.address] {
        let backend = Backend::start().await;
        let gateway = with_issuer(issuer, &backend).await;
        let answer = gateway.get("/api/v1/contacts", &pair.token("a")).await;
        answer.assert_envelope(503, "SERVER_ERROR", "The service is temporarily unavailable, please retry.");
        assert_eq!(answer.number("retry-after"), 1);
        assert_eq!(status(&gateway, &token("w", "contacts")).await, 200, "under a key of the file");
    }
    assert!(redirecting.seen().iter().all(|request| request.target == "/jwks.json"));
}

#[tokio::test]
async fn a_key_of_the_file_is_not_replaced_by_a_published_one() {
    let pair = Pair::of(Algorithm::EdDSA);
    let issuer = Issuer::publishing(&[pair.published("k1"), pair.published("a")]).await;
    let backend = Backend::start().await;
    let gateway = with_issuer(issuer.server.address, &backend).await;
    assert_eq!(status(&gateway, &pair.token("a")).await, 200);
    assert_eq!(status(&gateway, &pair.token("k1")).await, 401);
    assert_eq!(status(&gateway, &token("w", "contacts")).await, 200);
}

#[tokio::test]
async fn secrets_and_keys_for_encryption_in_a_set_verify_nothing() {
    let [secret, encrypting, usable] = [Algorithm::HS256, Algorithm::ES256, Algorithm::EdDSA].map(Pair::of);
    let mut for_encryption = encrypting.published("e");
    for_encryption.common.public_key_use = Some(PublicKeyUse::Encryption);
    let issuer = Issuer::publishing(&[secret.published("s"), for_encryption, usable.published("a")]).await;
    let backend = Backend::start().await;
    let gateway = with_issuer(issuer.server.address, &backend).await;
    assert_eq!(status(&gateway, &usable.token("a")).await, 200);
    assert_eq!(status(&gateway, &secret.token("s")).await, 401);
    assert_eq!(status(&gateway, &encrypting.token("e")).await, 401);
}
