//! Tokens that end before their time: case 27 of the research.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::harness::backend::{Backend, read_head, scripted};
use crate::harness::gateway::{AUTH, CONTACTS, Gateway, binary, config, with_redis};
use crate::harness::redis::{Redis, send};
use crate::harness::token::{claims, digest, key_file, opaque, sign};
use crate::harness::wait_for;

/// Known tokens are believed for so long here that nothing but a revocation can end one.
const LONG: &str = "  cache: {ttl: 1h}";

async fn three(config: &str) -> [Gateway; 3] {
    [Gateway::start(config).await, Gateway::start(config).await, Gateway::start(config).await]
}

async fn statuses(gateways: &[impl std::borrow::Borrow<Gateway>], token: &str) -> Vec<u16> {
    let mut statuses = Vec::new();
    for gateway in gateways {
        statuses.push(gateway.borrow().get("/api/v1/contacts", token).await.status);
    }
    statuses
}

/// `token revoke` with these arguments: whether it said yes, and what it said. It never shows a token.
fn revoke(gateway: &Gateway, arguments: &[&str]) -> (bool, String) {
    let path = gateway.config_path();
    let output = binary().args(["token", "revoke", "-c", path.to_str().unwrap()]).args(arguments).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(!said.contains("mb_"), "{said}");
    (output.status.success(), said)
}

fn signed(id: &str, user: &str, workspace: &str) -> String {
    let mut claims = claims(workspace, "contacts");
    claims["jti"] = id.into();
    claims["sub"] = user.into();
    sign(&claims)
}

#[tokio::test]
async fn case_27_a_revocation_reaches_three_gateways_before_the_command_returns() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateways = three(&with_redis(&redis, &[backend.address], LONG)).await;
    redis.knows_gateways(3).await;
    let by = ["token", "token with its id", "digest", "id", "user", "workspace", "nobody"].map(opaque);
    for (number, token) in by.iter().enumerate() {
        let (id, user, workspace) = ((number + 1).to_string(), format!("u{number}"), format!("w{number}"));
        redis.write_token(token, &id, &["user", &user, "workspace", &workspace]).await;
    }
    let [token, with_id, by_digest, id, user, workspace, nobody] = &by;
    let signed_as = ["jti", "whole", "owner", "team"].map(|n| signed(n, &format!("{n}-user"), &format!("{n}-team")));
    let [jti, whole, owner, team] = &signed_as;
    let untouched = signed("another", "another-user", "another-team");
    for (arguments, token) in [
        (["--token", token], token),
        (["--token", &format!("2|{with_id}")], with_id),
        (["--digest", &digest(by_digest)], by_digest),
        (["--id", "4"], id),
        (["--user", "u4"], user),
        (["--workspace", "w5"], workspace),
        (["--id", "jti"], jti),
        (["--token", whole], whole),
        (["--user", "owner-user"], owner),
        (["--workspace", "team-team"], team),
    ] {
        assert_eq!(statuses(&gateways, token).await, [200; 3], "{}", arguments[0]);
        let (is_done, said) = revoke(&gateways[0], &arguments);
        assert!(is_done && said.starts_with("revoked: refused by 3 of 3 live gateways after "), "{said}");
        assert_eq!(statuses(&gateways, token).await, [401; 3], "{}", arguments[0]);
    }
    for token in [nobody, &untouched] {
        assert_eq!(statuses(&gateways, token).await, [200; 3], "nobody revoked this one");
    }
}

#[tokio::test]
async fn case_27_a_signed_token_ends_with_every_signature_it_can_have() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let keys = format!("keys: [{{id: es, algorithm: ES256, public_key_file: \"{}\"}}]", key_file("es256.pub.pem"));
    let text = with_redis(&redis, &[backend.address], LONG);
    let hmac = AUTH.split_once("keys: ").unwrap().1.split_once("]}").unwrap().0;
    let gateway = Gateway::start(&text.replace(&format!("keys: {hmac}]"), &keys)).await;
    redis.knows_gateways(1).await;
    for id in [Some("es-1"), None] {
        let mut claims = claims("w", "contacts");
        match id {
            Some(id) => claims["jti"] = id.into(),
            None => drop(claims.as_object_mut().unwrap().remove("jti")),
        }
        let [token, twin] = both_signatures(&claims);
        assert_eq!(statuses(&[&gateway], &token).await, [200]);
        assert_eq!(statuses(&[&gateway], &twin).await, [200], "both are signatures of the same token");
        let (is_done, said) = revoke(&gateway, &["--token", &token]);
        assert!(is_done, "{said}");
        assert_eq!(statuses(&[&gateway], &token).await, [401]);
        assert_eq!(statuses(&[&gateway], &twin).await, [401]);
    }
}

