//! A backend's name that leads elsewhere after a while: the gateway is given a hosts file of its own (nss_wrapper).

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use tokio::net::TcpListener;

use crate::harness::crowd::Crowd;
use crate::harness::gateway::{AUTH, CONTACTS, Gateway, config};
use crate::harness::server::Server;
use crate::harness::wait_for;

/// Puts the name into the file, which is whole at any time. It is read again when its time, in whole seconds, is another.
fn name(file: &Path, address: SocketAddr, time: u64) {
    let new = file.with_extension("new");
    let mut written = File::create(&new).unwrap();
    writeln!(written, "{} backend.test", address.ip()).unwrap();
    written.set_modified(UNIX_EPOCH + Duration::from_secs(time)).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_elsewhere_is_followed_without_a_failed_request() {
    // Both on one port, each on an address of its own.
    let probe = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).await.unwrap();
    let old = probe.local_addr().unwrap();
    drop(probe);
    let new = SocketAddr::from(([127, 0, 0, 3], old.port()));
    let (mut before, after) = (Server::start_on(old).await, Server::start_on(new).await);
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    name(&hosts, old, 1);
    let sections = format!(
        "{AUTH}\nscopes: [contacts]\nupstreams: {{main: {{servers: [\"backend.test:{}\"]}}}}\nroutes:\n{CONTACTS}",
        old.port()
    );
    let environment = [("LD_PRELOAD", "libnss_wrapper.so"), ("NSS_WRAPPER_HOSTS", hosts.to_str().unwrap())];
    let gateway = Gateway::start_with(&config(&sections), &environment).await;
    let crowd = Crowd::start(gateway.address, 4, "GET", Duration::from_millis(5));
    crowd.more(100).await;
    name(&hosts, new, 2);
    let is_used = || std::future::ready((after.asked().len() >= 100).then_some(()));
    wait_for("the new address to be used", is_used).await;
    // Only then does the old one go, as in a deploy that waits.
    before.kill();
    crowd.more(100).await;
    let tally = crowd.end().await;
    assert_eq!(tally.failed(), 0, "{}", tally.summary());
    assert!(before.asked().len() >= 100);
}
