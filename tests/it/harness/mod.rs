//! What the tests stand on: the gateway as a process, backends that record, a client that shows every byte, real stores.

pub mod backend;
pub mod browser;
pub mod certificates;
pub mod client;
pub mod collector;
pub mod crowd;
pub mod database;
pub mod footprint;
pub mod gateway;
pub mod groups;
pub mod http2;
pub mod load;
pub mod message;
pub mod prometheus;
pub mod proxy;
pub mod redis;
pub mod schema;
pub mod server;
pub mod token;
pub mod tools;

use std::future::Future;
use std::time::Duration;

/// Far more than anything here takes, even on a busy machine; reaching it is a failure, never a measurement.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A free port that the system gives to nobody who asks for any port, so that it stays free until it is used.
pub fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(10_000..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Polls until `found` has something.
pub async fn wait_for<T, F: Future<Output = Option<T>>>(what: &str, mut found: impl FnMut() -> F) -> T {
    let polling = async {
        loop {
            if let Some(value) = found().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, polling).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}