/// A token under ES256, and the same one with the other signature that whoever holds it can make of the first: (r, n - s).
fn both_signatures(claims: &serde_json::Value) -> [String; 2] {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    /// The order of P-256 (FIPS 186-4, D.1.2.3).
    const ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let key = jsonwebtoken::EncodingKey::from_ec_pem(&std::fs::read(key_file("es256.key.pem")).unwrap()).unwrap();
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    let token = jsonwebtoken::encode(&header, claims, &key).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut octets = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for (at, octet) in octets[32..].iter_mut().enumerate().rev() {
        let of_order = i16::from(u8::from_str_radix(&ORDER[2 * at..2 * at + 2], 16).unwrap());
        let difference = of_order - i16::from(*octet) - borrow;
        borrow = i16::from(difference < 0);
        *octet = difference.rem_euclid(256) as u8;
    }
    [format!("mb_{token}"), format!("mb_{signed}.{}", URL_SAFE_NO_PAD.encode(octets))]
}

#[tokio::test]
async fn case_27_a_revocation_whose_event_was_lost_holds_within_the_ttl() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateways = three(&with_redis(&redis, &[backend.address], "  cache: {ttl: 1s}")).await;
    let token = opaque("deleted");
    redis.write_token(&token, "7", &[]).await;
    assert_eq!(statuses(&gateways, &token).await, [200; 3]);
    redis.delete_token(&token).await;
    let deleted_at = Instant::now();
    // Whoever asks late in the ttl is let in once more while the look-up that refuses the token is begun.
    wait_for("the ttl", || std::future::ready((deleted_at.elapsed() >= Duration::from_secs(1)).then_some(()))).await;
    assert_eq!(statuses(&gateways, &token).await, [401; 3]);
    assert_eq!(redis.calls("xadd").await, 0);
}

/// An introspection service that answers `active` once it is told to, and a way to tell it.
async fn slow_service() -> (SocketAddr, watch::Receiver<usize>, watch::Sender<bool>) {
    let ((asked, was_asked), (go, may_go)) = (watch::channel(0), watch::channel(true));
    let service = scripted(move |mut stream| {
        let (asked, mut may_go) = (asked.clone(), may_go.clone());
        async move {
            read_head(&mut stream).await;
            asked.send_modify(|count| *count += 1);
            may_go.wait_for(|may_go| *may_go).await.unwrap();
            let body = r#"{"active":true,"sub":"u","workspace":"w","scope":"contacts","jti":"in-flight"}"#;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    (service.await, was_asked, go)
}

#[tokio::test]
async fn case_27_a_look_up_that_was_in_flight_when_the_revocation_came_lets_nobody_in() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let (service, mut asked, go) = slow_service().await;
    let sections = format!(
        "redis: {{url: \"{}\"}}\nauth: {{sources: [{{introspection: {{url: \"http://{service}/\", secret: \"a secret of the service\", timeout: 5s}}}}]}}\nscopes: [contacts]\nupstreams: {{main: {{servers: [\"{}\"]}}}}\nroutes:\n{CONTACTS}",
        redis.url(),
        backend.address
    );
    let gateway = Gateway::start(&config(&sections)).await;
    let revocations = "gateway_token_revocation_lag_seconds_count";
    assert_eq!(gateway.get("/api/v1/contacts", &opaque("another")).await.status, 200, "the service knows every token");
    let token = opaque("in flight");
    go.send_replace(false);
    let asked_before = *asked.borrow();
    let in_flight = gateway.get("/api/v1/contacts", &token);
    let revoking = async {
        asked.wait_for(|count| *count > asked_before).await.unwrap();
        redis.revoke("digest", &digest(&token)).await;
        wait_for("the revocation", async || (gateway.metric(revocations).await == 1.0).then_some(())).await;
        go.send_replace(true);
    };
    let (answer, ()) = tokio::join!(in_flight, revoking);
    assert_ne!(answer.status, 200);
    assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 401);
    assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 401);
    let valid = r#"gateway_token_lookups_total{result="valid",source="introspection"}"#;
    assert_eq!(gateway.metric(valid).await, 2.0, "the service went on saying that the token is valid");
    assert_eq!(backend.seen().len(), 1);
}

