//! See `promises::answer`.
#![no_main]

#[path = "../promises.rs"]
#[expect(dead_code, reason = "one promise a target")]
mod promises;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| promises::answer(octets));
