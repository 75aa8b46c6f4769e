//! The request that is measured, and the gateway it comes to: a signed token that is known, a scope, a limit counted in memory.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::request::Parts;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use mailtrixy_gateway::auth::Identifier;
use mailtrixy_gateway::auth::revocation::Revocations;
use mailtrixy_gateway::config::Loaded;
use mailtrixy_gateway::config::settings::Config;
use mailtrixy_gateway::limits::Limits;
use mailtrixy_gateway::pipeline::{Admission, Permit, Trail};
use mailtrixy_gateway::policy::{ClientIp, head};
use mailtrixy_gateway::ports::{Clock, SystemClock};
use mailtrixy_gateway::telemetry::metrics::Metrics;

/// Who asks.
pub const CLIENT: ClientIp = ClientIp(IpAddr::V4(Ipv4Addr::LOCALHOST));
/// What tokens are signed with.
pub const SECRET: &str = "a signing secret for samples, 32 bytes or more";

/// What every configuration begins with.
const HEAD: &str = "version: 1\nlisteners: [{address: '127.0.0.1:0'}]\nbase_path: /api/v1\n";
const RULES: &str = r"
auth:
  sources: [{signed: {issuer: mailtrixy, audience: mailtrixy-api, keys: [{id: k1, algorithm: HS256, secret: '${SECRET}'}]}}]
scopes: [contacts]
limits: {general: {requests: 1000000000, per: 1m}}
upstreams: {contacts: {servers: ['127.0.0.1:1']}}
routes:
  contacts: {path: '/contacts/**', scope: contacts, limit: general, upstream: contacts}
";

/// A gateway without sockets.
pub struct Sample {
    /// Its rules.
    pub config: Config,
    /// What it counts in.
    pub metrics: Arc<Metrics>,
    admission: Admission,
    token: String,
    _runtime: tokio::runtime::Runtime,
}

impl Sample {
    /// One that knows the token, and has counted a request with it: what is made at a first use is made.
    pub fn new() -> Self {
        let config = config(RULES);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let metrics = Arc::new(Metrics::new().expect("metrics"));
        let identifier = {
            let _inside = runtime.enter();
            let revocations = Revocations::none(Arc::clone(&clock), Arc::clone(&metrics));
            Identifier::start(&config.auth, None, revocations, Arc::clone(&clock), Arc::clone(&metrics))
        };
        let limits = Arc::new(Limits::new(None, Arc::default(), clock));
        let admission = Admission { policy: Arc::clone(&config.policy), identifier, limits };
        let sample = Self { config, metrics, admission, token: token(), _runtime: runtime };
        // The first verifies it, the second finds it.
        for _ in 0..2 {
            sample.admit(&sample.head(), &mut Trail::default());
        }
        sample
    }

    /// The request as it comes.
    pub fn request(&self) -> Bytes {
        let token = &self.token;
        Bytes::from(format!(
            "GET /api/v1/contacts/7?include=tags HTTP/1.1\r\nHost: api.example.com\r\nAuthorization: Bearer {token}\r\n\
             Accept: application/json\r\nAccept-Encoding: gzip, br\r\nUser-Agent: mailtrixy-php/3.1\r\n\r\n"
        ))
    }

    /// Its head, read.
    pub fn head(&self) -> Parts {
        head::read(&self.request(), 100).expect("a head").parts
    }

    /// Lets a request in. Nothing on its way waits for anything.
    pub fn admit(&self, head: &Parts, trail: &mut Trail) -> Permit {
        let admitted = self.admission.admit(head, CLIENT, trail).now_or_never();
        admitted.expect("an answer at once").expect("a permit")
    }

    /// Who calls, from the Authorization field alone.
    pub fn identify(&self, head: &Parts) -> bool {
        self.admission.identifier.identify(&head.headers, CLIENT).now_or_never().expect("an answer at once").is_ok()
    }

    /// The token without what tells it from other JWTs.
    pub fn jwt(&self) -> &str {
        self.token.trim_start_matches("mb_")
    }
}

/// The configuration of a gateway with these `rules`.
pub fn config(rules: &str) -> Config {
    let environment = |name: &str| (name == "SECRET").then(|| SECRET.to_owned());
    let loaded = Loaded::from_text("sample.yaml".to_owned(), format!("{HEAD}{rules}"), &environment);
    loaded.into_config().expect("a configuration")
}

fn token() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs();
    let claims = serde_json::json!({
        "iss": "mailtrixy", "aud": "mailtrixy-api", "sub": "user-1", "workspace": "workspace-1", "scope": "contacts",
        "jti": "token-1", "iat": now, "exp": now + 86_400,
    });
    let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::HS256) };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    format!("mb_{}", jsonwebtoken::encode(&header, &claims, &key).expect("a token"))
}