/// Cuts every gateway off from Redis until `meanwhile` is over: what is sent within it is heard by nobody.
async fn while_disconnected(redis: &Redis, gateway: &Gateway, meanwhile: &[&[&str]]) {
    let mut connection = redis.connect().await;
    send::<()>(&mut connection, &["CONFIG", "SET", "requirepass", "nobody knows"]).await;
    send::<u64>(&mut connection, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    let lost = |line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.starts_with("lost Redis"));
    gateway.log_lines(1, lost).await;
    for words in meanwhile {
        send::<redis::Value>(&mut connection, words).await;
    }
    send::<()>(&mut connection, &["CONFIG", "SET", "requirepass", ""]).await;
}

#[tokio::test]
async fn case_27_a_gateway_that_was_cut_off_gets_what_it_missed() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let gateway = Gateway::start(&with_redis(&redis, &[backend.address], LONG)).await;
    let (first, missed) = (signed("first", "u1", "w1"), signed("missed", "u2", "w2"));
    assert_eq!(statuses(&[&gateway], &missed).await, [200]);
    redis.revoke("id", "first").await;
    refused(&gateway, &first).await;
    let entry = ["XADD", "mb:token:events", "*", "type", "revoke", "id", "missed"];
    while_disconnected(&redis, &gateway, &[&entry]).await;
    refused(&gateway, &missed).await;
    assert_eq!(statuses(&[&gateway], &first).await, [401]);
    let warned = |line: &str| line.contains("has lost entries");
    assert!(!gateway.output().lines().any(warned), "nothing was lost");
}

/// Waits until a token is refused, which it is for good.
async fn refused(gateway: &Gateway, token: &str) {
    wait_for("the token to be refused", async || {
        let status = gateway.get("/api/v1/contacts", token).await.status;
        assert!(status == 200 || status == 401, "{status}");
        (status == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn case_27_a_stream_that_lost_entries_has_every_cached_token_looked_up_again() {
    let lost: [&[&[&str]]; 2] = [
        // As after 100000 others: the entry is gone, and what is left begins behind what was read.
        &[
            &["XADD", "mb:token:events", "*", "type", "revoke", "id", "7"],
            &["XADD", "mb:token:events", "*", "type", "revoke", "id", "of-nobody"],
            &["XTRIM", "mb:token:events", "MAXLEN", "1"],
        ],
        // As after a failover to a replica that had not copied it.
        &[&["DEL", "mb:token:events"]],
    ];
    for meanwhile in lost {
        let (redis, backend) = (Redis::start().await, Backend::start().await);
        let gateway = Gateway::start(&with_redis(&redis, &[backend.address], LONG)).await;
        let (ended, kept, before) = (opaque("ended"), opaque("kept"), opaque("before"));
        for (token, id) in [(&ended, "7"), (&kept, "8"), (&before, "9")] {
            redis.write_token(token, id, &[]).await;
            assert_eq!(statuses(&[&gateway], token).await, [200]);
        }
        redis.revoke("id", "9").await;
        refused(&gateway, &before).await;
        let key = format!("mb:token:{}", digest(&ended));
        while_disconnected(&redis, &gateway, &[meanwhile, &[&["DEL", &key]]].concat()).await;
        refused(&gateway, &ended).await;
        assert_eq!(statuses(&[&gateway], &kept).await, [200]);
        assert_eq!(statuses(&[&gateway], &before).await, [401], "what was known of revocations is not forgotten");
        // A moment after an outage nobody waits for a look-up that can be done without.
        wait_for("each to be looked up once more", async || (redis.calls("hgetall").await >= 6).then_some(())).await;
        assert_eq!(redis.calls("hgetall").await, 6, "and only once");
    }
}

#[tokio::test]
async fn case_27_a_gateway_that_starts_later_knows_earlier_revocations() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let (token, other) = (signed("early", "u1", "w1"), signed("other", "u2", "w2"));
    redis.command::<String>(&["XADD", "mb:token:events", "*", "type", "created", "id", "other"]).await;
    redis.revoke("id", "early").await;
    let gateway = Gateway::start(&with_redis(&redis, &[backend.address], LONG)).await;
    assert_eq!(statuses(&[&gateway], &token).await, [401], "at its first request");
    assert_eq!(statuses(&[&gateway], &other).await, [200], "an entry that revokes nothing");
}
