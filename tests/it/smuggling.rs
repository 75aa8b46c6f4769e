//! Requests that two parsers could read in two ways, against a backend that keeps every byte: one request in is at most one request
//! out, with the same meaning, and never one that nobody authorised.
//!
//! A row is its name, its bytes and its answers. In the bytes `¶` is CRLF, `§` the row's own path, `{ok}` Host and a valid token,
//! `{body}` a request that nobody may ever send on its own and `{length}` its length; every character is one octet (Latin-1), and
//! `{end}` at the end closes the client's side. The answers, in order:
//!
//! - `GET` or `POST hello`: 200, and the backend was sent exactly this;
//! - `404`: the envelope of that status, and the backend was sent nothing;
//! - `cut`: the connection ends without an answer.
//!
//! `400.` is the connection's last answer, after `404~` it may go on or not; after everything else it goes on, in step.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use http::StatusCode;
use mailtrixy_gateway::policy::envelope::Envelope;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::backend::scripted;
use crate::harness::client::{Connection, Response};
use crate::harness::gateway::{Gateway, simple};
use crate::harness::message::Message;
use crate::harness::token::token;

type Row = (&'static str, &'static str, &'static str);

/// Where a body ends: each row continues `POST § HTTP/1.1¶{ok}`.
const BODIES: &[Row] = &[
    ("a plain body", "Content-Length: 5¶¶hello", "POST hello"),
    ("a chunked body", "Transfer-Encoding: chunked¶¶5¶hello¶0¶¶", "POST hello"),
    ("pingora#945: CL with TE", "Content-Length: 5¶Transfer-Encoding: chunked¶¶0¶¶G", "400."),
    ("pingora#945: TE with CL", "Transfer-Encoding: chunked¶Content-Length: 5¶¶0¶¶G", "400."),
    ("CL of 0 with TE", "Content-Length: 0¶Transfer-Encoding: chunked¶¶0¶¶", "400."),
    ("CVE-2023-40225: an empty CL", "Content-Length:¶¶hello", "400."),
    ("CVE-2023-40225: an empty CL before a good one", "Content-Length:¶Content-Length: 5¶¶hello", "400."),
    ("a CL of spaces", "Content-Length:    ¶¶hello", "400."),
    ("CL twice, the same", "Content-Length: 5¶Content-Length: 5¶¶hello", "400."),
    ("CL twice, different", "Content-Length: 5¶Content-Length: 6¶¶hello!", "400."),
    ("CL as a list of the same", "Content-Length: 5, 5¶¶hello", "400."),
    ("CL as a list of different", "Content-Length: 5, 6¶¶hello!", "400."),
    ("CL with an empty list element", "Content-Length: 5,¶¶hello", "400."),
    ("CL with a plus", "Content-Length: +5¶¶hello", "400."),
    ("CL with a minus", "Content-Length: -5¶¶hello", "400."),
    ("CL in hexadecimal", "Content-Length: 0x5¶¶hello", "400."),
    ("CL that some read as octal", "Content-Length: 010¶¶hellohello", "400."),
    ("CL of many zeros", "Content-Length: 0000¶¶", "400."),
    ("CL with a fraction", "Content-Length: 5.0¶¶hello", "400."),
    ("CL with an exponent", "Content-Length: 5e0¶¶hello", "400."),
    ("CL with a separator", "Content-Length: 1_0¶¶hellohello", "400."),
    ("CL in two words", "Content-Length: 5 5¶¶hello", "400."),
    ("CL in quotes", "Content-Length: \"5\"¶¶hello", "400."),
    ("CL with a parameter", "Content-Length: 5;a=b¶¶hello", "400."),
    ("CL beyond 64 bits", "Content-Length: 18446744073709551621¶¶hello", "400."),
    ("CL beyond any database", "Content-Length: 99999999999999999999999999¶¶hello", "400."),
    ("CL in Arabic digits", "Content-Length: \u{d9}\u{a5}¶¶hello", "400."),
    ("CL behind a vertical tab", "Content-Length: \u{b}5¶¶hello", "400."),
    ("CL behind a form feed", "Content-Length: \u{c}5¶¶hello", "400."),
    ("CL before a NUL", "Content-Length: 5\0¶¶hello", "400."),
    ("CL before a no-break space", "Content-Length: 5\u{a0}¶¶hello", "400."),
    ("CL behind a tab", "Content-Length:\t5¶¶hello", "POST hello"),
    ("CL before spaces", "content-length:5  ¶¶hello", "POST hello"),
    ("CL with a space before its colon", "Content-Length : 5¶¶hello", "400."),
    ("CL with a tab before its colon", "Content-Length\t: 5¶¶hello", "400."),
    ("CL with a no-break space before its colon", "Content-Length\u{a0}: 5¶¶hello", "400."),
    ("CL with a NUL in its name", "Content\0-Length: 5¶¶hello", "400."),
    ("CL behind a space", " Content-Length: 5¶¶hello", "400."),
    ("CL with an underscore, which is no CL", "Content_Length: 5¶¶¶¶hi", "POST, 400."),
    ("CL on a line of another field, bare LF", "X: y\nContent-Length: 5¶¶hello", "400."),
    ("CL on a line of another field, bare CR", "X: y\rContent-Length: 5¶¶hello", "400."),
    ("CL that Connection names", "Connection: Content-Length¶Content-Length: 5¶¶hello", "POST hello"),
    (
        "CVE-2021-40346: a name that is too long for a length",
        "Content-Length0{long}:¶Content-Length: 5¶¶hello",
        "POST hello",
    ),
    ("CVE-2023-25725: a field without a name", ": x¶Content-Length: 5¶¶hello", "400."),
    ("TE in another case", "transfer-encoding:\tChunKed¶¶5¶hello¶0¶¶", "POST hello"),
    ("TE twice", "Transfer-Encoding: chunked¶Transfer-Encoding: chunked¶¶0¶¶", "400."),
    ("TE twice, the second unknown", "Transfer-Encoding: chunked¶Transfer-Encoding: cow¶¶0¶¶", "501."),
    ("CVE-2026-2835: a TE list", "Transfer-Encoding: gzip, chunked¶¶0¶¶", "400."),
    ("CVE-2026-2835: chunked not last", "Transfer-Encoding: chunked, identity¶¶0¶¶", "400."),
    ("TE chunked twice in one", "Transfer-Encoding: chunked, chunked¶¶0¶¶", "400."),
    ("TE with an empty element", "Transfer-Encoding: , chunked¶¶0¶¶", "400."),
    ("TE of identity", "Transfer-Encoding: identity¶Content-Length: 5¶¶hello", "501."),
    ("TE of something like chunked", "Transfer-Encoding: xchunked¶¶0¶¶", "501."),
    ("TE with a parameter", "Transfer-Encoding: chunked;q=1¶¶0¶¶", "400."),
    ("TE in quotes", "Transfer-Encoding: \"chunked\"¶¶0¶¶", "400."),
    ("TE without a value", "Transfer-Encoding:¶¶0¶¶", "400."),
    ("TE with a space before its colon", "Transfer-Encoding : chunked¶¶0¶¶", "400."),
    ("TE with a vertical tab before its colon", "Transfer-Encoding\u{b}: chunked¶¶0¶¶", "400."),
    ("TE behind a vertical tab", "Transfer-Encoding: \u{b}chunked¶¶0¶¶", "400."),
    ("TE before a NUL", "Transfer-Encoding: chunked\0¶¶0¶¶", "400."),
    ("TE before an octet of no alphabet", "Transfer-Encoding: chunked\u{ff}¶¶0¶¶", "400."),
    ("TE folded", "Transfer-Encoding:¶ chunked¶¶0¶¶", "400."),
    ("TE behind a space", " Transfer-Encoding: chunked¶¶0¶¶", "400."),
    ("TE on a line of another field, bare LF", "X: y\nTransfer-Encoding: chunked¶¶0¶¶", "400."),
    ("TE on a line of another field, bare CR", "X: y\rTransfer-Encoding: chunked¶¶0¶¶", "400."),
    ("TE with an underscore, which is no TE", "Transfer_Encoding: chunked¶Content-Length: 5¶¶hello", "POST hello"),
    ("TE that Connection names", "Connection: Transfer-Encoding¶Transfer-Encoding: chunked¶¶5¶hello¶0¶¶", "POST hello"),
    ("TE that is only accepted", "TE: trailers, chunked¶Content-Length: 5¶¶hello", "POST hello"),
    ("chunks in several sizes", "Transfer-Encoding: chunked¶¶1¶h¶004¶ello¶0¶¶", "POST hello"),
    ("a chunk extension", "Transfer-Encoding: chunked¶¶5;a=\"b\"¶hello¶0;c¶¶", "POST hello"),
    (
        "trailers stay here",
        "Transfer-Encoding: chunked¶Trailer: Content-Length¶¶5¶hello¶0¶Content-Length: 99¶¶",
        "POST hello",
    ),
    ("CVE-2025-22871: a bare LF behind a size", "Transfer-Encoding: chunked¶¶5\nhello¶0¶¶", "400."),
    ("CVE-2025-22871: a bare LF behind the last size", "Transfer-Encoding: chunked¶¶5¶hello¶0\n¶", "400."),
    ("CVE-2025-43859: anything behind a chunk", "Transfer-Encoding: chunked¶¶5¶helloXX0¶¶", "400."),
    ("a bare LF behind a chunk", "Transfer-Encoding: chunked¶¶5¶hello\n0¶¶", "400."),
    ("CVE-2025-55315: a bare LF in an extension", "Transfer-Encoding: chunked¶¶5;a\n¶hello¶0¶¶", "400."),
    ("CVE-2025-55315: a line within an extension", "Transfer-Encoding: chunked¶¶5;\nxx¶hello¶0¶¶{body}", "400."),
    (
        "CVE-2025-55315: a bare LF in the extension of the last size",
        "Transfer-Encoding: chunked¶¶5¶hello¶0;\n¶¶",
        "400.",
    ),
    ("a NUL in an extension", "Transfer-Encoding: chunked¶¶5;a\0¶hello¶0¶¶", "400."),
    ("a line without a size", "Transfer-Encoding: chunked¶¶5¶hello¶¶¶", "400."),
    ("an extension without a size", "Transfer-Encoding: chunked¶¶5¶hello¶;a¶¶", "400."),
    ("a size before a space", "Transfer-Encoding: chunked¶¶5 ¶hello¶0¶¶", "400."),
    ("a NUL in the trailers", "Transfer-Encoding: chunked¶¶5¶hello¶0¶X: \0¶¶", "400."),
    ("CVE-2025-55315: a bare CR in an extension", "Transfer-Encoding: chunked¶¶5;a\rb¶hello¶0¶¶", "400."),
    ("a chunk longer than its size", "Transfer-Encoding: chunked¶¶3¶hello¶0¶¶", "400."),
    ("a chunk shorter than its size", "Transfer-Encoding: chunked¶¶6¶hello¶0¶¶", "400."),
    ("a size with 0x", "Transfer-Encoding: chunked¶¶0x5¶hello¶0¶¶", "400."),
    ("a size with a plus", "Transfer-Encoding: chunked¶¶+5¶hello¶0¶¶", "400."),
    ("a size with a minus", "Transfer-Encoding: chunked¶¶-5¶hello¶0¶¶", "400."),
    ("a size behind a space", "Transfer-Encoding: chunked¶¶ 5¶hello¶0¶¶", "400."),
    ("a size with a NUL", "Transfer-Encoding: chunked¶¶5\0¶hello¶0¶¶", "400."),
    ("a size beyond 64 bits", "Transfer-Encoding: chunked¶¶10000000000000005¶hello¶0¶¶", "400."),
    ("a size that ends beyond 64 bits", "Transfer-Encoding: chunked¶¶ffffffffffffffff¶hello¶0¶¶", "400."),
    ("an endless extension", "Transfer-Encoding: chunked¶¶5;{endless}¶hello¶0¶¶", "400."),
    ("a bare LF in the trailers", "Transfer-Encoding: chunked¶¶5¶hello¶0¶X: y\n¶", "400."),
    ("a chunked body that breaks off", "Transfer-Encoding: chunked¶¶5¶hel{end}", "cut"),
    ("a chunked body without its end", "Transfer-Encoding: chunked¶¶5¶hello¶{end}", "cut"),
    ("a plain body that breaks off", "Content-Length: 50¶¶hello{end}", "cut"),
    ("rubbish behind a body", "Content-Length: 5¶¶helloX¶¶", "POST hello, 400."),
    ("a request behind a body", "Content-Length: 5¶¶helloGET §/2 HTTP/1.1¶{ok}¶", "POST hello, GET"),
    (
        "a request behind a chunked body",
        "Transfer-Encoding: chunked¶¶5¶hello¶0¶¶GET §/2 HTTP/1.1¶{ok}¶",
        "POST hello, GET",
    ),
    (
        "a request behind a body, without a token",
        "Content-Length: 5¶¶helloGET §/2 HTTP/1.1¶Host: x¶¶",
        "POST hello, 401",
    ),
    ("a request that is a body", "Content-Length: {length}¶¶{body}", "POST {body}"),
    (
        "CVE-2026-58055: Upgrade with a body",
        "Connection: Upgrade¶Upgrade: websocket¶Content-Length: 5¶¶helloGET §/2 HTTP/1.1¶Host: x¶¶",
        "400, 401",
    ),
];

/// The other fields: each row continues `GET § HTTP/1.1¶{ok}`.
const FIELDS: &[Row] = &[
    ("nothing more", "¶", "GET"),
    ("a body", "Content-Length: 5¶¶hello", "GET hello"),
    ("a chunked body", "Transfer-Encoding: chunked¶¶5¶hello¶0¶¶", "GET hello"),
    (
        "CVE-2026-2833: the bytes behind an Upgrade",
        "Connection: Upgrade¶Upgrade: websocket¶¶GET §/2 HTTP/1.1¶Host: x¶¶",
        "400, 401",
    ),
    (
        "CVE-2024-23326: an Upgrade to what nobody knows",
        "Connection: Upgrade¶Upgrade: foo¶¶GET §/2 HTTP/1.1¶Host: x¶¶",
        "GET, 401",
    ),
    (
        "an Upgrade with all of WebSocket",
        "Connection: Upgrade¶Upgrade: websocket¶Sec-WebSocket-Version: 13¶Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==¶¶{body}",
        "400, 401",
    ),
    (
        "h2c upgrade",
        "Connection: Upgrade, HTTP2-Settings¶Upgrade: h2c¶HTTP2-Settings: AAMAAABkAAQAAP__¶¶PRI * HTTP/2.0¶¶SM¶¶",
        "GET, 505.",
    ),
    ("h2c upgrade that Connection does not name", "Upgrade: h2c¶HTTP2-Settings: AAMAAABkAAQAAP__¶¶{body}", "GET, 401"),
    (
        "CVE-2022-31813: Connection takes our fields away",
        "Connection: X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, X-User-Id, X-Workspace-Id, X-Request-Id, Authorization, Host¶¶",
        "GET",
    ),
    (
        "CVE-2024-45410: Connection takes X-Forwarded away",
        "Connection: close, x-forwarded-host¶X-Forwarded-Host: evil¶X-Forwarded-For: 9.9.9.9¶¶",
        "GET.",
    ),
    ("Connection with very many options", "Connection: {options}¶¶", "GET"),
    ("an identity of one's own", "X-User-Id: 1¶x_user_id: 1¶X.User.Id: 1¶X-USERID: 1¶¶", "GET"),
    ("a second Host", "Host: x¶¶", "400."),
    ("a second, other Host", "Host: evil¶¶", "400."),
    ("a second Host with a space before its colon", "Host : evil¶¶", "400."),
    ("a second Host behind a space", " Host: evil¶¶", "400."),
    ("two tokens", "Authorization: Bearer mb_x¶¶", "400"),
    ("a NUL in a value", "X: a\0b¶¶", "400."),
    ("an escape in a value", "X: \u{1b}[2J¶¶", "400."),
    ("a DEL in a value", "X: \u{7f}¶¶", "400."),
    ("octets of another alphabet in a value", "X: \u{e9}\u{ff}¶¶", "GET"),
    ("escaped line ends in a value", "X: a%0d%0aX-User-Id: 1¶¶", "GET"),
    ("an octet of another alphabet in a name", "X\u{e9}: y¶¶", "400."),
    ("a bracket in a name", "X[: y¶¶", "400."),
    ("parentheses around a name", "(X): y¶¶", "400."),
    ("a space in a name", "X Y: z¶¶", "400."),
    ("a line without a colon", "X¶¶", "400."),
    ("a folded value", "X: a¶ b¶¶", "400."),
    ("a folded value, by a tab", "X: a¶\tb: c¶¶", "400."),
    ("a bare LF for the end of the head", "X: y\n\n", "400."),
    ("a bare CR for the end of a line", "X: y\r¶¶", "400."),
    ("more than there is room for", "X: {kilobytes}{kilobytes}¶¶", "431."),
    ("more fields than there is room for", "{fields}¶", "431."),
    ("an expectation that nobody meets", "Expect: 200-ok¶¶", "417~"),
    ("an expectation twice", "Expect: 100-continue, 100-continue¶¶", "417~"),
    ("a second request that is no HTTP", "¶GET §/2 HTTP/1.1\n\n", "GET, 400."),
    ("a second request without a token", "¶GET §/2 HTTP/1.1¶Host: x¶¶", "GET, 401"),
    (
        "a second request with two lengths",
        "¶POST §/2 HTTP/1.1¶{ok}Content-Length: 1¶Transfer-Encoding: chunked¶¶0¶¶",
        "GET, 400.",
    ),
    ("an empty line before the second request", "¶¶GET §/2 HTTP/1.1¶{ok}¶", "GET, GET"),
    ("a second and a third request", "¶HEAD §/2 HTTP/1.1¶{ok}¶GET §/3 HTTP/1.1¶{ok}¶", "GET, HEAD, GET"),
];

/// The request line, and what comes before and instead of it.
const LINES: &[Row] = &[
    ("absolute-form", "GET http://x§ HTTP/1.1¶{ok}¶", "400"),
    ("absolute-form with another host", "GET http://evil§ HTTP/1.1¶{ok}¶", "400"),
    ("absolute-form with a user", "GET http://x@evil§ HTTP/1.1¶{ok}¶", "400"),
    ("authority-form", "GET x:80 HTTP/1.1¶{ok}¶", "400"),
    ("asterisk-form", "GET * HTTP/1.1¶{ok}¶", "400"),
    ("a target that looks like an authority", "GET //evil§ HTTP/1.1¶{ok}¶", "404"),
    ("a target without a slash", "GET c/7 HTTP/1.1¶{ok}¶", "400"),
    ("a query alone", "GET ?x HTTP/1.1¶{ok}¶", "400"),
    ("no target", "GET  HTTP/1.1¶{ok}¶", "400."),
    ("a fragment", "GET §#x HTTP/1.1¶{ok}¶", "400"),
    ("a NUL in the target", "GET §\0 HTTP/1.1¶{ok}¶", "400"),
    ("a control character in the target", "GET §\u{1} HTTP/1.1¶{ok}¶", "400"),
    ("a DEL in the target", "GET §\u{7f} HTTP/1.1¶{ok}¶", "400"),
    ("an octet of another alphabet in the target", "GET §\u{e9} HTTP/1.1¶{ok}¶", "400"),
    ("a quote in the target", "GET §\" HTTP/1.1¶{ok}¶", "400"),
    ("a backslash in the target", "GET §\\..\\x HTTP/1.1¶{ok}¶", "400"),
    ("a target that is too long", "GET §/{kilobytes} HTTP/1.1¶{ok}¶", "414~"),
    ("a request line within the target", "GET §%20HTTP/1.1%0d%0aX-User-Id:%201 HTTP/1.1¶{ok}¶", "400"),
    ("a line end within the query", "GET §?a=%0d%0aX-User-Id:%201 HTTP/1.1¶{ok}¶", "GET"),
    ("two spaces before the target", "GET  § HTTP/1.1¶{ok}¶", "400."),
    ("two spaces behind the target", "GET §  HTTP/1.1¶{ok}¶", "400."),
    ("a space behind the version", "GET § HTTP/1.1 ¶{ok}¶", "400."),
    ("a space in the target", "GET § x HTTP/1.1¶{ok}¶", "400."),
    ("a tab before the target", "GET\t§ HTTP/1.1¶{ok}¶", "400."),
    ("a no-break space before the version", "GET §\u{a0}HTTP/1.1¶{ok}¶", "400."),
    ("a vertical tab behind the version", "GET § HTTP/1.1\u{b}¶{ok}¶", "505."),
    ("a bare CR behind the version", "GET § HTTP/1.1\r¶{ok}¶", "505."),
    ("a bare LF behind the version", "GET § HTTP/1.1\n{ok}¶", "400."),
    ("no version", "GET §¶{ok}¶", "400."),
    ("HTTP/0.9", "GET §¶", "408."),
    ("HTTP/0.9 by name", "GET § HTTP/0.9¶{ok}¶", "505."),
    ("HTTP/1.2", "GET § HTTP/1.2¶{ok}¶", "505."),
    ("HTTP/1.10", "GET § HTTP/1.10¶{ok}¶", "505."),
    ("HTTP/01.1", "GET § HTTP/01.1¶{ok}¶", "505."),
    ("HTTP/2.0 in the manner of HTTP/1", "GET § HTTP/2.0¶{ok}¶", "505."),
    ("HTTP in small letters", "GET § http/1.1¶{ok}¶", "400."),
    ("something else than HTTP", "GET § ICY/1.1¶{ok}¶", "400."),
    ("h2c with prior knowledge", "PRI * HTTP/2.0¶¶SM¶¶", "505."),
    ("a TLS handshake", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0", "400."),
    ("an empty line before the request", "¶GET § HTTP/1.1¶{ok}¶", "GET"),
    ("two empty lines before the request", "¶¶GET § HTTP/1.1¶{ok}¶", "400."),
    ("a space before the request", " GET § HTTP/1.1¶{ok}¶", "400."),
    ("a BOM before the request", "\u{ef}\u{bb}\u{bf}GET § HTTP/1.1¶{ok}¶", "400."),
    ("a NUL in the method", "G\0T § HTTP/1.1¶{ok}¶", "400."),
    ("a parenthesis in the method", "G(T § HTTP/1.1¶{ok}¶", "400."),
    ("a very long method", "{long} § HTTP/1.1¶{ok}¶", "400."),
    ("a method in small letters", "get § HTTP/1.1¶{ok}¶", "405"),
    ("a method that nobody knows", "DEBUG § HTTP/1.1¶{ok}¶", "405"),
    ("a tunnel", "CONNECT x:443 HTTP/1.1¶{ok}¶", "405~"),
    ("a tunnel to a path", "CONNECT § HTTP/1.1¶{ok}¶", "405~"),
    ("an echo", "TRACE § HTTP/1.1¶{ok}¶", "405~"),
    ("no Host", "GET § HTTP/1.1¶¶", "400"),
    ("an empty Host", "GET § HTTP/1.1¶Host:¶¶", "400"),
    ("a Host with a user", "GET § HTTP/1.1¶Host: x@evil¶¶", "400"),
    ("a list of Hosts", "GET § HTTP/1.1¶Host: x, evil¶¶", "400"),
    ("a Host with a path", "GET § HTTP/1.1¶Host: x/evil¶¶", "400"),
    ("a Host with an endless port", "GET § HTTP/1.1¶Host: x:4294967376¶¶", "400"),
    ("HTTP/1.0", "GET § HTTP/1.0¶{ok}¶", "GET."),
    ("HTTP/1.0 that stays", "POST § HTTP/1.0¶{ok}Connection: keep-alive¶Content-Length: 5¶¶hello", "POST hello"),
    ("CVE-2026-2835: HTTP/1.0 with TE", "POST § HTTP/1.0¶{ok}Transfer-Encoding: chunked¶¶0¶¶", "400."),
    (
        "CVE-2026-2835: HTTP/1.0 with TE and CL",
        "POST § HTTP/1.0¶{ok}Connection: keep-alive¶Content-Length: 5¶Transfer-Encoding: chunked¶¶0¶¶",
        "400.",
    ),
    ("HTTP/1.0 with a second request behind its last", "GET § HTTP/1.0¶{ok}¶{body}", "GET."),
    (
        "CVE-2019-20372: a body behind what is not there",
        "GET /nothing HTTP/1.1¶Host: x¶Content-Length: {length}¶¶{body}",
        "404",
    ),
    ("CVE-2025-4366: a body that is never read", "POST § HTTP/1.1¶Host: x¶Content-Length: {length}¶¶{body}", "401"),
    (
        "a chunked body that is never read",
        "POST § HTTP/1.1¶Host: x¶Transfer-Encoding: chunked¶¶5¶hello¶0¶¶{body}",
        "401~",
    ),
    (
        "a body that is awaited and never read",
        "POST § HTTP/1.1¶Host: x¶Expect: 100-continue¶Content-Length: {length}¶¶{body}",
        "401~",
    ),
    ("a head that never ends", "GET § HTTP/1.1¶{ok}", "408."),
    ("a head that breaks off", "GET § HTTP/1.1¶{ok}X{end}", "cut"),
];

/// A request that must never be taken for one: it is a body, or nobody authorised it.
const BODY: &str = "GET /c/smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

/// The octets of a row.
fn octets(text: &str, path: &str) -> Vec<u8> {
    let options: Vec<String> = (0..300).map(|n| format!("option{n}")).collect();
    let text = text
        .replace('¶', "\r\n")
        .replace('§', path)
        .replace("{ok}", &format!("Host: x\r\nAuthorization: Bearer {}\r\n", token("w", "contacts")))
        .replace("{body}", BODY)
        .replace("{length}", &BODY.len().to_string())
        .replace("{long}", &"a".repeat(270))
        .replace("{kilobytes}", &"a".repeat(9 << 10))
        .replace("{endless}", &"a".repeat(80 << 10))
        .replace("{fields}", &"X: y\r\n".repeat(101))
        .replace("{options}", &options.join(","))
        .replace("{end}", "");
    text.chars().map(|character| u8::try_from(u32::from(character)).expect("Latin-1")).collect()
}

/// How a row's bytes are cut into writes; a gateway must not see a difference.
#[derive(Clone, Copy)]
enum Cut {
    Whole,
    Octets,
}

/// Sends a row and compares its answers. Returns what the backend has to have been sent.
async fn play(gateway: Arc<Gateway>, row: Row, path: String, cut: Cut) -> Vec<String> {
    let (name, text, answers) = row;
    let octets = octets(text, &path);
    let mut connection = Connection::open(gateway.address).await;
    match cut {
        Cut::Whole => drop(connection.try_write(&octets).await),
        Cut::Octets => {
            for octet in octets {
                if !connection.try_write(&[octet]).await {
                    break;
                }
            }
        }
    }
    if text.ends_with("{end}") {
        connection.end().await;
    }
    let mut sent = Vec::new();
    for answer in answers.split(", ") {
        let (expected, ending) = match answer.strip_suffix(['.', '~']) {
            Some(expected) => (expected, &answer[expected.len()..]),
            None => (answer, ""),
        };
        if expected == "cut" {
            assert!(connection.read(b"GET").await.is_none(), "{name}");
            return sent;
        }
        let method = expected.split(' ').next().unwrap();
        let got = connection.read(format!("{method} ").as_bytes()).await;
        let got = got.unwrap_or_else(|| panic!("{name}: no answer where {answer} was expected"));
        match expected.parse::<u16>() {
            Ok(status) => assert_envelope(name, &got, status),
            Err(_) => {
                assert_eq!(got.status, 200, "{name}: {}", got.text());
                sent.push(expected.replace("{body}", BODY));
            }
        }
        match ending {
            "." => {
                assert_eq!(got.header("connection"), Some("close"), "{name}");
                assert!(connection.is_closed().await, "{name}: something behind the last answer");
                return sent;
            }
            "~" if got.header("connection") == Some("close") => return sent,
            _ => {}
        }
    }
    let probe =
        format!("PUT {path}/probe HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", token("w", "contacts"));
    let got = connection.request(&probe).await.unwrap_or_else(|| panic!("{name}: closed"));
    assert_eq!(got.status, 200, "{name}: out of step: {}", got.text());
    sent.push("PUT".to_owned());
    sent
}

fn assert_envelope(name: &str, got: &Response, status: u16) {
    let envelope = Envelope::standard(StatusCode::from_u16(status).unwrap());
    assert_eq!((got.status, got.text().as_bytes()), (status, &envelope.body[..]), "{name}");
    assert_eq!(got.header("content-type"), Some("application/json"), "{name}");
    assert_eq!(got.number("content-length"), envelope.body.len() as u64, "{name}");
    assert!(got.header("x-request-id").is_some(), "{name}");
}

/// What came on one connection.
type Kept = Arc<Mutex<Vec<u8>>>;

/// A backend that keeps every byte it is sent, connection by connection, and answers each complete request with 200.
struct Recorder {
    address: std::net::SocketAddr,
    connections: Arc<Mutex<Vec<Kept>>>,
}

impl Recorder {
    async fn start() -> Self {
        let connections: Arc<Mutex<Vec<Kept>>> = Arc::default();
        let list = Arc::clone(&connections);
        let address = scripted(move |mut stream| {
            let kept = Kept::default();
            list.lock().unwrap().push(Arc::clone(&kept));
            async move {
                let (mut answered, mut chunk) = (0, [0; 4096]);
                while let Ok(length @ 1..) = stream.read(&mut chunk).await {
                    kept.lock().unwrap().extend_from_slice(&chunk[..length]);
                    let complete = Message::all(&kept.lock().unwrap()).0.len();
                    while answered < complete {
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                        answered += 1;
                    }
                }
            }
        })
        .await;
        Self { address, connections }
    }

    /// Every complete request, and that nothing else was sent but the beginning of one that never became complete.
    fn messages(&self) -> Vec<Message> {
        let connections = self.connections.lock().unwrap();
        let mut all = Vec::new();
        for kept in connections.iter() {
            let kept = kept.lock().unwrap();
            let (messages, rest) = Message::all(&kept);
            let rest = String::from_utf8_lossy(rest);
            assert!(rest.is_empty() || rest.starts_with("POST "), "{rest:?}");
            assert_eq!(rest.matches("HTTP/").count(), usize::from(!rest.is_empty()), "{rest:?}");
            all.extend(messages);
        }
        all
    }
}

/// Plays every row on a connection of its own, all at once, and then reads all that the backend was sent.
async fn play_all(rows: impl Iterator<Item = (String, Row)>) {
    let recorder = Recorder::start().await;
    let routes = "  c: {path: /c/**, methods: [GET, POST, PUT], scope: contacts, limit: none, upstream: main}\n";
    let config = simple(&[recorder.address], "", routes).replace("base_path: /api/v1\n", "");
    let gateway = Gateway::start(&format!("request: {{header_timeout: 2s, body_timeout: 5s}}\n{config}")).await;
    let gateway = Arc::new(gateway);
    let mut playing = Vec::new();
    for (number, (start, (name, text, answers))) in rows.enumerate() {
        let text: &'static str = format!("{start}{text}").leak();
        for (cut, letter) in [(Cut::Whole, 'w'), (Cut::Octets, 'o')] {
            let path = format!("/c/{number}{letter}");
            let played = tokio::spawn(play(Arc::clone(&gateway), (name, text, answers), path.clone(), cut));
            playing.push((name, path, played));
        }
    }
    let mut expected = BTreeMap::new();
    for (name, path, played) in playing {
        expected.insert(path, (name, played.await.unwrap_or_else(|error| panic!("{name}: {error}"))));
    }
    let mut got: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in recorder.messages() {
        message.assert_clean(recorder.address);
        assert_eq!(message.field("x-forwarded-host"), Some("x"), "of {}", message.target);
        let path = message.target.split(['?', '/']).take(3).collect::<Vec<_>>().join("/");
        let said = format!("{} {}", message.method, String::from_utf8(message.body).unwrap());
        got.entry(path).or_default().push(said.trim_end_matches(' ').to_owned());
    }
    for (path, (name, mut sent)) in expected {
        // Pooled connections are read one after the other, so requests of one row may come in another order here.
        let mut seen = got.remove(&path).unwrap_or_default();
        sent.sort();
        seen.sort();
        assert_eq!(seen, sent, "{name}: what the backend was sent");
    }
    assert!(got.is_empty(), "nobody asked for {got:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_a_body_is_framed_one_request_is_at_most_one_request() {
    play_all(BODIES.iter().map(|row| ("POST § HTTP/1.1¶{ok}".to_owned(), *row))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fields_a_request_has_its_meaning_stays_the_same() {
    play_all(FIELDS.iter().map(|row| ("GET § HTTP/1.1¶{ok}".to_owned(), *row))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_line_has_one_reading_or_none() {
    play_all(LINES.iter().map(|row| (String::new(), *row))).await;
}
