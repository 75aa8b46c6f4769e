//! What must hold for any octets at all. Each promise panics when it is broken; fuzz targets and bounded property tests share them.

use bytes::{Bytes, BytesMut};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use mailtrixy_gateway::config::Loaded;
use mailtrixy_gateway::policy::answer;
use mailtrixy_gateway::policy::body::{Incoming, Outgoing};
use mailtrixy_gateway::policy::credential::{ChecksumMode, Credential, TokenDigest, TokenGrammar};
use mailtrixy_gateway::policy::decode::Coding;
use mailtrixy_gateway::policy::head;
use mailtrixy_gateway::policy::normalise::{Answer, normalise};
use mailtrixy_gateway::policy::path::CleanPath;
use serde_json::Value;

/// A head that passes says the same to httparse, with which most of Rust reads heads, and its target is read by `http::Uri` as it stands.
pub fn head(octets: &[u8]) {
    const MOST_FIELDS: usize = 64;
    let Ok(read) = head::read(&Bytes::copy_from_slice(octets), MOST_FIELDS) else { return };
    if read.flaw.is_some() {
        return;
    }
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    let length = match parsed.parse(octets) {
        Ok(httparse::Status::Complete(length)) => length,
        other => panic!("httparse: {other:?}"),
    };
    assert_eq!(length, octets.len(), "the head ends elsewhere");
    let text = String::from_utf8_lossy(octets);
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let (method, target, version) = (parsed.method.unwrap(), parsed.path.unwrap(), parsed.version.unwrap());
    assert_eq!(lines.next(), Some(format!("{method} {target} HTTP/1.{version}").as_str()));
    assert_eq!(lines.count(), parsed.headers.len(), "a line is no field");
    let mut theirs: Vec<(String, &[u8])> =
        parsed.headers.iter().map(|field| (field.name.to_ascii_lowercase(), field.value)).collect();
    let mut ours: Vec<(String, &[u8])> =
        read.parts.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes())).collect();
    theirs.sort();
    ours.sort();
    assert_eq!(ours, theirs, "another field");
    assert_eq!(read.parts.method.as_str(), method);
    assert_eq!(read.parts.uri.to_string(), target);
    if target != "*" {
        let uri: Uri = target.parse().expect("a target that http::Uri takes");
        assert_eq!((uri.scheme(), uri.authority()), (None, None));
        assert_eq!(uri.path_and_query().map(|target| target.as_str()), Some(target));
    }
    assert_one_length(parsed.headers, version);
}

fn assert_one_length(fields: &[httparse::Header<'_>], version: u8) {
    let all = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value).collect()
    };
    let (lengths, codings, hosts) = (all("content-length"), all("transfer-encoding"), all("host"));
    assert!(lengths.len() + codings.len() <= 1, "two lengths");
    assert!(lengths.iter().all(|value| !value.is_empty() && value.iter().all(u8::is_ascii_digit)));
    assert!(codings.iter().all(|value| value.eq_ignore_ascii_case(b"chunked") && version == 1));
    assert!(hosts.len() == 1 || (hosts.is_empty() && version == 0));
}

/// The head of an answer ends at the same place however it comes, and what is read of it can be written again: no field holds a line end,
/// and there is one length at most.
pub fn answer(octets: &[u8]) {
    let found = answer::end(octets, &mut 0);
    let mut seen = 0;
    let bit_by_bit = (0..=octets.len()).find_map(|length| answer::end(&octets[..length], &mut seen).transpose());
    assert_eq!(bit_by_bit.transpose().ok().flatten(), found.ok().flatten());
    let Ok(Some(end)) = found else { return };
    let Ok(head) = answer::read(&Bytes::copy_from_slice(&octets[..end])) else { return };
    assert!((100..600).contains(&head.status.as_u16()));
    for (name, value) in &head.fields {
        let has_an_end = value.as_bytes().iter().any(|octet| matches!(octet, b'\r' | b'\n' | 0));
        assert!(!has_an_end, "{name}: {value:?}");
    }
    let count = |name: &str| head.fields.get_all(name).iter().count();
    assert!(count("content-length") + count("transfer-encoding") <= 1);
    assert!(!head.is_kept || octets.starts_with(b"HTTP/1.1 "));
}

