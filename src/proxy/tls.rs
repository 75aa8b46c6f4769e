//! TLS on a listener: the handshake within its time, and certificates that are read again when their files change.
//!
//! The handshake is pingora's; its acceptor is made anew for each connection, because it is only a reference to the configuration
//! that is in force. pingora's own listener would read certificates once, and wait a minute for a handshake.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as Tcp;
use rustls::ServerConfig;
use tokio::time::timeout;

use crate::proxy::reload::{LOOK_EVERY, Stamp, stamp};
use crate::telemetry::metrics::Metrics;
use crate::tls::{Identity, Protocols, TlsSettings};

/// How a listener encrypts.
pub(super) struct Tls {
    settings: TlsSettings,
    protocols: Protocols,
    server: ArcSwap<ServerConfig>,
    /// What the files were before they were read.
    read: Vec<Option<Stamp>>,
    listener: String,
    metrics: Arc<Metrics>,
}

impl Tls {
    /// Reads the files of the listener that is called `listener` on metrics.
    pub(super) fn new(
        settings: TlsSettings,
        protocols: Protocols,
        listener: String,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        let read = stamps(&settings);
        let identity = load(&settings, protocols)?;
        let server = ArcSwap::new(Arc::clone(&identity.server));
        let tls = Self { settings, protocols, server, read, listener, metrics };
        tls.note_ends(&identity);
        Ok(tls)
    }

    /// Encrypts a connection; `None` when the client does not manage `within` this time.
    pub(super) async fn handshake(&self, stream: Stream, within: Duration) -> Option<Stream> {
        let tcp = stream.into_any().downcast::<Tcp>().ok()?;
        let acceptor = Acceptor::from_server_config(self.server.load_full());
        match timeout(within, acceptor.tls_handshake(*tcp)).await {
            Ok(Ok(encrypted)) => Some(Box::new(encrypted)),
            failed => {
                let why = failed.map_or_else(
                    |_| "out of time".to_owned(),
                    |failed| failed.err().map_or_else(String::new, |e| e.to_string()),
                );
                tracing::debug!("TLS handshake failed: {why}");
                self.metrics.handshake_failed(&self.listener);
                None
            }
        }
    }

    /// Looks at the files again and again, for as long as it is polled, and serves with what is in them now.
    ///
    /// They are read when two looks in a row find the same: a key that is written after its certificate is waited for.
    pub(super) async fn watch(&self) {
        let mut read = self.read.clone();
        let mut before = read.clone();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = stamps(&self.settings);
            // A file that is gone for a moment is being replaced.
            if now == before && now != read && now.iter().all(Option::is_some) {
                self.reload();
                read.clone_from(&now);
            }
            before = now;
        }
    }

    fn reload(&self) {
        match load(&self.settings, self.protocols) {
            Ok(identity) => {
                self.note_ends(&identity);
                self.server.store(identity.server);
                tracing::info!(listener = %self.listener, "certificates reloaded");
                self.metrics.certificates_reloaded(&self.listener, true);
            }
            Err(why) => {
                tracing::error!(listener = %self.listener, "certificates not reloaded, the ones in use stay: {why}");
                self.metrics.certificates_reloaded(&self.listener, false);
            }
        }
    }

    fn note_ends(&self, identity: &Identity) {
        for (files, validity) in self.settings.certificates.iter().zip(&identity.validities) {
            self.metrics.certificate_ends(&self.listener, &files.certificate.display().to_string(), validity.until);
        }
    }
}

fn stamps(settings: &TlsSettings) -> Vec<Option<Stamp>> {
    settings.files().map(stamp).collect()
}

fn load(settings: &TlsSettings, protocols: Protocols) -> Result<Identity, String> {
    settings.load(protocols).map_err(|problems| {
        let messages: Vec<String> = problems.into_iter().map(|problem| problem.message).collect();
        messages.join("; ")
    })
}
