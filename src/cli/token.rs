//! `token`: signed tokens for scripts and tests, what a token says, its digest, and its end.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::auth::revocation::{Published, Subject, publish};
use crate::cli::check::load;
use crate::cli::{ConfigArgument, Failure, print, runtime};
use crate::config::settings::{AuthSettings, Config, SourceSettings};
use crate::policy::credential::{Credential, Form, TokenDigest};
use crate::policy::signed::{Expected, KeySet, VerifyingKey, claimed_id};
use crate::policy::time::{UnixMillis, UnixSeconds, millis};
use crate::redis::Link;
use crate::telemetry::metrics::Metrics;

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Signs a token with a key of the configuration and prints it.
    Mint(Mint),
    /// Says what a token is and says, and whether it would be let in; never prints its secret.
    Inspect(Presented),
    /// Prints the SHA-256 of a token as the stores hold it.
    Digest(Presented),
    /// Ends tokens before their time, waits for the gateways, and says how many of them refuse it.
    Revoke(Revoke),
}

#[derive(Args)]
pub(super) struct Presented {
    #[command(flatten)]
    config: ConfigArgument,
    /// The token; `-` reads it from standard input, which keeps it out of the shell's history.
    #[arg(default_value = "-")]
    token: String,
}

#[derive(Args)]
pub(super) struct Mint {
    #[command(flatten)]
    config: ConfigArgument,
    /// Which key of the signed source; the first one if it is not said.
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// The private key in PEM, for a key that is not a shared secret.
    #[arg(long, value_name = "FILE")]
    private_key: Option<PathBuf>,
    #[arg(long)]
    workspace: String,
    #[arg(long)]
    user: String,
    /// Scopes with spaces between them; `*` for all.
    #[arg(long)]
    scope: String,
    /// How long the token is valid: 30s, 15m, 12h.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "1h")]
    lifetime: Duration,
    /// The token's public id; a new one if it is not said.
    #[arg(long)]
    id: Option<String>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct RevokedSubject {
    /// One token; `-` reads it from standard input.
    #[arg(long)]
    token: Option<String>,
    /// One opaque token, by its SHA-256; a signed one ends by its id.
    #[arg(long, value_name = "HEX")]
    digest: Option<String>,
    /// One token, by its public id (a signed token's `jti`).
    #[arg(long)]
    id: Option<String>,
    /// All tokens of a user made until now.
    #[arg(long)]
    user: Option<String>,
    /// All tokens of a workspace made until now.
    #[arg(long)]
    workspace: Option<String>,
}

#[derive(Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    subject: RevokedSubject,
}

pub(super) fn token(command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Mint(mint) => mint_token(&mint),
        TokenCommand::Inspect(presented) => inspect(&presented),
        TokenCommand::Digest(presented) => digest(&presented),
        TokenCommand::Revoke(revoke) => revoke_tokens(&revoke),
    }
}

fn config(argument: &ConfigArgument) -> Result<Config, Failure> {
    let path = &argument.config;
    load(path)?.into_config().map_err(|report| format!("{} cannot be used\n{report}", path.display()).into())
}

/// A token as it was typed, or from standard input.
pub(super) fn read_token(argument: &str) -> Result<String, Failure> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| format!("cannot read standard input: {error}"))?;
    Ok(text.trim().to_owned())
}

fn parse<'t>(token: &'t str, auth: &AuthSettings) -> Result<Credential<'t>, Failure> {
    Credential::parse(token, &auth.grammar).ok_or_else(|| {
        let prefix = &auth.grammar.prefix;
        format!("this is no token: one is `{prefix}` with 40 letters and digits and their checksum, perhaps behind `id|`, or `{prefix}` with a JWT").into()
    })
}

fn now() -> UnixMillis {
    UnixMillis(millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
}

/// The signed sources of a configuration.
fn issuers(config: &Config) -> impl Iterator<Item = (&Expected, &KeySet, bool)> {
    config.auth.sources.iter().filter_map(|source| match source {
        SourceSettings::Signed { expected, keys, jwks } => Some((expected, keys, jwks.is_some())),
        _ => None,
    })
}

/// What a minted token says.
pub(super) struct Claims<'a> {
    pub(super) user: &'a str,
    pub(super) workspace: &'a str,
    pub(super) scope: &'a str,
    pub(super) id: Option<&'a str>,
    pub(super) issued: UnixSeconds,
    pub(super) lifetime: Duration,
}

