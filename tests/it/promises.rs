//! The promises of the fuzz targets (`tests/fuzz`), bounded: on the seeds, and on octets that begin as something sensible.

use std::path::Path;

use proptest::prelude::*;

#[path = "../fuzz/promises.rs"]
mod kept;

/// What the target `name` starts from.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(name);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// A seed in which pieces have been replaced by `words`, by pieces of the other seeds, or by any octets.
fn spoiled(name: &str, words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let seeds = seeds(name);
    let all = seeds.concat();
    let piece = prop_oneof![
        3 => proptest::sample::select(words).prop_map(|word| word.as_bytes().to_vec()),
        2 => (any::<proptest::sample::Index>(), 0usize..24).prop_map(move |(at, length)| {
            let at = at.index(all.len());
            all[at..(at + length).min(all.len())].to_vec()
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    let change = (any::<proptest::sample::Index>(), 0usize..12, piece);
    (proptest::sample::select(seeds), proptest::collection::vec(change, 0..6)).prop_map(|(mut octets, changes)| {
        for (at, length, piece) in changes {
            let at = at.index(octets.len() + 1);
            let end = (at + length).min(octets.len());
            octets.splice(at..end, piece);
        }
        octets
    })
}

macro_rules! promises {
    ($($test:ident: $promise:ident, $cases:literal, [$($word:literal),* $(,)?];)*) => {
        $(
            #[test]
            fn $test() {
                seeds(stringify!($promise)).iter().for_each(|seed| kept::$promise(seed));
                proptest!(ProptestConfig::with_cases($cases), |(octets in spoiled(stringify!($promise), &[$($word),*]))| {
                    kept::$promise(&octets);
                });
            }
        )*
    };
}

promises! {
    a_head_that_passes_says_the_same_to_another_parser: head, 3000,
        ["\r\n", "\n", "\r", " ", "\t", ":", "\0", "Host: x\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "chunked", ",", "HTTP/1.0", "HTTP/1.1", "/", "http://x", "?", "#"];
    a_head_of_an_answer_can_be_written_again: answer, 3000,
        ["\r\n", "\n", "\r", " ", ":", "\0", "HTTP/1.0 ", "HTTP/1.1 ", "200", "099", "999", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", " x\r\n"];
    a_chunked_body_has_one_content_and_one_end: body, 3000,
        ["\r\n", "\n", "\r", "0\r\n", "0\r\n\r\n", "5\r\nhello\r\n", "a", "F", ";x=y", ";", " ", "\0", "00000000000000005", "ffffffffffffffff", "X: y\r\n"];
    a_canonical_path_names_the_same_segments: path, 3000,
        ["/", "//", "/./", "/../", "%2e", "%2f", "%5c", "%25", "%00", ";", "\\", "%c3%a9", "%c0%ae", ".php", "%3f", "?", "."];
    laravel_reads_the_token_that_was_identified: credential, 3000,
        ["Bearer ", "bearer ", "Basic ", ",", " ", "\t", "|", "7|", "07|", "mb_", ".", "="];
    no_error_of_a_backend_leaks: normaliser, 3000,
        ["{", "}", "[", "]", ",", ":", "\"", "\\", "\\u0000", "\"message\":", "\"errors\":", "\"details\":", "\"error\":", "\"code\":", "\"success\":false,", "\"trace\":1", "SQLSTATE", "/var/www", ".php", "App\\\\A", "contacts-backend", "#0 "];
    a_compressed_body_has_one_reading: coded, 3000,
        ["\0", "\u{1}", "\u{2}", "\u{3}", "\u{1f}", "(", "x", "\u{4}", "\u{1b}", "\0\0\u{7f}\u{7f}"];
    any_text_is_a_configuration_or_says_what_is_wrong: configuration, 150,
        ["\n", "  ", ": ", "- ", "[", "]", "{", "}", "&a ", "*a", "\"", "'", "#", "|\n", "? ", "${X}", "${X:-1}", "!!str ", "---\n", "null", "1s", "16KiB", "**", "{a}", "\u{e9}", "\t"];
}
