//! `token mint`, `inspect`, `digest` and `revoke`, and `ready`, as somebody types them.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::backend::{Backend, nobody};
use crate::harness::client::Connection;
use crate::harness::gateway::{AUTH, CONTACTS, Gateway, binary, config, simple, with_redis};
use crate::harness::redis::Redis;
use crate::harness::token::{SECRET, claims, key_file, now, opaque, secrets, sign, token};
use crate::harness::wait_for;

/// What a command came to.
struct Ran {
    status: Option<i32>,
    output: String,
    errors: String,
}

/// A folder with a gateway.yaml to run commands in.
struct Place(TempDir);

impl Place {
    fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("gateway.yaml"), config).unwrap();
        Self(folder)
    }

    /// `token …` with `input` on its standard input.
    fn token(&self, arguments: &[&str], input: &str) -> Ran {
        self.run(&[&["token"], arguments].concat(), input)
    }

    fn run(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = binary();
        command.current_dir(self.0.path()).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        // A command that reads nothing may have ended.
        let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
        let output = process.wait_with_output().unwrap();
        let text = |octets| String::from_utf8(octets).unwrap();
        Ran { status: output.status.code(), output: text(output.stdout), errors: text(output.stderr) }
    }
}

impl Ran {
    /// What a command that said yes has printed.
    #[track_caller]
    fn yes(self) -> String {
        assert_eq!((self.status, self.errors.as_str()), (Some(0), ""), "{}", self.output);
        self.output
    }

    /// What a command that said no has printed, on both.
    #[track_caller]
    fn no(self) -> String {
        assert_eq!(self.status, Some(1), "{}{}", self.output, self.errors);
        self.output + &self.errors
    }
}

/// Keys of every algorithm: `k1`, `rs`, `es` and `ed`.
fn all_keys(backend: SocketAddr) -> String {
    let public =
        [("rs", "RS256", "rs256"), ("es", "ES256", "es256"), ("ed", "EdDSA", "ed25519")].map(|(id, name, file)| {
            let file = key_file(&format!("{file}.pub.pem"));
            format!(", {{id: {id}, algorithm: {name}, public_key_file: \"{file}\"}}")
        });
    let last_key = r#"secret: "${MB_SIGNING_SECRET}"}"#;
    simple(&[backend], "", CONTACTS).replacen(last_key, &(last_key.to_owned() + &public.concat()), 1)
}

const WHO: [&str; 6] = ["--workspace", "w9", "--user", "u9", "--scope", "contacts ai"];

#[tokio::test]
async fn a_minted_token_is_let_in_whatever_its_key() {
    let backend = Backend::start().await;
    let text = all_keys(backend.address);
    let (gateway, place) = (Gateway::start(&text).await, Place::new(&text));
    for (key, private_key) in
        [("k1", None), ("rs", Some("rs256.key.pem")), ("es", Some("es256.key.pem")), ("ed", Some("ed25519.key.pem"))]
    {
        let path = private_key.map(key_file);
        let mut arguments = vec!["mint", "--key", key, "--id", "minted-9"];
        arguments.extend(WHO);
        arguments.extend(path.iter().flat_map(|path| ["--private-key", path.as_str()]));
        let minted = place.token(&arguments, "").yes();
        assert_eq!(gateway.get("/api/v1/contacts", minted.trim_end()).await.status, 200, "{key}");
        let seen = backend.seen().pop().unwrap();
        let identity = ["x-workspace-id", "x-user-id", "x-token-id", "x-token-scopes"].map(|name| seen.header(name));
        assert_eq!(identity, [Some("w9"), Some("u9"), Some("minted-9"), Some("ai contacts")], "{key}");
    }
}