/// A body in chunks has one content and one end however it comes, the same as for httparse, and so has what is sent of it. The first octet
/// says in pieces of how many octets it comes.
pub fn body(octets: &[u8]) {
    let Some((first, octets)) = octets.split_first() else { return };
    let whole = unchunked(octets, octets.len().max(1));
    let pieces = unchunked(octets, usize::from(*first) + 1);
    assert_eq!(whole.is_some(), pieces.is_some());
    let (Some(whole), Some(pieces)) = (whole, pieces) else { return };
    assert_eq!(whole, pieces, "it matters how it comes");
    let (content, rest) = whole;
    if let Some(rest) = rest {
        assert_eq!(unchunked_by_httparse(octets).as_ref(), Some(&content), "another content");
        assert!(octets.ends_with(&rest));
        assert_eq!(unchunked(&chunked(&content), 7), Some((content, Some(Vec::new()))), "it is sent as something else");
    }
}

/// What is in a chunked body that comes in `pieces`, with what follows it if it is over; `None` for one that is broken.
fn unchunked(octets: &[u8], pieces: usize) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let (mut body, mut content, mut read) = (Incoming::chunked(), Vec::new(), BytesMut::new());
    for piece in octets.chunks(pieces) {
        read.extend_from_slice(piece);
        if !body.is_over() {
            content.extend_from_slice(&body.take(&mut read).ok()?);
        }
    }
    Some((content, body.is_over().then(|| read.to_vec())))
}

fn unchunked_by_httparse(mut octets: &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((begin, size))) = httparse::parse_chunk_size(octets) else { return None };
        if size == 0 {
            return Some(content);
        }
        let size = usize::try_from(size).ok()?;
        content.extend_from_slice(octets.get(begin..begin + size)?);
        octets = octets.get(begin + size..)?.strip_prefix(b"\r\n")?;
    }
}

fn chunked(content: &[u8]) -> Vec<u8> {
    let (mut body, mut out) = (Outgoing::Chunked, BytesMut::new());
    for chunk in content.chunks(3) {
        body.open(chunk.len(), &mut out).unwrap();
        out.extend_from_slice(chunk);
        out.extend_from_slice(body.close());
    }
    out.extend_from_slice(body.end().unwrap());
    out.to_vec()
}

/// The canonical path names the same segments as the one that was sent, stays what it is, and holds nothing that a server resolves.
pub fn path(octets: &[u8]) {
    let Ok(sent) = std::str::from_utf8(octets) else { return };
    let Ok(clean) = CleanPath::parse(sent) else { return };
    let clean = clean.as_str();
    assert_eq!(CleanPath::parse(clean).map(|again| again.to_string()), Ok(clean.to_owned()));
    let segments: Vec<Vec<u8>> = clean.split('/').skip(1).map(unescaped).collect();
    let mut named: Vec<Vec<u8>> = Vec::new();
    for segment in sent.split('/').map(unescaped) {
        match segment.as_slice() {
            b"" | b"." => {}
            b".." => drop(named.pop().expect("above the root")),
            _ => named.push(segment),
        }
    }
    assert_eq!(segments, if named.is_empty() { vec![Vec::new()] } else { named }, "{sent} became {clean}");
    let is_inert = |segment: &Vec<u8>| {
        let text = std::str::from_utf8(segment).expect("UTF-8");
        !text.contains(['/', '\\', ';']) && !text.chars().any(char::is_control) && !matches!(text, "." | "..")
    };
    assert!(segments.iter().all(is_inert), "{clean}");
    let twice = segments.iter().map(|segment| unescaped(&String::from_utf8_lossy(segment)));
    assert!(twice.zip(&segments).all(|(twice, once)| twice == *once), "{clean} can be decoded twice");
    assert_eq!(clean.parse::<Uri>().expect("a target").path(), clean);
}

/// Undoes the escapes that are some.
fn unescaped(text: &str) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let is_escape = digits.is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.filter(|_| *first == b'%' && is_escape) {
            Some(digits) => {
                octets.push(u8::from_str_radix(digits, 16).unwrap());
                rest = &after[2..];
            }
            None => {
                octets.push(*first);
                rest = after;
            }
        }
    }
    octets
}

