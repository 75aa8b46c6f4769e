//! Load balancers that say whom their connections are from, by the PROXY protocol.

use std::net::SocketAddr;

use crate::harness::backend::Backend;
use crate::harness::certificates::{Authority, TlsClient};
use crate::harness::client::Connection;
use crate::harness::gateway::{CONTACTS, Gateway, simple};
use crate::harness::token::token;

async fn start(backend: SocketAddr, networks: &str, tls: &str) -> Gateway {
    let listener = format!("{{address: \"127.0.0.1:0\", proxy_protocol: [{networks}]{tls}}}");
    let config = simple(&[backend], "", CONTACTS).replace(r#"{address: "127.0.0.1:0"}]"#, &format!("{listener}]"));
    Gateway::start(&config).await
}

fn request() -> String {
    format!("GET /api/v1/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", token("w", "contacts"))
}

fn version_2(client: [u8; 4]) -> Vec<u8> {
    let addresses = [&client[..], &[10, 0, 0, 1, 0x30, 0x39, 0, 80]].concat();
    // Two octets of an extension that nobody reads (NOOP).
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0f", &addresses[..], &[4, 0, 0]].concat()
}

#[tokio::test]
async fn a_trusted_balancer_says_whom_a_connection_is_from() {
    let backend = Backend::start().await;
    let gateway = start(backend.address, "127.0.0.0/8", "").await;
    for (header, client) in [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 1234 80\r\n".to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 1234 80\r\n".to_vec(), "2001:db8::7"),
        (version_2([198, 51, 100, 9]), "198.51.100.9"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
    ] {
        let mut connection = Connection::open(gateway.address).await;
        // However it is cut, and for every request of the connection.
        let (first, rest) = header.split_at(header.len() / 2);
        connection.write(first).await;
        tokio::task::yield_now().await;
        connection.write(&[rest, request().as_bytes()].concat()).await;
        assert_eq!(connection.read(b"GET").await.unwrap().status, 200);
        assert_eq!(connection.request(&request()).await.unwrap().status, 200);
        let forwarded: Vec<_> = backend
            .seen()
            .iter()
            .rev()
            .take(2)
            .map(|seen| seen.header("x-forwarded-for").unwrap().to_owned())
            .collect();
        assert_eq!(forwarded, [client, client]);
    }
    let lines = gateway.access_lines(8).await;
    assert_eq!(lines[0]["client_ip"], "192.0.2.7");
}

#[tokio::test]
async fn a_trusted_balancer_that_does_not_say_it_is_closed_without_a_word() {
    let backend = Backend::start().await;
    let gateway = start(backend.address, "127.0.0.0/8", "").await;
    let first = request();
    for start in [&first, "PROXY TCP4 x y 1 2\r\n", "PROXY TCP4 192.0.2.7\r\n", "\r\n\r\n\0\r\nQUIT\n\x41\x11"] {
        let mut connection = Connection::open(gateway.address).await;
        connection.write(start.as_bytes()).await;
        connection.end().await;
        assert!(connection.is_closed().await, "{start}");
    }
    assert!(backend.seen().is_empty());
    let series = format!("gateway_proxy_protocol_failures_total{{listener=\"{}\"}}", gateway.listeners(1).await[0]);
    assert_eq!(gateway.metric(&series).await, 4.0);
}

#[tokio::test]
async fn nobody_else_may_say_it() {
    let backend = Backend::start().await;
    let gateway = start(backend.address, "192.0.2.0/24", "").await;
    assert_eq!(gateway.send(&request()).await.status, 200);
    let spoofed = gateway.send(&format!("PROXY TCP4 192.0.2.7 10.0.0.1 1234 80\r\n{}", request())).await;
    assert_eq!(spoofed.status, 400);
    assert_eq!(backend.only().header("x-forwarded-for"), Some("127.0.0.1"));
}

#[tokio::test]
async fn it_comes_before_the_handshake_of_tls() {
    let (backend, authority, folder) = (Backend::start().await, Authority::new(), tempfile::tempdir().unwrap());
    authority.sign(&["localhost"]).write(folder.path(), "tls");
    let path = folder.path().display();
    let tls = format!(", tls: {{certificate: {path}/tls.crt, key: {path}/tls.key}}");
    let gateway = start(backend.address, "127.0.0.0/8", &tls).await;
    let client = TlsClient::trusting(&authority);
    let stream = client.connect_after(gateway.address, "localhost", &version_2([198, 51, 100, 9])).await.unwrap();
    let mut connection = Connection::over(stream);
    assert_eq!(connection.request(&request()).await.unwrap().status, 200);
    assert_eq!(backend.only().header("x-forwarded-for"), Some("198.51.100.9"));
    assert_eq!(backend.only().header("x-forwarded-proto"), Some("https"));
}
