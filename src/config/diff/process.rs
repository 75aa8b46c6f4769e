//! Where clients connect, whom of them is believed, and what a reload leaves as it is.

use ipnet::IpNet;

use crate::config::diff::Effect;
use crate::config::diff::comparison::{Comparison, Keys, told, weaker};
use crate::config::diff::words::list;
use crate::config::settings::ListenerSettings;
use crate::tls::{MinVersion, TlsSettings};

impl Comparison<'_> {
    pub(super) fn process(&mut self) {
        let (old, new) = (&self.old.config, &self.new.config);
        self.believed(
            &["trusted_proxies"],
            &old.trusted_proxies.0,
            &new.trusted_proxies.0,
            "X-Forwarded-For and X-Forwarded-Proto",
        );
        self.listeners(&old.process.listeners, &new.process.listeners);
        if old.process.admin.ip().is_loopback() && !new.process.admin.ip().is_loopback() {
            let text =
                format!("the admin listener is {}: other machines reach the console and /metrics", new.process.admin);
            self.say(weaker(Effect::Opened, text), self.spot(&[&["admin", "address"]]));
        }
        for (key, differs) in [
            ("listeners", old.process.listeners != new.process.listeners),
            ("admin", old.process.admin != new.process.admin),
            ("threads", old.process.threads != new.process.threads),
        ] {
            if differs {
                self.say(
                    told(Effect::Postponed, format!("`{key}` changed: a reload leaves it as it is")),
                    self.spot(&[&[key]]),
                );
            }
        }
    }

    /// Networks whose word about a client's address is taken.
    fn believed(&mut self, keys: Keys<'_>, old: &[IpNet], new: &[IpNet], what: &str) {
        let outside = |networks: &[IpNet], others: &[IpNet]| {
            let is_outside = |network: &&IpNet| !others.iter().any(|other| other.contains(*network));
            networks.iter().filter(is_outside).map(IpNet::to_string).collect::<Vec<_>>()
        };
        let (come, gone) = (outside(new, old), outside(old, new));
        if !come.is_empty() {
            let text = format!(
                "{what} of {} are believed: whoever sends from there chooses the client's address",
                list(&come)
            );
            self.say(weaker(Effect::Opened, text), self.spot(&[keys]));
        }
        if !gone.is_empty() {
            self.say(
                told(Effect::Altered, format!("{what} of {} are no longer believed", list(&gone))),
                self.spot(&[keys]),
            );
        }
    }

    fn listeners(&mut self, old: &[ListenerSettings], new: &[ListenerSettings]) {
        for (at, listener) in old.iter().enumerate() {
            if !new.iter().any(|other| other.address == listener.address) {
                let said = told(Effect::Refused, format!("nobody can connect to {} any more", listener.address));
                self.say(said, self.old_spot(&["listeners", &at.to_string()]));
            }
        }
        for (at, listener) in new.iter().enumerate() {
            let at = at.to_string();
            match old.iter().find(|other| other.address == listener.address) {
                Some(before) => self.listener(&at, before, listener),
                None => self.new_listener(&at, old, listener),
            }
        }
    }

    /// A way in beside the old ones; whatever all of those asked for is got around on one that does not.
    fn new_listener(&mut self, at: &str, old: &[ListenerSettings], new: &ListenerSettings) {
        let client_ca = |listener: &ListenerSettings| listener.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
        let address = new.address;
        let said = match () {
            () if new.tls.is_none() && old.iter().all(|old| old.tls.is_some()) => {
                weaker(Effect::Opened, format!("clients can connect to {address} without encryption"))
            }
            () if !client_ca(new) && old.iter().all(client_ca) => {
                weaker(Effect::Opened, format!("clients can connect to {address} without a certificate"))
            }
            () => told(Effect::Answered, format!("clients can connect to {address}")),
        };
        self.say(said, self.spot(&[&["listeners", at]]));
        let before: Vec<IpNet> = old.iter().flat_map(|old| old.proxy_protocol.clone()).collect();
        self.believed(
            &["listeners", at, "proxy_protocol"],
            &before,
            &[before.as_slice(), &new.proxy_protocol].concat(),
            "PROXY headers",
        );
    }

    fn listener(&mut self, at: &str, old: &ListenerSettings, new: &ListenerSettings) {
        let address = new.address;
        let spot = self.spot(&[&["listeners", at, "tls"], &["listeners", at]]);
        match (&old.tls, &new.tls) {
            (Some(_), None) => self.say(weaker(Effect::Opened, format!("{address} is no longer encrypted")), spot),
            (None, Some(_)) => self
                .say(told(Effect::Refused, format!("{address} is encrypted: clients without TLS are refused")), spot),
            (Some(before), Some(after)) => self.tls(at, address, before, after),
            (None, None) => {}
        }
        if old.http2 != new.http2 {
            let verb = if new.http2 { "is" } else { "is no longer" };
            let said = told(Effect::Altered, format!("HTTP/2 {verb} spoken on {address}"));
            self.say(said, self.spot(&[&["listeners", at, "http2"], &["listeners", at]]));
        }
        self.believed(&["listeners", at, "proxy_protocol"], &old.proxy_protocol, &new.proxy_protocol, "PROXY headers");
    }

    fn tls(&mut self, at: &str, address: std::net::SocketAddr, old: &TlsSettings, new: &TlsSettings) {
        let said = match (old.min_version, new.min_version) {
            (MinVersion::Tls13, MinVersion::Tls12) => {
                Some(weaker(Effect::Opened, format!("{address} takes TLS 1.2 again")))
            }
            (MinVersion::Tls12, MinVersion::Tls13) => {
                Some(told(Effect::Refused, format!("{address} needs TLS 1.3: clients of TLS 1.2 are refused")))
            }
            _ => None,
        };
        if let Some(said) = said {
            self.say(said, self.spot(&[&["listeners", at, "tls", "min_version"], &["listeners", at, "tls"]]));
        }
        let said = match (&old.client_ca, &new.client_ca) {
            (Some(_), None) => weaker(Effect::Opened, format!("{address} asks clients for no certificate any more")),
            (None, Some(_)) => told(Effect::Refused, format!("{address} refuses clients without a certificate")),
            (Some(before), Some(after)) if before != after => {
                told(Effect::Altered, format!("{address}: clients' certificates are signed by another `client_ca`"))
            }
            _ => return self.certificates(at, address, old, new),
        };
        self.say(said, self.spot(&[&["listeners", at, "tls", "client_ca"], &["listeners", at, "tls"]]));
        self.certificates(at, address, old, new);
    }

    fn certificates(&mut self, at: &str, address: std::net::SocketAddr, old: &TlsSettings, new: &TlsSettings) {
        if old.certificates != new.certificates {
            let said = told(Effect::Altered, format!("{address} serves with other certificate files"));
            self.say(said, self.spot(&[&["listeners", at, "tls", "certificate"]]));
        }
    }
}
