//! `redis.url`: what stands behind it, and where.

use std::fmt;

use crate::policy::upstream::ServerAddress;

const DEFAULT_PORT: u16 = 6379;
/// The port that sentinels have by default.
const DEFAULT_SENTINEL_PORT: u16 = 26379;

/// A parsed url: `redis://`, `rediss://` (TLS), `redis+sentinel://host:port,host:port/service[/db]`, `redis+cluster://host:port,host:port`, the
/// last two also with `rediss`.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// What is there.
    pub shape: Shape,
    /// `host:port` of each server that is named.
    pub hosts: Vec<String>,
    /// Whether it is spoken to by TLS.
    pub is_tls: bool,
    /// `user:password`, percent-encoded.
    credentials: String,
    database: String,
}

/// What stands behind a url.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One server.
    Single,
    /// Sentinels that know who the master of this service is.
    Sentinel(String),
    /// Some nodes of a Cluster.
    Cluster,
}

impl fmt::Debug for RedisUrl {
    /// Without the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({:?}, {:?})", self.shape, self.hosts)
    }
}

impl RedisUrl {
    /// Reads a url; `None` if it is none.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (scheme, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let is_tls = match scheme {
            "redis" => false,
            "rediss" => true,
            _ => return None,
        };
        let (credentials, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (shape, database) = match kind {
            "" => (Shape::Single, path),
            "cluster" if matches!(path, "" | "0") => (Shape::Cluster, ""),
            "sentinel" => {
                let (service, database) = path.split_once('/').unwrap_or((path, ""));
                (Shape::Sentinel(Some(service).filter(|service| !service.is_empty())?.to_owned()), database)
            }
            _ => return None,
        };
        let port = if kind == "sentinel" { DEFAULT_SENTINEL_PORT } else { DEFAULT_PORT };
        let hosts: Vec<String> = hosts.split(',').map(|host| with_port(host, port)).collect::<Option<_>>()?;
        let is_usable = database.bytes().all(|b| b.is_ascii_digit()) && (hosts.len() == 1 || shape != Shape::Single);
        let (credentials, database) = (credentials.to_owned(), database.to_owned());
        is_usable.then_some(Self { shape, hosts, is_tls, credentials, database })
    }

    /// The url of one server at this place.
    pub fn to(&self, host: &str) -> String {
        let scheme = if self.is_tls { "rediss" } else { "redis" };
        let at = if self.credentials.is_empty() { "" } else { "@" };
        format!("{scheme}://{}{at}{host}/{}", self.credentials, self.database)
    }

    /// The same place as sentinels are reached: they have no databases, and the credentials are those of Redis.
    #[must_use]
    pub fn of_sentinels(&self) -> Self {
        Self { credentials: String::new(), database: String::new(), ..self.clone() }
    }
}

fn with_port(host: &str, port: u16) -> Option<String> {
    let with_port = if ServerAddress::parse(host).is_some() { host.to_owned() } else { format!("{host}:{port}") };
    ServerAddress::parse(&with_port).map(|_| with_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_what_is_there_and_where() {
        let read = |url| RedisUrl::parse(url).map(|url| (url.shape, url.hosts.join(" ")));
        let sentinel = |service: &str| Shape::Sentinel(service.to_owned());
        for (url, expected) in [
            ("redis://127.0.0.1:6379", Some((Shape::Single, "127.0.0.1:6379"))),
            ("redis://cache", Some((Shape::Single, "cache:6379"))),
            ("redis://user:p%40ss@cache:6379/3", Some((Shape::Single, "cache:6379"))),
            ("rediss://[::1]:6380", Some((Shape::Single, "[::1]:6380"))),
            ("redis+sentinel://a:26379,b/main", Some((sentinel("main"), "a:26379 b:26379"))),
            ("redis+sentinel://u:p@a:26379/main/2", Some((sentinel("main"), "a:26379"))),
            ("rediss+cluster://a:7000,b:7001", Some((Shape::Cluster, "a:7000 b:7001"))),
            ("redis+cluster://a:7000/1", None),
            ("redis+sentinel://a:26379", None),
            ("redis://a:1,b:2", None),
            ("redis://a:1/x", None),
            ("redis+other://a:1", None),
            ("http://a:1", None),
            ("redis://a:port", None),
            ("redis://", None),
            ("a:6379", None),
        ] {
            let expected = expected.map(|(shape, hosts)| (shape, hosts.to_owned()));
            assert_eq!(read(url), expected, "{url}");
        }
    }

    #[test]
    fn the_credentials_of_redis_are_not_for_sentinels_and_not_for_the_log() {
        let url = RedisUrl::parse("redis+sentinel://user:secret@a:26379/main/2").unwrap();
        assert_eq!(url.to("b:1"), "redis://user:secret@b:1/2");
        assert_eq!(url.of_sentinels().to("a:26379"), "redis://a:26379/");
        assert!(!format!("{url:?}").contains("secret"));
    }
}
