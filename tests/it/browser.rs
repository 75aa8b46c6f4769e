//! The console in a real browser: on a desk and on a phone, in light and dark, with scripts and without.
//!
//! `CONSOLE_PICTURES=folder` keeps what it looked like.

use std::io::Write as _;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::console::HOSTILE;
use crate::harness::backend::{Backend, json as answer};
use crate::harness::browser::{Browser, Scripts};
use crate::harness::certificates::Authority;
use crate::harness::gateway::{AUTH, Gateway, config};
use crate::harness::token::token;
use crate::harness::wait_for;
use crate::reloading::reload;

const ROUTES: &str = r#"
  contacts-list: {path: /contacts, methods: [GET], scope: contacts, limit: [contacts, general], upstream: contacts, pagination: {sort_by: [created_at]}}
  contacts: {path: /contacts/**, scope: contacts, limit: contacts, upstream: contacts}
  campaign-send: {path: "/campaigns/{id}/send", methods: [POST], scope: campaigns, limit: campaign-sending, cost: 2, upstream: core}
  status: {path: /status, methods: [GET], access: public, limit: none, upstream: core}
  ai: {path: /ai/**, access: token, limit: general, upstream: core, streaming: true}
"#;

/// A gateway that has seen something of everything: traffic, hostile names, failing servers, a certificate, good and refused reloads.
async fn gateway() -> Gateway {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    authority.sign(&["localhost"]).write(folder.path(), "tls");
    let backend = Backend::answering(|request| match request.target.as_str() {
        target if target.ends_with("/broken") => answer(500, r#"{"exception":"RuntimeException"}"#),
        _ => answer(200, r#"{"success":true,"data":[]}"#),
    })
    .await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let good = config(&format!(
        "console: {{workspaces: true}}\n{AUTH}\nscopes: [contacts, campaigns]\nlimits: {{general: {{requests: 60, per: 1m}}, contacts: {{requests: 120, per: 1m, algorithm: gcra, burst: 20}}, campaign-sending: {{requests: 10, per: 1m, on_store_failure: deny, mode: shadow}}}}\nupstreams:\n  contacts: {{servers: [\"{}\", \"{dead}?weight=2\"], health: {{path: /up, every: 50ms, unhealthy_after: 1}}}}\n  core: {{servers: [\"{}\"]}}\nroutes:{ROUTES}",
        backend.address, backend.address
    ))
    .replace(
        "listeners: [{",
        "listeners: [{address: \"127.0.0.1:0\", tls: {certificate: tls.crt, key: tls.key}}, {",
    );
    let gateway = Gateway::start_in(folder, &good).await;
    let plain = gateway.listeners(2).await[1];
    let ask = async |line: &str, workspace: &str| {
        let token = token(workspace, "contacts campaigns");
        let request =
            format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nAuthorization: Bearer {token}\r\n\r\n");
        crate::harness::client::send(plain, request.as_bytes()).await
    };
    for (workspace, requests) in [("acme", 30), ("globex-corporation", 12), (HOSTILE, 5)] {
        for n in 0..requests {
            ask(&format!("GET /api/v1/contacts/{n}"), workspace).await;
            ask("GET /api/v1/contacts", workspace).await;
        }
        ask("POST /api/v1/campaigns/7/send", workspace).await;
    }
    for line in [
        "GET /api/v1/contacts/broken",
        "GET /api/v1/nothing",
        "GET /api/v1/contacts?per_page=1000",
        "GET /api/v1/status",
    ] {
        ask(line, "acme").await;
    }
    crate::harness::client::send(
        plain,
        b"GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer mb_no\r\n\r\n",
    )
    .await;
    let threads = good.replace("threads: 1", "threads: 2");
    reload(&gateway, &threads, 1).await;
    reload(&gateway, &threads.replace("scope: contacts", "scope: '</pre><script>hostile()</script>'"), 2).await;
    gateway
}

fn keep(browser: &Browser, name: &str) {
    if let Ok(folder) = std::env::var("CONSOLE_PICTURES") {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), browser.picture()).unwrap();
        let page = browser.run("return document.documentElement.outerHTML");
        std::fs::write(Path::new(&folder).join(format!("{name}.html")), page.as_str().unwrap()).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_reads_well_on_any_screen_and_accuses_no_rule_of_accessibility() {
    let gateway = gateway().await;
    let Some(browser) = Browser::open(Scripts::On) else { return };
    let axe = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/node/node_modules/axe-core/axe.min.js"),
    );
    for (name, width, height) in
        [("desk", 1280, 900), ("tablet", 820, 1100), ("narrow", 1010, 900), ("phone", 375, 812), ("small", 320, 640)]
    {
        for scheme in ["light", "dark"] {
            browser.look(width, height, scheme);
            browser.go(&format!("http://{}/", gateway.admin));
            let wide =
                browser.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
            assert_eq!(wide, 0, "{name} has to be scrolled sideways");
            let shown = browser.run("return document.body.innerText");
            for piece in ["Serving", "globex-corporation", "campaign-send", "unhealthy", "tls.crt", HOSTILE] {
                assert!(shown.as_str().unwrap().contains(piece), "{piece} on the {name} in {shown}");
            }
            keep(&browser, &format!("{name}-{scheme}"));
            match &axe {
                Ok(axe) => {
                    browser.run(axe);
                    let found = browser.run_async(
                        "axe.run().then(({violations}) => violations.map(v => [v.id, v.nodes.map(n => [n.html, n.failureSummary])]))",
                    );
                    assert_eq!(found, json!([]), "{name} {scheme}");
                }
                Err(_) => drop(writeln!(std::io::stderr(), "axe-core is not there, so accessibility is not checked")),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_asks_nobody_else_runs_nothing_hostile_and_refreshes_itself() {
    let gateway = gateway().await;
    let Some(browser) = Browser::open(Scripts::On) else { return };
    let url = format!("http://{}/", gateway.admin);
    browser.go(&url);
    let value = |script: &str| browser.run(&format!("return {script}"));
    value("document.querySelector('details').open = true");
    assert_eq!(value("document.querySelector('#refresh button').textContent"), "Pause");
    assert_eq!(value("document.scripts.length"), 1);
    let requests = "document.querySelector('.tile .value').textContent";
    let before = value(requests);
    let plain = gateway.listeners(2).await[1];
    crate::harness::client::send(plain, b"GET /api/v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n").await;
    wait_for("the refresh", || std::future::ready((value(requests) != before).then_some(()))).await;
    assert_eq!(value("document.querySelector('details').open"), true, "what was opened stays open");
    // What the browser's own first window asks for is within the browser.
    let is_of_the_page = |url: &String| !url.starts_with("chrome") && !url.starts_with("data:");
    let asked_for: Vec<String> = browser.asked_for().into_iter().filter(is_of_the_page).collect();
    assert!(asked_for.len() >= 2 && asked_for.iter().all(|asked| *asked == url), "{asked_for:?}");
    assert_eq!(browser.complaints(), [""; 0]);
    // What is written into the page against its policy is not run.
    browser.run(
        "const s = document.createElement('script'); s.textContent = 'window.hostile = 1'; document.body.append(s)",
    );
    browser.run("const i = document.createElement('div'); i.innerHTML = '<img src=\"data:,\" onerror=\"window.hostile = 1\">'; document.body.append(i)");
    assert_eq!(value("typeof window.hostile"), "undefined");
    assert!(browser.complaints().iter().any(|complaint| complaint.contains("Content Security Policy")));
    let mut gateway = gateway;
    gateway.signal("KILL");
    gateway.ended().await;
    let state = "document.querySelector('#refresh span').textContent";
    wait_for("the page to say that it is old", || {
        std::future::ready((value(state) == "No answer: this is old").then_some(()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_can_be_read_without_scripts() {
    let gateway = gateway().await;
    let Some(browser) = Browser::open(Scripts::Off) else { return };
    browser.look(1280, 900, "light");
    browser.go(&format!("http://{}/", gateway.admin));
    let value = |script: &str| browser.run(&format!("return {script}"));
    assert_eq!(value("document.querySelector('#refresh').childNodes.length"), 0, "scripts are off");
    let shown = value("document.body.innerText");
    for piece in ["Serving", "acme", "campaign-send", "unhealthy", "tls.crt", "The last reload was refused", HOSTILE] {
        assert!(shown.as_str().unwrap().contains(piece), "{piece} in {shown}");
    }
    keep(&browser, "without-scripts");
}