#[tokio::test]
async fn a_minted_token_says_what_was_asked_of_it() {
    let place = Place::new(&simple(&[nobody().await], "", CONTACTS));
    let mint = |more: &[&str]| {
        let minted = place.token(&[&["mint"], &WHO[..4], more].concat(), "").yes();
        assert_eq!(minted.lines().count(), 1, "the token and nothing else");
        said(minted.trim_end())
    };
    let usual = mint(&["--scope", "contacts"]);
    assert_eq!(usual["exp"].as_u64().unwrap() - usual["iat"].as_u64().unwrap(), 3600);
    assert!(usual["iat"].as_u64().unwrap().abs_diff(now()) < 60);
    assert_eq!(usual["scope"], "contacts");
    assert_ne!(usual["jti"], mint(&["--scope", "contacts"])["jti"], "a new id for each");
    let asked = mint(&["--scope", "*", "--lifetime", "12h", "--id", "mine"]);
    assert_eq!(asked["exp"].as_u64().unwrap() - asked["iat"].as_u64().unwrap(), 12 * 3600);
    assert_eq!((&asked["scope"], &asked["jti"]), (&"*".into(), &"mine".into()));
    assert_eq!((&asked["workspace"], &asked["sub"]), (&"w9".into(), &"u9".into()));
    assert_eq!((&asked["iss"], &asked["aud"]), (&"mailtrixy".into(), &"mailtrixy-api".into()));
}

/// The claims of a token, unverified.
fn said(token: &str) -> Value {
    jsonwebtoken::dangerous::insecure_decode(token.strip_prefix("mb_").unwrap()).unwrap().claims
}

#[tokio::test]
async fn mint_says_why_it_cannot_sign() {
    let place = Place::new(&all_keys(nobody().await));
    let refused = |more: &[&str]| place.token(&[&["mint"], &WHO[..], more].concat(), "").no();
    let another = place.0.path().join("another.pem");
    std::fs::write(&another, "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJTvR4LxGFODKWAaRXWFCiGI7RHKgl1C3kDw0jSQjsQ3\n-----END PRIVATE KEY-----\n").unwrap();
    for (arguments, sentence) in [
        (&["--key", "rs"][..], "this key is public: the private key that belongs to it is needed"),
        (
            &["--key", "rs", "--private-key", &key_file("es256.key.pem")],
            "this is not a private key for the key's algorithm in PEM",
        ),
        (&["--key", "ed", "--private-key", another.to_str().unwrap()], "is the private key the other half of `ed`?"),
        (&["--key", "rs", "--private-key", "nowhere.pem"], "cannot read nowhere.pem: entity not found"),
        (
            &["--key", "k1", "--private-key", &key_file("rs256.key.pem")],
            "this key is a shared secret: no private key belongs to it",
        ),
        (&["--key", "k9"], "no signed source of the configuration has a key `k9`"),
        (&["--id", "two words"], "ids and scopes are visible ASCII"),
        (&["--lifetime", "0s"], "a lifetime is at least a second"),
    ] {
        let said = refused(arguments);
        assert!(said.starts_with("mailtrixy-gateway: ") && said.contains(sentence), "{said}");
        assert_eq!((said.lines().count(), secrets(&said).next()), (1, None), "{said}");
    }
    let endless = place.token(&[&["mint", "--lifetime", "18446744073709551615s"], &WHO[..]].concat(), "").yes();
    assert_eq!(said(endless.trim_end())["exp"], u64::MAX);
}

