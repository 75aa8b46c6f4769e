//! Who a connection really comes from, where a load balancer in front says so: a PROXY protocol header, version 1 or 2
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>), before everything else.

use std::net::IpAddr;
use std::time::Duration;

use bytes::BytesMut;
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as Tcp;
use ppp::{HeaderResult, PartialResult as _, v1, v2};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

/// The longest header that is read. One of version 2 could have 64 KiB of extensions, which nobody here reads.
const MOST: usize = 4 << 10;

/// Takes the header off a connection and says whom it names; `None` when there is none in time, or what comes is none.
pub(super) async fn take(stream: Stream, peer: IpAddr, within: Duration) -> Option<(Stream, IpAddr)> {
    let mut tcp = stream.into_any().downcast::<Tcp>().ok()?;
    let reading = async {
        let mut read = BytesMut::with_capacity(256);
        loop {
            if tcp.read_buf(&mut read).await.ok()? == 0 {
                return None;
            }
            let header = HeaderResult::parse(&read);
            if !header.is_incomplete() {
                let (length, client) = named(&header)?;
                tcp.rewind(read.get(length..)?);
                return Some(client.unwrap_or(peer));
            }
            if read.len() > MOST {
                return None;
            }
        }
    };
    let client = timeout(within, reading).await.ok()??;
    Some((tcp, client))
}

/// How long a complete header is, and whom it names. A balancer that asks for itself (`LOCAL`, `UNKNOWN`) names nobody.
fn named(header: &HeaderResult<'_>) -> Option<(usize, Option<IpAddr>)> {
    match header {
        HeaderResult::V1(Ok(header)) => Some((
            header.header.len(),
            match header.addresses {
                v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
                v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
                v1::Addresses::Unknown => None,
            },
        )),
        HeaderResult::V2(Ok(header)) => Some((
            header.len(),
            match header.addresses {
                _ if header.command == v2::Command::Local => None,
                v2::Addresses::IPv4(addresses) => Some(addresses.source_address.into()),
                v2::Addresses::IPv6(addresses) => Some(addresses.source_address.into()),
                v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
            },
        )),
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(octets: &[u8]) -> Option<(usize, Option<String>)> {
        let (length, client) = named(&HeaderResult::parse(octets))?;
        Some((length, client.map(|client| client.to_string())))
    }

    #[test]
    fn a_header_names_a_client_or_nobody() {
        let v2 = |command: u8, rest: &[u8]| [b"\r\n\r\n\0\r\nQUIT\n", &[0x20 | command][..], rest].concat();
        let v4 = [0x11, 0, 12, 192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0, 80];
        assert_eq!(read(b"PROXY TCP4 192.0.2.7 10.0.0.1 1234 80\r\nGET /"), Some((39, Some("192.0.2.7".into()))));
        assert_eq!(read(b"PROXY TCP6 2001:db8::7 ::1 1234 80\r\n"), Some((36, Some("2001:db8::7".into()))));
        assert_eq!(read(b"PROXY UNKNOWN\r\nGET /"), Some((15, None)));
        assert_eq!(read(&v2(1, &v4)), Some((28, Some("192.0.2.7".into()))));
        assert_eq!(read(&v2(0, &[0, 0, 0])), Some((16, None)));
        for other in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROXY TCP4 x y 1 2\r\n", b"PROXY TCP4 192.0.2.7\r\n"] {
            assert_eq!(read(other), None, "{other:?}");
        }
    }
}
