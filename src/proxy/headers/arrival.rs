//! Who a request came from, as far as that can be believed, and under which id it is told.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{HeaderName, ORIGIN};
use http::{HeaderMap, HeaderValue};

use crate::config::settings::TrustedProxies;
use crate::policy::ClientIp;
use crate::policy::time::millis;

/// X-Request-Id
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The other end of a connection, for all of its requests.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// The same as text.
    text: HeaderValue,
}

impl Peer {
    /// The peer at an address.
    pub fn new(address: IpAddr) -> Self {
        let address = address.to_canonical();
        Self { address, text: address_list(&[address]) }
    }
}

/// Who a request came from, as far as that can be believed, and under which id it is told.
#[derive(Debug)]
pub struct Arrival {
    /// Whom it is attributed to.
    pub client: ClientIp,
    /// Kept from the client or made here.
    pub request_id: HeaderValue,
    /// The origin of the page that asks, where a browser says one.
    pub origin: Option<HeaderValue>,
    /// How the client speaks to the first of us: encrypted or not, behind a trusted proxy to that.
    pub is_tls: bool,
    pub(super) forwarded_for: HeaderValue,
}

impl Arrival {
    /// Reads the head of a request that came from `peer`.
    ///
    /// Behind trusted proxies the client is the rightmost address that is none of theirs; what stands left of it anybody may have
    /// written.
    pub fn new(headers: &HeaderMap, peer: &Peer, is_tls: bool, proxies: &TrustedProxies) -> Self {
        let (client, forwarded_for, is_tls) = match proxies.trusts(peer.address) {
            false => (peer.address, peer.text.clone(), is_tls),
            true => {
                let chain = chain(headers, peer.address, proxies);
                let client = chain.first().copied().unwrap_or(peer.address);
                (client, address_list(&chain), said_tls(headers).unwrap_or(is_tls))
            }
        };
        Self {
            client: ClientIp(client),
            request_id: request_id(headers.get(REQUEST_ID)),
            origin: headers.get(ORIGIN).cloned(),
            is_tls,
            forwarded_for,
        }
    }

    /// The id as text.
    pub fn id(&self) -> &str {
        self.request_id.to_str().unwrap_or_default()
    }
}

/// The client and the proxies between it and us, as far back as they are trusted.
fn chain(headers: &HeaderMap, peer: IpAddr, proxies: &TrustedProxies) -> Vec<IpAddr> {
    let said: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(',').collect::<Vec<_>>())
        .collect();
    let mut chain = vec![peer];
    for address in said.iter().rev().map_while(|text| text.trim().parse::<IpAddr>().ok()) {
        chain.push(address.to_canonical());
        if !proxies.trusts(address) {
            break;
        }
    }
    chain.reverse();
    chain
}

/// Whether the proxy in front was spoken to by https, where it says so.
fn said_tls(headers: &HeaderMap) -> Option<bool> {
    match headers.get(FORWARDED_PROTO)?.as_bytes() {
        b"https" => Some(true),
        b"http" => Some(false),
        _ => None,
    }
}

/// As in X-Forwarded-For.
fn address_list(addresses: &[IpAddr]) -> HeaderValue {
    let list = addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
    HeaderValue::try_from(list).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// A client's own id if it is 1 to 128 characters of `[A-Za-z0-9._-]`, else a UUIDv7.
fn request_id(sent: Option<&HeaderValue>) -> HeaderValue {
    let is_id = |value: &&HeaderValue| {
        let octets = value.as_bytes();
        (1..=128).contains(&octets.len())
            && octets.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    sent.filter(is_id).cloned().unwrap_or_else(new_request_id)
}

/// A UUIDv7. It has to be one of its kind and need not be hard to guess, so the system is not asked for its random part.
fn new_request_id() -> HeaderValue {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut random = [0; 10];
    fastrand::fill(&mut random);
    let id = uuid::Builder::from_unix_timestamp_millis(millis(since_epoch), &random).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(peer: &str, fields: &[(&str, &str)]) -> Arrival {
        let proxies = TrustedProxies(vec!["10.0.0.0/8".parse().unwrap()]);
        let headers = fields
            .iter()
            .map(|(n, v)| (HeaderName::try_from(*n).unwrap(), HeaderValue::try_from(*v).unwrap()))
            .collect();
        Arrival::new(&headers, &Peer::new(peer.parse().unwrap()), false, &proxies)
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_no_proxy_of_ours() {
        let client = |peer, chain| {
            let arrival = arrival(peer, &[("x-forwarded-for", chain)]);
            (arrival.client.0.to_string(), arrival.forwarded_for.to_str().unwrap().to_owned())
        };
        assert_eq!(client("192.0.2.9", "1.1.1.1"), ("192.0.2.9".into(), "192.0.2.9".into()));
        assert_eq!(client("10.0.0.1", "1.1.1.1, 2.2.2.2"), ("2.2.2.2".into(), "2.2.2.2, 10.0.0.1".into()));
        assert_eq!(
            client("10.0.0.1", "1.1.1.1, 2.2.2.2, 10.0.0.7"),
            ("2.2.2.2".into(), "2.2.2.2, 10.0.0.7, 10.0.0.1".into())
        );
        assert_eq!(client("10.0.0.1", "1.1.1.1, junk"), ("10.0.0.1".into(), "10.0.0.1".into()));
        assert_eq!(client("10.0.0.1", "10.0.0.2"), ("10.0.0.2".into(), "10.0.0.2, 10.0.0.1".into()));
        assert_eq!(client("::ffff:10.0.0.1", "2001:db8::1").0, "2001:db8::1");
    }

    #[test]
    fn only_a_trusted_proxy_says_that_it_was_https() {
        assert!(arrival("10.0.0.1", &[("x-forwarded-proto", "https")]).is_tls);
        assert!(!arrival("192.0.2.9", &[("x-forwarded-proto", "https")]).is_tls);
        assert!(!arrival("10.0.0.1", &[("x-forwarded-proto", "HTTPS, http")]).is_tls);
    }

    #[test]
    fn a_plain_request_id_is_kept_and_any_other_replaced() {
        let id = |sent: &str| arrival("192.0.2.9", &[("x-request-id", sent)]).id().to_owned();
        assert_eq!(id("a.B_c-9"), "a.B_c-9");
        for sent in ["", "a b", "a\"b", &"a".repeat(129)] {
            assert_eq!(uuid::Uuid::parse_str(&id(sent)).unwrap().get_version_num(), 7, "{sent}");
        }
    }
}