/// Signs claims for the first issuer that has the key, with the prefix in front.
pub(super) fn sign(
    config: &Config,
    key_id: Option<&str>,
    private_key: Option<&[u8]>,
    claims: &Claims<'_>,
) -> Result<String, Failure> {
    let is_meant = |key: &&VerifyingKey| key_id.is_none_or(|id| key.id() == id);
    let found = issuers(config).find_map(|(expected, keys, _)| Some((expected, keys.0.iter().find(is_meant)?)));
    let (expected, key) = found.ok_or_else(|| match key_id {
        Some(id) => format!("no signed source of the configuration has a key `{id}`"),
        None => "no signed source of the configuration has a key of its own".to_owned(),
    })?;
    if claims.lifetime < Duration::from_secs(1) {
        return Err("a lifetime is at least a second".to_owned().into());
    }
    let signing = key.signing_key(private_key).map_err(str::to_owned)?;
    let issued = claims.issued.0;
    let payload = json!({
        "iss": expected.issuer,
        "aud": expected.audience,
        "sub": claims.user,
        "workspace": claims.workspace,
        "scope": claims.scope,
        "jti": claims.id.map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned),
        "iat": issued,
        "exp": issued.saturating_add(claims.lifetime.as_secs()),
    });
    let jwt = jwt(key.algorithm(), key.id(), &payload, &signing)?;
    let verified = KeySet(vec![key.clone()]).verify(expected, &jwt, claims.issued.millis());
    verified.map_err(|problem| match private_key {
        Some(_) => {
            format!("the token would be refused ({problem:?}): is the private key the other half of `{}`?", key.id())
        }
        None => format!("the token would be refused ({problem:?}): ids and scopes are visible ASCII"),
    })?;
    Ok(format!("{}{jwt}", config.auth.grammar.prefix))
}

fn jwt(algorithm: Algorithm, key_id: &str, payload: &Value, key: &EncodingKey) -> Result<String, Failure> {
    let mut header = Header::new(algorithm);
    header.kid = Some(key_id.to_owned());
    encode(&header, payload, key).map_err(|error| Failure::Because(format!("cannot sign: {error}")))
}

fn mint_token(mint: &Mint) -> Result<(), Failure> {
    let config = config(&mint.config)?;
    let private_key = mint.private_key.as_deref().map(read_file).transpose()?;
    let claims = Claims {
        user: &mint.user,
        workspace: &mint.workspace,
        scope: &mint.scope,
        id: mint.id.as_deref(),
        issued: now().seconds(),
        lifetime: mint.lifetime,
    };
    let token = sign(&config, mint.key.as_deref(), private_key.as_deref(), &claims)?;
    print(&format!("{token}\n"))
}

fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {}", path.display(), error.kind()).into())
}

fn digest(presented: &Presented) -> Result<(), Failure> {
    let config = config(&presented.config)?;
    let token = read_token(&presented.token)?;
    print(&format!("{}\n", parse(&token, &config.auth)?.digest().to_hex()))
}

fn inspect(presented: &Presented) -> Result<(), Failure> {
    let config = config(&presented.config)?;
    let token = read_token(&presented.token)?;
    let credential = parse(&token, &config.auth)?;
    match credential.form() {
        Form::Opaque { id } => {
            let row = id.map_or_else(String::new, |id| format!(", row {id}"));
            print(&format!("opaque{row}, digest {}\n", credential.digest().to_hex()))?;
            print("well-formed; whether it is valid only its store knows\n")
        }
        Form::Signed { jwt } => inspect_signed(&config, jwt),
    }
}

