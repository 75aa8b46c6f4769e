//! `demo`: the whole gateway with nothing installed — the repository's own gateway.yaml, sample backends on its upstream addresses,
//! counts in memory, and a signing key that lives as long as the demonstration.

use std::io::IsTerminal as _;
use std::net::TcpListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::cli::token::{Claims, sign};
use crate::cli::{Failure, print, run};
use crate::config::Loaded;
use crate::config::settings::Config;
use crate::demo::{self, Backend};
use crate::policy::time::UnixSeconds;
use crate::proxy::server::Bound;

const GATEWAY_YAML: &str = include_str!("../../gateway.yaml");
/// How gateway.yaml has the log, and how somebody who looks on wants it.
const LOG_FOR_PROGRAMS: &str = "log: {format: json,";
const LOG_FOR_PEOPLE: &str = "log: {format: text,";
/// The upstreams of gateway.yaml and where it has their servers.
const BACKENDS: [(&str, &str); 4] = [
    ("contacts", "127.0.0.1:9101"),
    ("campaigns", "127.0.0.1:9102"),
    ("ai", "127.0.0.1:9103"),
    ("core", "127.0.0.1:9104"),
];
const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn demo() -> Result<(), Failure> {
    let secret = fresh_secret()?;
    let text = GATEWAY_YAML.replace("${MB_SIGNING_SECRET}", &secret).replace("${REDIS_URL:-}", "");
    let text = if std::io::stdout().is_terminal() { text.replace(LOG_FOR_PROGRAMS, LOG_FOR_PEOPLE) } else { text };
    let mut moved = Vec::new();
    let (backends, text) = backends(text, &mut moved)?;
    let text = free_listeners(text, &mut moved)?;
    let folder = Folder::new()?;
    let path = folder.0.join("gateway.yaml");
    std::fs::write(&path, &text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    let loaded = Loaded::from_text(path.display().to_string(), text, &|_| None);
    let config =
        loaded.into_config().map_err(|report| format!("the demonstration's own configuration is broken\n{report}"))?;
    let tokens = Tokens::new(&config)?;
    demo::serve(backends)?;
    let bound = Bound::new(&config, None)?;
    run::serve(bound, config, path.clone(), "", |bound| {
        print(&welcome(bound, &tokens, &moved, &path.display().to_string()))
    })
}

/// 32 random bytes in hexadecimal digits.
fn fresh_secret() -> Result<String, Failure> {
    use std::io::Read as _;
    let mut random = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut random))
        .map_err(|error| format!("cannot read random bytes: {error}"))?;
    Ok(random.iter().map(|octet| format!("{octet:02x}")).collect())
}

/// The sample backends on the ports of gateway.yaml, for other machines of a test network too.
pub(super) fn backends_only() -> Result<(), Failure> {
    let listen = |(name, address): (&'static str, &str)| {
        let address = address.replace("127.0.0.1", "0.0.0.0");
        let listener = TcpListener::bind(&address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
        Ok::<_, String>(Backend { name, listener })
    };
    demo::serve(BACKENDS.into_iter().map(listen).collect::<Result<_, _>>()?)?;
    loop {
        std::thread::park();
    }
}

/// A folder of this process that is removed with it. It holds the signing key, so it is nobody else's to read.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = std::env::temp_dir().join(format!("mailtrixy-gateway-demo-{}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| format!("cannot make the folder {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the temporary folder is the system's to clean.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Binds a sample backend on each upstream's address, or on another port where that one is taken.
fn backends(mut text: String, moved: &mut Vec<String>) -> Result<(Vec<Backend>, String), Failure> {
    let mut backends = Vec::new();
    for (name, address) in BACKENDS {
        let (listener, bound) = bind(address)?;
        if bound != address {
            moved.push(format!("{name} backend: {address} is taken, it is on {bound}"));
            text = text.replace(address, &bound);
        }
        backends.push(Backend { name, listener });
    }
    Ok((backends, text))
}

/// Moves the gateway's own listeners to other ports where the file's are taken.
fn free_listeners(mut text: String, moved: &mut Vec<String>) -> Result<String, Failure> {
    for (name, address) in [("gateway", "0.0.0.0:8080"), ("admin", "127.0.0.1:9090")] {
        let (probe, bound) = bind(address)?;
        drop(probe);
        if bound != address {
            moved.push(format!("{name} listener: {address} is taken, it is on {bound}"));
            text = text.replace(address, &bound);
        }
    }
    Ok(text)
}

fn bind(address: &str) -> Result<(TcpListener, String), Failure> {
    let host = address.split(':').next().unwrap_or_default();
    let listener = TcpListener::bind(address).or_else(|_| TcpListener::bind((host, 0)));
    let listener = listener.map_err(|error| format!("cannot listen on {host}: {error}"))?;
    let bound = listener.local_addr().map_err(|error| format!("cannot listen on {host}: {error}"))?;
    Ok((listener, bound.to_string()))
}

struct Tokens {
    all: String,
    contacts: String,
    expired: String,
}

impl Tokens {
    fn new(config: &Config) -> Result<Self, Failure> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let token = |scope, issued, lifetime| {
            let issued = UnixSeconds(issued);
            sign(
                config,
                None,
                None,
                &Claims { user: "user-1", workspace: "workspace-1", scope, id: None, issued, lifetime },
            )
        };
        Ok(Self {
            all: token("*", now, 24 * HOUR)?,
            contacts: token("contacts", now, 24 * HOUR)?,
            expired: token("*", now.saturating_sub(7200), HOUR)?,
        })
    }
}

fn welcome(bound: &Bound, tokens: &Tokens, moved: &[String], path: &str) -> String {
    let port = bound.addresses().first().map_or(8080, |address| address.port());
    let (base, admin) = (format!("http://127.0.0.1:{port}/api/v1"), bound.admin_address());
    let moved: String = moved.iter().map(|note| format!("note: {note}\n")).collect();
    let Tokens { all, contacts, expired } = tokens;
    format!(
        r#"
{moved}The gateway is on {base}, its console on http://{admin}/.
Its configuration is {path}: edit it while this runs.

Tokens, for your shell:

ALL={all}
CONTACTS={contacts}
EXPIRED={expired}

200  curl -i -H "Authorization: Bearer $ALL" "{base}/contacts?per_page=2"
401  curl -i {base}/contacts
401  curl -i -H "Authorization: Bearer $EXPIRED" {base}/contacts
403  curl -i -H "Authorization: Bearer $CONTACTS" {base}/campaigns
404  curl -i -H "Authorization: Bearer $ALL" {base}/nothing
422  curl -i -H "Authorization: Bearer $ALL" "{base}/contacts?per_page=1000&sort_by=password"
422  curl -i -H "Authorization: Bearer $ALL" --json '{{"name":"Ada"}}' {base}/contacts
429  for i in $(seq 11); do curl -s -o /dev/null -w '%{{http_code}} ' -X POST -H "Authorization: Bearer $ALL" {base}/campaigns/7/send; done; echo
500  curl -i -H "Authorization: Bearer $ALL" {base}/contacts/broken
504  curl -i -H "Authorization: Bearer $ALL" {base}/contacts/slow
     curl -N -H "Authorization: Bearer $ALL" --json '{{"prompt":"Write a subject line"}}' {base}/ai/chat
     curl -s http://{admin}/metrics | grep '^gateway_'

Ctrl-C ends it. What follows is its log.

"#
    )
}