#[tokio::test]
async fn inspect_says_what_a_token_is_and_whether_it_would_be_let_in_and_never_repeats_it() {
    let place = Place::new(&simple(&[nobody().await], "", CONTACTS));
    let inspect = |token: &str| place.token(&["inspect", token], "");
    let with = |name: &str, value: Value| {
        let mut claims = claims("w9", "contacts");
        claims[name] = value;
        sign(&claims)
    };
    let valid = with("jti", "inspected".into());
    let said = inspect(&valid).yes();
    assert!(said.starts_with("signed, HS256, key k1\n") && said.ends_with("\nvalid\n"), "{said}");
    assert!(said.contains("\njti: \"inspected\"\n") && said.contains("\nworkspace: \"w9\"\n"), "{said}");
    let expired = inspect(&with("exp", 1_600_000_000.into())).no();
    assert!(expired.contains("exp: 1600000000 (2020-09-13T12:26:40Z)\n"), "{expired}");
    assert!(expired.ends_with("refused by issuer mailtrixy: Expired\n"), "{expired}");
    let foreign = inspect(&with("iss", "another".into())).no();
    assert!(foreign.ends_with("refused by issuer mailtrixy: Claims\n"), "{foreign}");
    let (head, _) = valid.rsplit_once('.').unwrap();
    let forged = inspect(&format!("{head}.{}", "A".repeat(43))).no();
    assert!(forged.ends_with("refused by issuer mailtrixy: Signature\n"), "{forged}");
    let row = inspect(&format!("7|{}", opaque("inspected"))).yes();
    let digest = crate::harness::token::digest(&opaque("inspected"));
    assert!(row.starts_with(&format!("opaque, row 7, digest {digest}\n")), "{row}");
    assert!(row.ends_with("whether it is valid only its store knows\n"), "{row}");
    let typed_wrong = inspect(&opaque("inspected").replace("mb_", "mb_0")).no();
    assert!(typed_wrong.starts_with("mailtrixy-gateway: this is no token"), "{typed_wrong}");
    for said in [said, expired, foreign, forged, row, typed_wrong] {
        assert_eq!(secrets(&said).next(), None, "{said}");
        assert!(!said.contains(valid.rsplit('.').next().unwrap()) && !said.contains(SECRET), "{said}");
    }
}

#[tokio::test]
async fn digest_is_the_sha256_that_stores_hold_and_a_token_may_come_from_standard_input() {
    let place = Place::new(&simple(&[nobody().await], "", CONTACTS));
    let token = "mb_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789abcdf8c8ab1e";
    let digest = "22b2b94c15649fc1147f36547824d8e7688d0bdc5161c4f6b8007dafd0ff7641\n";
    assert_eq!(place.token(&["digest", token], "").yes(), digest);
    assert_eq!(place.token(&["digest", &format!("12|{token}")], "").yes(), digest);
    assert_eq!(place.token(&["digest", "-"], &format!("{token}\n")).yes(), digest);
    assert_eq!(place.token(&["digest"], &format!("  12|{token}\r\n")).yes(), digest);
    assert!(place.token(&["inspect"], token).yes().starts_with("opaque, digest 22b2b9"));
    let none = place.token(&["digest"], "").no();
    assert!(none.starts_with("mailtrixy-gateway: this is no token"), "{none}");
}

#[tokio::test]
async fn revoke_says_what_it_needs() {
    let alone = Place::new(&simple(&[nobody().await], "", CONTACTS));
    let no_redis = alone.token(&["revoke", "--id", "7"], "").no();
    assert_eq!(no_redis, "mailtrixy-gateway: redis.url is empty: there is no stream that gateways could follow\n");
    for arguments in [&["revoke"][..], &["revoke", "--id", "7", "--user", "8"]] {
        let ran = alone.token(arguments, "");
        assert_eq!((ran.status, ran.output.as_str()), (Some(2), ""), "{}", ran.errors);
    }
    let digest = alone.token(&["revoke", "--digest", "22b2"], "").no();
    assert!(digest.contains("a digest has 64 hexadecimal digits"), "{digest}");
    let nobodys = alone.token(&["revoke", "--user", ""], "").no();
    assert!(nobodys.contains("whose tokens?"), "{nobodys}");
    let away = format!("redis: {{url: \"redis://{}\"}}\n{}", nobody().await, simple(&[nobody().await], "", CONTACTS));
    let away = Place::new(&away).token(&["revoke", "--id", "7"], "").no();
    assert!(away.starts_with("mailtrixy-gateway: Redis: ") && away.lines().count() == 1, "{away}");
}

#[tokio::test]
async fn revoke_without_a_gateway_is_kept_for_those_that_start() {
    let redis = Redis::start().await;
    let text = with_redis(&redis, &[nobody().await], "");
    let place = Place::new(&text);
    let token = token("w", "contacts");
    let said = place.token(&["revoke", "--token", "-"], &token).yes();
    assert!(said.starts_with("revoked: refused by 0 of 0 live gateways"), "{said}");
    assert!(said.contains("no gateway is alive on this Redis") && secrets(&said).next().is_none(), "{said}");
    let gateway = Gateway::start(&text).await;
    assert_eq!(gateway.get("/api/v1/contacts", &token).await.status, 401);
}

