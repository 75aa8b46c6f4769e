//! Encrypted listeners: who is shown which certificate, who is let in, and what happens when the files change.

use std::path::Path;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::backend::Backend;
use crate::harness::certificates::{Authority, Certificate, TlsClient, shown};
use crate::harness::client::Connection;
use crate::harness::gateway::{CONTACTS, Gateway, binary, simple};
use crate::harness::token::token;
use crate::harness::wait_for;

const TLS: &str = "certificate: a.crt, key: a.key";

/// A configuration with one encrypted listener, and a plain one behind it.
fn config(backend: &Backend, tls: &str, request: &str) -> String {
    let listeners = format!(
        "listeners: [{{address: \"127.0.0.1:0\", tls: {{{tls}}}}}, {{address: \"127.0.0.1:0\"}}]\nrequest: {{{request}}}"
    );
    let config = simple(&[backend.address], "", CONTACTS);
    config.replace("listeners: [{address: \"127.0.0.1:0\"}]", &listeners)
}

struct Encrypted {
    gateway: Gateway,
    backend: Backend,
    authority: Authority,
}

/// A gateway for `localhost`; `prepare` adds files to its folder.
async fn encrypted(tls: &str, request: &str, prepare: impl FnOnce(&Path, &Authority)) -> Encrypted {
    let (folder, authority, backend) = (TempDir::new().unwrap(), Authority::new(), Backend::start().await);
    authority.sign(&["localhost"]).write(folder.path(), "a");
    prepare(folder.path(), &authority);
    let gateway = Gateway::start_in(folder, &config(&backend, tls, request)).await;
    Encrypted { gateway, backend, authority }
}

fn request() -> String {
    format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", token("w", "contacts"))
}

