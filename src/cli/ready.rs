//! `ready`: asks the gateway that runs on this machine whether it is ready. What a container's health check calls: an image needs no
//! other tool for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cli::check::load;
use crate::cli::{Failure, print};

/// Of the whole question.
const DEADLINE: Duration = Duration::from_secs(2);
/// No answer of the admin listener to it is as long.
const MOST_ANSWER: u64 = 4 << 10;

/// Asks the admin listener of the configuration at `path`. A file that a reload would refuse has one as well.
pub(super) fn ready(path: &Path) -> Result<(), Failure> {
    let loaded = load(path)?;
    let Some(admin) = loaded.admin() else {
        return Err(format!("{} does not say where the admin listener is; see check", path.display()).into());
    };
    let address = reachable(admin);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot ask {address}: {error}"))?;
    let asked = runtime.block_on(async { tokio::time::timeout(DEADLINE, ask(address)).await });
    let answer = asked
        .map_err(|_| format!("no answer from {address} within {DEADLINE:?}"))?
        .map_err(|error| format!("no answer from {address}: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => print(body),
        Some("503") => Err(format!("not ready: {}", body.trim_end()).into()),
        _ => Err(format!("what listens on {address} is not the admin listener").into()),
    }
}

/// Where somebody on this machine connects to `admin`.
fn reachable(mut admin: SocketAddr) -> SocketAddr {
    match admin.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => admin.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => admin.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    admin
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
