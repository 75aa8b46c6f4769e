//! Lines of a stream in bounded memory: a line that is too long is read over and counted.

use std::io::{BufRead, Error, ErrorKind};

/// The longest line that is kept; an access line with the longest path has a quarter of it.
const LONGEST: usize = 64 << 10;

/// Reads lines one after the other.
pub struct Lines<R> {
    input: R,
    line: Vec<u8>,
    /// Lines that were too long.
    pub skipped: u64,
}

impl<R: BufRead> Lines<R> {
    /// Reads `input` from where it is.
    pub fn new(input: R) -> Self {
        Self { input, line: Vec::new(), skipped: 0 }
    }

    /// The next line that is not too long, without its end; `None` at the end of the input.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, Error> {
        loop {
            self.line.clear();
            let mut length = 0_usize;
            if !self.fill(&mut length)? {
                return Ok(None);
            }
            if length <= LONGEST {
                return Ok(Some(&self.line));
            }
            self.skipped += 1;
        }
    }

    /// Reads one line, as much of it as is kept; false at the end of the input.
    fn fill(&mut self, length: &mut usize) -> Result<bool, Error> {
        let mut is_any = false;
        loop {
            let read = match self.input.fill_buf() {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if read.is_empty() {
                return Ok(is_any);
            }
            is_any = true;
            let end = memchr::memchr(b'\n', read);
            let part = read.get(..end.unwrap_or(read.len())).unwrap_or_default();
            *length += part.len();
            if *length <= LONGEST {
                self.line.extend_from_slice(part);
            }
            let consumed = part.len() + usize::from(end.is_some());
            self.input.consume(consumed);
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufReader, Read as _};

    #[test]
    fn lines_come_one_by_one_and_those_that_are_too_long_are_counted() {
        let long = "x".repeat(LONGEST + 1);
        let fits = "y".repeat(LONGEST);
        let text = format!("one\n\n{long}\n{fits}\r\n{fits}\n{long}\nlast");
        let mut lines = Lines::new(BufReader::with_capacity(7, text.as_bytes()));
        let mut read = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            read.push((line.len(), line.first().copied()));
        }
        assert_eq!(read, [(3, Some(b'o')), (0, None), (LONGEST, Some(b'y')), (4, Some(b'l'))]);
        assert_eq!(lines.skipped, 3);
    }

    #[test]
    fn a_line_without_an_end_takes_no_more_memory_than_others() {
        let mut lines = Lines::new(BufReader::new(std::io::repeat(b'x').take(50 << 20)));
        assert_eq!(lines.next_line().unwrap(), None);
        assert_eq!((lines.skipped, lines.line.capacity() <= 2 * LONGEST), (1, true));
    }
}
