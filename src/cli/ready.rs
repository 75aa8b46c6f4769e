//! `ready`: asks the gateway that runs on this machine whether it is ready. What a container's health check calls: an image needs no
//! other tool for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::cli::check::load;
use crate::cli::{Failure, admin, print, runtime};

/// Asks the admin listener of the configuration at `path`. A file that a reload would refuse has one as well.
pub(super) fn ready(path: &Path) -> Result<(), Failure> {
    let loaded = load(path)?;
    let Some(listener) = loaded.admin() else {
        return Err(format!("{} does not say where the admin listener is; see check", path.display()).into());
    };
    let address = reachable(listener);
    let (status, body) = runtime()?.block_on(admin::get(&address.to_string(), "/readyz"))?;
    match status.as_str() {
        "200" => print(&body),
        "503" => Err(format!("not ready: {}", body.trim_end()).into()),
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
