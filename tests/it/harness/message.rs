//! Requests as a backend is sent them, read strictly.

use std::net::SocketAddr;

/// A request as it stands on the wire.
pub struct Message {
    pub method: String,
    pub target: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    /// All that are complete, and the rest. Reads the one strict form that a gateway may write, and panics at anything else.
    pub fn all(mut octets: &[u8]) -> (Vec<Self>, &[u8]) {
        let mut messages = Vec::new();
        while let Some((message, rest)) = Self::first(octets) {
            messages.push(message);
            octets = rest;
        }
        (messages, octets)
    }

    /// The first one, if it is complete.
    pub fn first(octets: &[u8]) -> Option<(Self, &[u8])> {
        let end = octets.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(&octets[..end]).map(str::to_owned);
        let head = head.unwrap_or_else(|_| octets[..end].iter().map(|octet| char::from(*octet)).collect());
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next().expect("a target").to_owned());
        assert_eq!((words.next(), words.next()), (Some("HTTP/1.1"), None), "{head}");
        let fields: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("{line:?}")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut message = Self { method, target, fields, body: Vec::new() };
        let rest = &octets[end + 4..];
        let rest = match (message.field("content-length"), message.field("transfer-encoding")) {
            (None, None) => rest,
            (Some(length), None) => {
                let length = length.parse().expect("a length");
                message.body = rest.get(..length)?.to_vec();
                &rest[length..]
            }
            (None, Some("chunked")) => message.take_chunks(rest)?,
            two => panic!("{two:?}"),
        };
        Some((message, rest))
    }

    fn take_chunks<'o>(&mut self, mut octets: &'o [u8]) -> Option<&'o [u8]> {
        loop {
            let end = octets.windows(2).position(|window| window == b"\r\n")?;
            let size = std::str::from_utf8(&octets[..end]).expect("a size");
            let size = usize::from_str_radix(size, 16).expect("a size");
            let chunk = octets.get(end + 2..end + 2 + size + 2)?;
            assert!(chunk.ends_with(b"\r\n"), "{chunk:?}");
            self.body.extend_from_slice(&chunk[..size]);
            octets = &octets[end + 2 + size + 2..];
            if size == 0 {
                return Some(octets);
            }
        }
    }

    /// The value of a field that is there at most once.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} is there twice");
        value
    }

    /// What holds of every request that a backend is sent.
    pub fn assert_clean(&self, server: SocketAddr) {
        const NEVER: [&str; 8] =
            ["connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "http2-settings", "expect"];
        for (name, _) in &self.fields {
            assert!(!NEVER.contains(&name.as_str()) && !name.contains(['_', '.']), "{name}");
        }
        let server = server.to_string();
        for (name, value) in [
            ("host", server.as_str()),
            ("x-user-id", "user-1"),
            ("x-workspace-id", "w"),
            ("x-forwarded-for", "127.0.0.1"),
            ("x-forwarded-proto", "http"),
        ] {
            assert_eq!(self.field(name), Some(value), "{name} of {}", self.target);
        }
        assert!(self.field("x-request-id").is_some());
        assert!(self.field("authorization").is_some_and(|value| value.starts_with("Bearer mb_")));
        assert!(!self.fields.iter().any(|(name, _)| name.replace('-', "") == "xuserid" && name != "x-user-id"));
    }
}
