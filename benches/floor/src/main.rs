//! `floor LISTEN BACKEND DIRECTORY`: pingora on one thread that forwards everything and does nothing else.

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: floor LISTEN BACKEND DIRECTORY, with two addresses as in 127.0.0.1:8080";

struct Forward {
    backend: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _session: &mut Session, _context: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.backend, false, String::new())))
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, backend, directory] = arguments.as_slice() else {
        eprintln!("{USAGE}");
        std::process::exit(2);
    };
    let Ok(backend) = backend.parse() else {
        eprintln!("{USAGE}");
        std::process::exit(2);
    };
    let mut server = Server::new_with_opt_and_conf(None, settings(directory));
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Forward { backend });
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever();
}

/// One thread, connections to the backend for as many clients as are measured, files in `directory` alone, and a quick end.
fn settings(directory: &str) -> ServerConf {
    ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: 512,
        pid_file: format!("{directory}/floor.pid"),
        upgrade_sock: format!("{directory}/floor.sock"),
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    }
}