#[tokio::test]
async fn revoke_names_the_gateways_that_have_not_answered_and_says_no() {
    let (redis, backend) = (Redis::start().await, Backend::start().await);
    let text = with_redis(&redis, &[backend.address], "  cache: {ttl: 40s}");
    let hung = Gateway::start(&text).await;
    redis.knows_gateways(1).await;
    let name: Vec<String> = redis.command(&["ZRANGE", "mb:gateways", "0", "-1"]).await;
    let lively = Gateway::start(&text).await;
    redis.knows_gateways(2).await;
    let token = token("w", "contacts");
    hung.signal("STOP");
    let said = Place::new(&text).token(&["revoke", "--token", &token], "").no();
    hung.signal("CONT");
    assert!(said.starts_with("revoked: refused by 1 of 2 live gateways after "), "{said}");
    assert!(
        said.ends_with(&format!("no word from {}: what they have cached they believe for 40s at most\n", name[0])),
        "{said}"
    );
    assert_eq!(lively.get("/api/v1/contacts", &token).await.status, 401);
    wait_for("the gateway that was stopped", async || {
        (hung.get("/api/v1/contacts", &token).await.status == 401).then_some(())
    })
    .await;
}

#[test]
fn a_configuration_that_cannot_be_used_is_named() {
    let place = Place::new(&config(&format!("{AUTH}\nroutes: {{}}\nnonsense: 1\n")));
    let said = place.token(&["digest", &opaque("x")], "").no();
    assert!(
        said.starts_with("mailtrixy-gateway: gateway.yaml cannot be used\n") && said.contains("nonsense"),
        "{said}"
    );
}

/// `ready` for an admin listener at `admin`, by a configuration that a reload would refuse.
fn ready(admin: SocketAddr) -> Ran {
    let admin = format!("admin: {{address: \"{admin}\"}}");
    let text = config(&format!("{AUTH}\nnonsense: 1")).replacen("admin: {address: \"127.0.0.1:0\"}", &admin, 1);
    Place::new(&text).run(&["ready"], "")
}

#[tokio::test]
async fn ready_says_what_the_admin_listener_says() {
    let gateway = Gateway::start(&simple(&[nobody().await], "", CONTACTS)).await;
    assert_eq!(ready(gateway.admin).yes(), "ready\n");
    let everywhere = SocketAddr::from(([0, 0, 0, 0], gateway.admin.port()));
    assert_eq!(ready(everywhere).yes(), "ready\n");
    let address = gateway.address;
    let public = format!("mailtrixy-gateway: what listens on {address} is not the admin listener\n");
    assert_eq!(ready(address).no(), public);
    gateway.signal("STOP");
    let said = ready(gateway.admin).no();
    gateway.signal("CONT");
    assert_eq!(said, format!("mailtrixy-gateway: no answer from {} within 2s\n", gateway.admin));
    let said = ready(nobody().await).no();
    assert!(said.contains("no answer from 127.0.0.1:") && said.contains("refused"), "{said}");
}

#[tokio::test]
async fn a_gateway_that_drains_is_not_ready() {
    let gateway = Gateway::start(&simple(&[nobody().await], "", CONTACTS)).await;
    let mut unfinished = Connection::open(gateway.address).await;
    unfinished.write(b"GET /api/v1/contacts HTTP/1.1\r\n").await;
    let connections = format!("gateway_connections{{listener=\"{}\"}}", gateway.address);
    wait_for("the connection", async || (gateway.metric(&connections).await == 1.0).then_some(())).await;
    gateway.signal("TERM");
    wait_for("draining", async || (gateway.admin("/readyz").await.status == 503).then_some(())).await;
    assert_eq!(ready(gateway.admin).no(), "mailtrixy-gateway: not ready: draining\n");
}