/// Laravel reads the token that was identified out of the field that is forwarded, under every checksum mode.
pub fn credential(octets: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(octets) else { return };
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    let read = |checksum| {
        let grammar = TokenGrammar { prefix: "mb_".to_owned(), checksum };
        let credential = Credential::from_headers(&headers, &grammar).ok()?;
        let forwarded = credential.authorization();
        assert_eq!(laravel_bearer_token(forwarded.to_str().unwrap()), Some(credential.presented()));
        let token = credential.presented().split_once('|').map_or(credential.presented(), |(_, token)| token);
        assert_eq!(credential.digest(), TokenDigest::of(token));
        assert!(octets.ends_with(credential.presented().as_bytes()));
        assert!(!format!("{credential:?}{:?}{forwarded:?}", credential.digest()).contains(token));
        Some(token.to_owned())
    };
    let [required, if_present, off] = [ChecksumMode::Required, ChecksumMode::IfPresent, ChecksumMode::Off].map(read);
    assert!(required.is_none() || if_present.is_some(), "required takes more than if_present");
    assert!(if_present.is_none() || off.is_some(), "if_present takes more than off");
}

/// Illuminate\Http\Concerns\InteractsWithInput::bearerToken().
fn laravel_bearer_token(field: &str) -> Option<&str> {
    let at = field.to_ascii_lowercase().rfind("bearer ")?;
    let rest = &field[at + 7..];
    Some(rest.split_once(',').map_or(rest, |(first, _)| first))
}

/// Whatever a backend says, the client reads an envelope that holds nothing of a program's inside. The first octet chooses the status.
pub fn normaliser(octets: &[u8]) {
    let Some((first, body)) = octets.split_first() else { return };
    let status = StatusCode::from_u16(400 + u16::from(*first) % 200).unwrap();
    let hosts = ["contacts-backend".to_owned()];
    let normalised = normalise(status, body, &hosts);
    let (sent, expected) = match &normalised.answer {
        Answer::Untouched => (body, status),
        Answer::Replaced(envelope) => (&envelope.body[..], envelope.status),
    };
    assert_eq!(expected.as_u16(), if status == 419 { 401 } else { status.as_u16() });
    let envelope: Value = serde_json::from_slice(sent).expect("JSON");
    assert_eq!(envelope["success"], Value::Bool(false));
    assert!(envelope["error"]["code"].is_string());
    let text = String::from_utf8(sent.to_vec()).expect("UTF-8").to_lowercase();
    for inside in ["sqlstate", ".php", "/var/www", "stack trace"] {
        assert!(!text.contains(inside), "{inside} in {text}");
    }
    if let Answer::Replaced(_) = normalised.answer {
        assert_eq!(envelope.as_object().unwrap().len(), 2);
        assert!(envelope["error"]["message"].is_string() && envelope["error"]["details"].is_object());
        let said = envelope["error"]["message"].as_str().unwrap();
        let mut words = said.split(|character: char| !character.is_alphanumeric() && character != '-');
        assert!(!said.contains('\\') && words.all(|word| word != "contacts-backend"), "{said}");
    }
}

/// A compressed body is read within the bound or not at all, and no other body that begins or ends like it is. The first octet chooses
/// the coding.
pub fn coded(octets: &[u8]) {
    const MOST: usize = 1 << 12;
    let Some((first, body)) = octets.split_first() else { return };
    let codings = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];
    let coding = codings[usize::from(*first) % codings.len()];
    let Some(content) = coding.decode(body, MOST) else { return };
    assert!(content.len() <= MOST);
    assert_eq!(coding.decode(body, content.len()).as_ref(), Some(&content));
    assert!(content.is_empty() || coding.decode(body, content.len() - 1).is_none(), "more than the bound");
    assert_eq!(coding.decode(&body[..body.len() - 1], MOST), None, "half of it was read");
    assert_eq!(coding.decode(&[body, b"x"].concat(), MOST), None, "something followed it");
}

/// Any text is a configuration or a report of what is wrong with it, the same each time, at places that the text has.
pub fn configuration(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let environment =
        |name: &str| (name == "MB_SIGNING_SECRET").then(|| "a signing secret for tests, 32 bytes or more".to_owned());
    let load = || Loaded::from_text("gateway.yaml".to_owned(), text.to_owned(), &environment);
    let (loaded, again) = (load(), load());
    let report = loaded.report();
    assert_eq!(report, again.report(), "not the same twice");
    // A carriage return alone begins a line too (YAML 1.2 section 5.4), and what is missing at the end is missing behind the last.
    let lines = text.split(['\n', '\r']).count() + 1;
    for problem in &loaded.problems {
        assert!(problem.place.line <= lines, "{problem:?}");
        assert!(!problem.message.is_empty() && report.contains(problem.message.as_str()));
    }
    let is_broken = loaded.is_broken();
    assert_eq!(loaded.into_config().is_err(), is_broken);
}
