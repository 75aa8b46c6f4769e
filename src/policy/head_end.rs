//! Where a head ends that is still arriving.

use crate::policy::head::bad;
use crate::policy::refusal::Refusal;

/// Where a search for the end of a head stands, so that no octet is looked at twice.
#[derive(Debug, Default)]
pub struct Scan {
    next: usize,
}

impl Scan {
    /// The length of the head, when it is complete. A line that ends in a bare LF, and a first octet that no method begins with, are
    /// refused without waiting for more.
    pub fn find_end(&mut self, buffer: &[u8]) -> Result<Option<usize>, Refusal> {
        if buffer.first().is_some_and(|octet| !octet.is_ascii_alphabetic()) {
            return Err(bad("head_not_http"));
        }
        while let Some(at) = buffer.get(self.next..).and_then(|rest| rest.iter().position(|octet| *octet == b'\n')) {
            let line_feed = self.next + at;
            self.next = line_feed + 1;
            match buffer.get(..line_feed) {
                Some(before) if before.ends_with(b"\r\n\r") => return Ok(Some(line_feed + 1)),
                Some(before) if before.ends_with(b"\r") => {}
                _ => return Err(bad("head_bare_lf")),
            }
        }
        self.next = buffer.len();
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_head_is_found_however_it_is_cut() {
        let head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nbody";
        for cut in 0..head.len() {
            let mut scan = Scan::default();
            let first = scan.find_end(&head[..cut]).unwrap();
            assert_eq!(first.or_else(|| scan.find_end(head).unwrap()), Some(27), "{cut}");
        }
    }

    #[test]
    fn what_cannot_become_a_head_is_refused_at_once() {
        let reason = |octets: &[u8]| Scan::default().find_end(octets).err().map(|refusal| refusal.reason());
        assert_eq!(reason(b"\x16\x03\x01"), Some("head_not_http"));
        assert_eq!(reason(b"\r\nGET /"), Some("head_not_http"));
        assert_eq!(reason(b"GET / HTTP/1.1\nHost: x\n\n"), Some("head_bare_lf"));
        assert_eq!(reason(b"GET / HTTP/1.1\r\nHost: x\n"), Some("head_bare_lf"));
        assert_eq!(reason(b"GET / HTTP/1.1\r\n"), None);
    }
}
