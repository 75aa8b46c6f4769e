//! The console: what it tells, whom it names, and that nothing on it can be more than text.

use base64::Engine as _;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::harness::backend::{Backend, json};
use crate::harness::certificates::Authority;
use crate::harness::client::Response;
use crate::harness::gateway::{CONTACTS, Gateway, simple};
use crate::harness::token::token;
use crate::harness::wait_for;
use crate::reloading::reload;

/// A name that would be a script of its own, were it not escaped.
pub const HOSTILE: &str = r#""><script>hostile()</script><img/src=x/onerror=hostile()>"#;
const LIMITED: &str = "  contacts: {path: /contacts/**, scope: contacts, limit: contacts, upstream: main}\n";
const LIMIT: &str = "contacts: {requests: 2, per: 1m}";

async fn page(gateway: &Gateway) -> String {
    let page = gateway.admin("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    page.text()
}

/// What a reader sees of it: words, with one space between them.
fn words(page: &str) -> String {
    let body = page.split_once("</style>").unwrap().1.rsplit_once("<script>").unwrap().0;
    let mut text = String::new();
    for piece in body.split('<').skip(1) {
        text.push(' ');
        text.push_str(piece.split_once('>').unwrap().1);
    }
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace(" ,", ",")
        .replace(" .", ".")
        .replace("( ", "(")
        .replace(" )", ")")
}

#[track_caller]
fn assert_tells(page: &str, pieces: &[&str]) {
    let words = words(page);
    for piece in pieces {
        assert!(words.contains(piece), "{piece:?} is not in {words}");
    }
}

#[tokio::test]
async fn it_tells_what_is_configured_and_how_that_fares() {
    let backend = Backend::answering(|request| match request.target.ends_with("/broken") {
        true => json(500, "{}"),
        false => json(200, r#"{"success":true,"data":[]}"#),
    })
    .await;
    let gateway = Gateway::start(&simple(&[backend.address], LIMIT, LIMITED)).await;
    let token = token("acme", "contacts");
    for path in ["contacts", "contacts/broken", "contacts", "nothing"] {
        gateway.get(&format!("/api/v1/{path}"), &token).await;
    }
    let page = page(&gateway).await;
    assert_tells(
        &page,
        &[
            "Serving up",
            "Nothing needs attention.",
            "Requests 4 since the start",
            "Answered 5xx 1 25 %",
            "Refused here 2 50 %",
            "contacts /api/v1/contacts/** any scope contacts contacts main 3 1 1",
            "contacts 2 in 1 min fixed window workspace its share 2 1 33 %",
            &format!("{} in use 0", backend.address),
            "limit RATE_LIMITED 1",
            "no_route NOT_FOUND 1",
            "Limits are counted in memory, for this process alone",
            "Tokens are known by their signature",
            &format!("{} none HTTP/1.1", gateway.address),
            &format!("{} admin", gateway.admin),
            "Reloads None since the start.",
            &format!("version {}", env!("CARGO_PKG_VERSION")),
        ],
    );
    assert!(!page.contains("acme"), "a workspace is named without being asked for");
    assert_tells(&page, &["Workspaces are named here with"]);
}

#[tokio::test]
async fn it_is_guarded_against_other_pages_and_runs_nothing_but_its_own_script() {
    let gateway = Gateway::start(&simple(&[Backend::start().await.address], "", CONTACTS)).await;
    let page = gateway.admin("/").await;
    let guards =
        ["cache-control", "x-content-type-options", "x-frame-options", "referrer-policy"].map(|n| page.header(n));
    assert_eq!(guards, ["no-store", "nosniff", "DENY", "no-referrer"].map(Some));
    let text = page.text();
    let between = |from: &str, to: &str| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text.split_once(from).unwrap().1.split_once(to).unwrap().0.to_owned()
    };
    let hash = |text: String| base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text));
    let (style, script) = (hash(between("<style>", "</style>")), hash(between("<script>", "</script>")));
    assert_eq!(
        page.header("content-security-policy").unwrap(),
        format!(
            "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    );
    for foreign in ["http://", "https://", "//", "style=", "onclick="] {
        let own = text.replace("http://www.w3.org/2000/svg", "").replace(&between("<script>", "</script>"), "");
        assert!(!own.contains(&format!("\"{foreign}")) && !own.contains(&format!(" {foreign}\"")), "{foreign}");
    }
}

#[tokio::test]
async fn the_busiest_workspaces_are_named_where_that_is_asked_for_and_a_hostile_name_is_text() {
    let backend = Backend::start().await;
    let config = |workspaces: bool| {
        let config = simple(&[backend.address], LIMIT, LIMITED);
        format!("console: {{workspaces: {workspaces}}}\n{config}")
    };
    let gateway = Gateway::start(&config(true)).await;
    for (workspace, requests) in [("acme", 4), (HOSTILE, 3), ("small", 1)] {
        for _ in 0..requests {
            gateway.get("/api/v1/contacts", &token(workspace, "contacts")).await;
        }
    }
    let shown = page(&gateway).await;
    let hostile =
        "\"&gt;&lt;script&gt;hostile()&lt;/script&gt;&lt;img/src=x/onerror=hostile()&gt;".replace('"', "&quot;");
    assert_tells(
        &shown,
        &[&format!("acme 4, 2 refused {hostile} 3, 1 refused small 1"), "Workspaces by their requests in the last"],
    );
    assert!(!shown.contains("<img") && shown.matches("<script>").count() == 1);
    reload(&gateway, &config(false), 1).await;
    assert!(!page(&gateway).await.contains("acme"));
    reload(&gateway, &config(true), 2).await;
    assert!(!page(&gateway).await.contains("acme"), "what was not to be watched is forgotten");
}

#[tokio::test]
async fn it_can_be_switched_off_and_on_by_a_reload() {
    let config = simple(&[Backend::start().await.address], "", CONTACTS);
    let gateway = Gateway::start(&format!("console: {{enabled: false}}\n{config}")).await;
    let listed = |page: Response| (page.status, page.text());
    assert_eq!(listed(gateway.admin("/").await), (200, "/metrics\n/livez\n/readyz\n".to_owned()));
    reload(&gateway, &config, 1).await;
    assert_tells(&page(&gateway).await, &["Serving"]);
}

#[tokio::test]
async fn reloads_are_listed_with_what_was_refused_and_why_and_without_secrets() {
    let backend = Backend::start().await;
    let good = simple(&[backend.address], "", CONTACTS);
    let gateway = Gateway::start(&good).await;
    let digest = |text: &str| format!("SHA-256 {}", hex(&Sha256::digest(text)));
    assert_tells(&page(&gateway).await, &[&digest(&good)]);
    let secret = "0123456789abcdef0123456789abcdef";
    let broken = good
        .replace("${MB_SIGNING_SECRET}", secret)
        .replace("algorithm: HS256", "algorithm: HS265")
        .replace("scope: contacts", "scope: '</pre><script>hostile()</script>'");
    reload(&gateway, &broken, 1).await;
    let refused = page(&gateway).await;
    assert_tells(
        &refused,
        &[
            "Problem: The last reload was refused",
            &digest(&good),
            "refused",
            "gateway.yaml:",
            "&lt;/pre&gt;&lt;script&gt;hostile()&lt;/script&gt;",
        ],
    );
    assert!(!refused.contains(secret) && refused.matches("<script>").count() == 1);
    let next = good.replace("threads: 1", "threads: 2");
    reload(&gateway, &next, 2).await;
    let applied = page(&gateway).await;
    assert_tells(
        &applied,
        &[
            "Warning: threads has changed in the file and stays as it was until a restart.",
            &digest(&next),
            "but for threads: after a restart",
            "Worker threads 1",
        ],
    );
    assert!(!words(&applied).contains("The last reload was refused"));
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[tokio::test]
async fn what_needs_somebody_comes_first() {
    let (folder, authority, backend) = (TempDir::new().unwrap(), Authority::new(), Backend::start().await);
    authority.sign(&["localhost"]).write(folder.path(), "a<b");
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = simple(&[backend.address, dead], "", CONTACTS)
        .replace("timeouts:", "health: {path: /up, every: 20ms, unhealthy_after: 1}, timeouts:")
        .replace(
            "listeners: [{",
            "listeners: [{address: \"127.0.0.1:0\", tls: {certificate: 'a<b.crt', key: 'a<b.key'}}, {",
        );
    let gateway = Gateway::start_in(folder, &format!("redis: {{url: \"redis://{dead}\"}}\n{config}")).await;
    wait_for("the server to be left out", async || {
        words(&page(&gateway).await).contains("1 of 2 servers of main is left out.").then_some(())
    })
    .await;
    let shown = page(&gateway).await;
    assert_tells(
        &shown,
        &[
            "Problem: The store redis does not answer.",
            "Warning: 1 of 2 servers of main is left out.",
            &format!("{dead} unhealthy"),
            "redis down",
            "Certificates in use",
            "a&lt;b.crt",
            "TLS 1.2 and 1.3 HTTP/2, HTTP/1.1",
        ],
    );
    assert!(!words(&shown).contains("Nothing needs attention."));
}

#[tokio::test]
async fn it_says_that_the_gateway_drains() {
    let backend = crate::harness::backend::scripted(|stream| async move {
        let _held = stream;
        std::future::pending().await
    })
    .await;
    let gateway = Gateway::start(&simple(&[backend], "", CONTACTS)).await;
    let mut client = crate::harness::client::Connection::open(gateway.address).await;
    let token = token("w", "contacts");
    let request = format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    client.write(request.as_bytes()).await;
    wait_for("the request", async || words(&page(&gateway).await).contains("In flight 1").then_some(())).await;
    gateway.signal("TERM");
    wait_for("draining", async || (gateway.admin("/readyz").await.status == 503).then_some(())).await;
    assert_tells(&page(&gateway).await, &["Draining up", "Warning: Draining: no new connections"]);
}