fn inspect_signed(config: &Config, jwt: &str) -> Result<(), Failure> {
    let not_a_jwt = || Failure::Because("this has the form of a signed token, and is none".to_owned());
    let header = jsonwebtoken::decode_header(jwt).map_err(|_| not_a_jwt())?;
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(jwt).map_err(|_| not_a_jwt())?.claims;
    print(&format!("signed, {:?}, key {}\n", header.alg, header.kid.as_deref().unwrap_or("(none)")))?;
    for (name, value) in claims.as_object().ok_or_else(not_a_jwt)? {
        let time = matches!(name.as_str(), "exp" | "iat" | "nbf").then(|| value.as_u64()).flatten().map(calendar);
        print(&format!("{name}: {value}{}\n", time.map_or_else(String::new, |time| format!(" ({time})"))))?;
    }
    let mut problems = Vec::new();
    for (expected, keys, has_jwks) in issuers(config) {
        match keys.verify(expected, jwt, now()) {
            Ok(_) => return print("valid\n"),
            Err(problem) => {
                let published = if has_jwks { ", and keys that are published elsewhere were not asked" } else { "" };
                problems.push(format!("refused by issuer {}: {problem:?}{published}\n", expected.issuer));
            }
        }
    }
    print(if problems.is_empty() { "refused: no source verifies signed tokens\n" } else { "" })?;
    print(&problems.concat())?;
    Err(Failure::No)
}

fn calendar(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok());
    let text = time.and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok());
    text.unwrap_or_else(|| "far away".to_owned())
}

fn revoke_tokens(revoke: &Revoke) -> Result<(), Failure> {
    let config = config(&revoke.config)?;
    let subject = subject(&revoke.subject, &config.auth)?;
    let runtime = runtime()?;
    let Some(redis) = &config.redis else {
        return Err("redis.url is empty: there is no stream that gateways could follow".to_owned().into());
    };
    let metrics = Metrics::new().map_err(|error| format!("cannot count: {error}"))?;
    let published = runtime.block_on(async {
        let link = Link::start(redis.link.clone(), None, Arc::new(metrics));
        link.settle(Duration::from_secs(2)).await;
        publish(&link, &subject).await
    });
    let published = published.map_err(|why| format!("Redis: {why}"))?;
    report(&config, &subject, &published)
}

fn subject(given: &RevokedSubject, auth: &AuthSettings) -> Result<Subject, Failure> {
    let RevokedSubject { token, digest, id, user, workspace } = given;
    if let Some(token) = token {
        return presented_subject(&parse(&read_token(token)?, auth)?);
    }
    if let Some(digest) = digest {
        let read = TokenDigest::from_hex(digest).map(Subject::Digest);
        return read.ok_or_else(|| "a digest has 64 hexadecimal digits; `token digest` prints it".to_owned().into());
    }
    let named =
        id.clone().map(Subject::Id).or(user.clone().map(Subject::User)).or(workspace.clone().map(Subject::Workspace));
    named.filter(|subject| !subject.field().1.is_empty()).ok_or_else(|| "whose tokens?".to_owned().into())
}

/// What ends a token that is at hand: a signed one ends by its id, because the same claims may have more than one signature.
fn presented_subject(credential: &Credential<'_>) -> Result<Subject, Failure> {
    match credential.form() {
        Form::Opaque { .. } => Ok(Subject::Digest(credential.digest())),
        Form::Signed { jwt } => {
            let id = claimed_id(jwt).map(Subject::Id);
            id.ok_or_else(|| "this has the form of a signed token, and is none".to_owned().into())
        }
    }
}

fn report(config: &Config, subject: &Subject, published: &Published) -> Result<(), Failure> {
    let Published { live, silent, took } = published;
    let took = humantime::format_duration(Duration::from_millis(millis(*took).max(1)));
    print(&format!("revoked: refused by {} of {live} live gateways after {took}\n", live - silent.len()))?;
    if *live == 0 {
        print("no gateway is alive on this Redis; those that start read the stream first\n")?;
    }
    if matches!(subject, Subject::Digest(_) | Subject::Id(_)) {
        print("a store that still holds the token should lose it too: the stream forgets it after 100000 others\n")?;
    }
    if silent.is_empty() {
        return Ok(());
    }
    let ttl = humantime::format_duration(config.auth.cache.ttl);
    print(&format!("no word from {}: what they have cached they believe for {ttl} at most\n", silent.join(", ")))?;
    Err(Failure::No)
}