#[tokio::test]
async fn a_plain_and_an_encrypted_listener_serve_side_by_side() {
    let Encrypted { gateway, backend, authority } = encrypted(TLS, "", |_, _| ()).await;
    let listeners = gateway.listeners(2).await;
    let mut over_tls = TlsClient::trusting(&authority).open(listeners[0], "localhost").await;
    let mut plain = Connection::open(listeners[1]).await;
    for _ in 0..2 {
        assert_eq!(over_tls.request(&request()).await.unwrap().status, 200);
        assert_eq!(plain.request(&request()).await.unwrap().status, 200);
    }
    let seen = backend.seen();
    let protocols: Vec<_> = seen.iter().map(|request| request.header("x-forwarded-proto").unwrap()).collect();
    assert_eq!(protocols, ["https", "http", "https", "http"]);
    let refused = over_tls.request("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    refused.assert_envelope(404, "NOT_FOUND", "The requested resource does not exist.");
}

#[tokio::test]
async fn a_client_is_shown_the_certificate_of_the_host_it_names() {
    let more = format!("{TLS}, certificates: [{{certificate: b.crt, key: b.key}}, {{certificate: c.crt, key: c.key}}]");
    let Encrypted { gateway, authority, .. } = encrypted(&more, "", |folder, authority| {
        authority.sign(&["*.example.com"]).write(folder, "b");
        authority.sign(&["api.example.com", "example.org"]).write(folder, "c");
    })
    .await;
    let client = TlsClient::trusting(&authority);
    let mut certificates = Vec::new();
    for host in ["localhost", "www.example.com", "api.example.com", "API.EXAMPLE.com", "example.org"] {
        certificates.push(shown(&client.connect(gateway.address, host).await.unwrap()));
    }
    let [first, wildcard, own, spelled, other] = certificates.try_into().unwrap();
    assert!(first != wildcard && wildcard != own, "each its own");
    assert!(own == spelled && own == other, "one for all its names");
    // Nobody has a certificate for these: they are shown the first, and do not believe it.
    for host in ["a.b.example.com", "example.com", "127.0.0.1"] {
        assert!(client.connect(gateway.address, host).await.is_err(), "{host}");
    }
}

#[tokio::test]
async fn an_old_version_of_tls_is_not_spoken() {
    let only_1_3 = format!("{TLS}, min_version: \"1.3\"");
    for (tls, old_is_spoken) in [(TLS, true), (&only_1_3, false)] {
        let Encrypted { gateway, authority, .. } = encrypted(tls, "", |_, _| ()).await;
        let mut client = TlsClient::trusting(&authority);
        assert!(client.connect(gateway.address, "localhost").await.is_ok());
        client.versions = vec![&rustls::version::TLS12];
        assert_eq!(client.connect(gateway.address, "localhost").await.is_ok(), old_is_spoken);
    }
}

#[tokio::test]
async fn with_a_client_ca_only_those_it_has_signed_come_in() {
    let clients = Authority::new();
    let Encrypted { gateway, backend, authority } =
        encrypted(&format!("{TLS}, client_ca: clients.crt"), "", |folder, _| {
            std::fs::write(folder.join("clients.crt"), clients.pem()).unwrap();
        })
        .await;
    let mut client = TlsClient::trusting(&authority);
    for (certificate, comes_in) in [
        (None, false),
        (Some(authority.sign(&["a"])), false),
        (Some(clients.sign_until(&["a"], 2021)), false),
        (Some(clients.sign(&["a"])), true),
    ] {
        client.shows = certificate;
        // In TLS 1.3 a client learns with its first read that it was refused.
        let answer = async {
            Connection::over(client.connect(gateway.address, "localhost").await.ok()?).request(&request()).await
        };
        assert_eq!(answer.await.map(|answer| answer.status), comes_in.then_some(200));
    }
    backend.only();
    let failures = format!(r#"gateway_tls_handshake_failures_total{{listener="{}"}}"#, gateway.address);
    assert_eq!(gateway.metric(&failures).await, 3.0);
}

#[tokio::test]
async fn changed_certificates_are_served_without_a_restart_and_bad_ones_are_not() {
    let Encrypted { gateway, authority, .. } = encrypted(TLS, "", |_, _| ()).await;
    let client = TlsClient::trusting(&authority);
    let mut open = client.open(gateway.address, "localhost").await;
    let before = shown(&client.connect(gateway.address, "localhost").await.unwrap());
    let end = format!(
        r#"gateway_certificate_expiry_timestamp_seconds{{certificate="a.crt",listener="{}"}}"#,
        gateway.address
    );
    let reloads =
        |result| format!(r#"gateway_certificate_reloads_total{{listener="{}",result="{result}"}}"#, gateway.address);
    let refused = reloads("refused");
    assert_eq!(gateway.metric(&end).await, 3_976_214_400.0, "1 January 2096");

    let other = authority.sign(&["localhost"]);
    let key_of_another = Certificate { certificate: other.certificate, key: authority.sign(&["localhost"]).key };
    for (bad, times) in [(key_of_another, 1.0), (Certificate { certificate: "nonsense".into(), key: other.key }, 2.0)] {
        bad.write(gateway.folder(), "a");
        wait_for("the refusal", || async { (gateway.metric(&refused).await >= times).then_some(()) }).await;
        assert!(shown(&client.connect(gateway.address, "localhost").await.unwrap()) == before, "the old one stays");
    }
    assert!(
        gateway
            .output()
            .contains("certificates not reloaded, the ones in use stay: the key a.key is not the one of a.crt")
    );

    authority.sign_until(&["localhost"], 2095).write(gateway.folder(), "a");
    let applied = reloads("applied");
    wait_for("the reload", || async { (gateway.metric(&applied).await >= 1.0).then_some(()) }).await;
    assert!(shown(&client.connect(gateway.address, "localhost").await.unwrap()) != before);
    assert_eq!(gateway.metric(&end).await, 3_944_678_400.0, "1 January 2095");
    assert_eq!(open.request(&request()).await.unwrap().status, 200, "a connection from before goes on");
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_handshake_gives_its_place_back() {
    let Encrypted { gateway, authority, .. } = encrypted(TLS, "header_timeout: 300ms, connections: 1", |_, _| ()).await;
    let failures = format!(r#"gateway_tls_handshake_failures_total{{listener="{}"}}"#, gateway.address);
    let open = format!(r#"gateway_connections{{listener="{}"}}"#, gateway.address);
    let mut silent = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    // The beginning of a handshake record, and nothing of its content.
    silent.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00]).await.unwrap();
    wait_for("the failure", || async { (gateway.metric(&failures).await == 1.0).then_some(()) }).await;
    assert_eq!(silent.read(&mut [0; 64]).await.unwrap_or(0), 0, "closed without a word");
    wait_for("its place", || async { (gateway.metric(&open).await == 0.0).then_some(()) }).await;
    let mut client = TlsClient::trusting(&authority).open(gateway.address, "localhost").await;
    assert_eq!(client.request(&request()).await.unwrap().status, 200);
}

#[tokio::test]
async fn plain_http_on_an_encrypted_listener_is_not_answered() {
    let Encrypted { gateway, backend, .. } = encrypted(TLS, "", |_, _| ()).await;
    let mut plain = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    plain.write_all(request().as_bytes()).await.unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said).await;
    // At most a TLS alert.
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    assert!(backend.seen().is_empty());
}

#[tokio::test]
async fn an_encrypted_connection_too_many_is_closed_at_once() {
    let Encrypted { gateway, authority, .. } = encrypted(TLS, "connections: 1", |_, _| ()).await;
    let client = TlsClient::trusting(&authority);
    let mut first = client.open(gateway.address, "localhost").await;
    assert!(first.request(&request()).await.is_some());
    assert!(client.connect(gateway.address, "localhost").await.is_err());
    assert_eq!(gateway.log_lines(1, |line| line["reason"] == "overloaded").await[0]["status"], 503);
    assert!(first.request(&request()).await.is_some(), "who is in stays in");
}

#[tokio::test]
async fn a_request_over_tls_in_flight_is_answered_while_draining() {
    let Encrypted { mut gateway, authority, .. } = encrypted(TLS, "", |_, _| ()).await;
    let mut client = TlsClient::trusting(&authority).open(gateway.address, "localhost").await;
    let request = request();
    let (head, rest) = request.split_at(20);
    client.write(head.as_bytes()).await;
    gateway.signal("TERM");
    gateway.log_lines(1, |line| line["message"].as_str().is_some_and(|text| text.starts_with("draining"))).await;
    client.write(rest.as_bytes()).await;
    let answer = client.read(b"GET").await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(client.is_closed().await);
    assert!(gateway.ended().await.success());
}

#[test]
fn check_names_every_certificate_file_that_cannot_be_used() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    authority.sign(&["localhost"]).write(folder.path(), "a");
    authority.sign(&["localhost"]).write(folder.path(), "b");
    authority.sign_until(&["localhost"], 2021).write(folder.path(), "old");
    std::fs::write(folder.path().join("empty"), "").unwrap();
    let text = r#"version: 1
listeners:
  - address: 0.0.0.0:8443
    tls:
      certificate: a.crt
      key: b.key
      certificates:
        - {certificate: none.crt, key: a.key}
        - {certificate: empty, key: a.key}
        - {certificate: a.crt, key: empty}
        - {certificate: old.crt, key: old.key}
      client_ca: empty
  - address: 0.0.0.0:8444
    tls: {certificate: old.crt, key: old.key, min_version: "1.1"}
upstreams: {main: {servers: ["127.0.0.1:1"]}}
routes: {all: {path: /**, access: public, limit: none, upstream: main}}
"#;
    std::fs::write(folder.path().join("gateway.yaml"), text).unwrap();
    let output = binary().current_dir(folder.path()).arg("check").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap(), @r#"
gateway.yaml:6:12: error: the key b.key is not the one of a.crt
    6 |       key: b.key
      |            ^^^^^
gateway.yaml:8:25: error: there is no file none.crt
    8 |         - {certificate: none.crt, key: a.key}
      |                         ^^^^^^^^
gateway.yaml:9:25: error: empty holds no certificate in PEM
    9 |         - {certificate: empty, key: a.key}
      |                         ^^^^^
gateway.yaml:10:37: error: empty holds no private key in PEM
   10 |         - {certificate: a.crt, key: empty}
      |                                     ^^^^^
gateway.yaml:12:18: error: empty holds no certificate in PEM
   12 |       client_ca: empty
      |                  ^^^^^
gateway.yaml:14:24: warning: the certificate old.crt has expired
   14 |     tls: {certificate: old.crt, key: old.key, min_version: "1.1"}
      |                        ^^^^^^^
      = put a valid one in its place; it is read again when the file changes
gateway.yaml:14:60: error: listeners.1.tls.min_version: expected `1.2` or `1.3`, found `1.1`
   14 |     tls: {certificate: old.crt, key: old.key, min_version: "1.1"}
      |                                                            ^^^^^
      = did you mean `1.2`?
gateway.yaml: 6 errors, 1 warning
"#);
}
