//! Asking a running gateway's admin listener, in a bounded time for a bounded answer.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Of the whole question.
const DEADLINE: Duration = Duration::from_secs(2);
/// No answer is as long that a command asks for.
const MOST_ANSWER: u64 = 64 << 10;

/// The status and the body of GET `target` at `host:port`, or why there is none.
pub(super) async fn get(address: &str, target: &str) -> Result<(String, String), String> {
    let answer = timeout(DEADLINE, ask(address, target)).await;
    let answer = answer
        .map_err(|_| format!("no answer from {address} within {DEADLINE:?}"))?
        .map_err(|error| format!("no answer from {address}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    Ok((head.split(' ').nth(1).unwrap_or_default().to_owned(), body.to_owned()))
}

/// The `host:port` of a plain URL.
pub(super) fn authority(url: &str) -> Result<&str, String> {
    let authority = url.strip_prefix("http://").unwrap_or(url);
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let has_port =
        authority.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let is_plain = has_port && !authority.contains(['/', '@', '?', '#']) && !authority.contains(char::is_whitespace);
    is_plain
        .then_some(authority)
        .ok_or_else(|| format!("`{url}` is not where an admin listener could be: it is such as http://127.0.0.1:9090"))
}

async fn ask(address: &str, target: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_listener_is_a_host_and_a_port() {
        for url in ["http://127.0.0.1:9090", "127.0.0.1:9090", "http://127.0.0.1:9090/"] {
            assert_eq!(authority(url), Ok("127.0.0.1:9090"));
        }
        assert_eq!(authority("http://[::1]:9090"), Ok("[::1]:9090"));
        for url in ["", "http://", "https://a:1", "http://a", "http://u@a:1", "http://a:1/metrics", "a b:1", "a:x"] {
            assert!(authority(url).is_err(), "{url}");
        }
    }
}
