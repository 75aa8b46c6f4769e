//! Values with their unit in the text: `25ms`, `4h`, `16KiB`.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A duration: a number and `ms`, `s`, `m`, `h` or `d`, several added up (`1m30s`). `0` needs no unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

/// A number of bytes: `64KiB`, `2MiB`, `1MB`, or a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// A secret as a text: Debug prints that there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

/// What is expected of a [`Span`].
pub const DURATION: &str = "a duration with its unit, such as `25ms`, `30s` or `4h`";
/// What is expected of a [`Bytes`].
pub const SIZE: &str = "a size with its unit, such as `64KiB` or `2MiB`";

struct SecretVisitor;

impl Visitor<'_> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret(text.to_owned()))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(SecretVisitor)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// One name or a list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany(pub Vec<String>);

/// `auto` or a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Threads {
    /// One a core.
    #[default]
    Auto,
    /// This many.
    Count(usize),
}

/// Far enough for everybody, and near enough to be added to any point in time.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 3600);

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(DURATION)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
        match text {
            "0" => Ok(Span(Duration::ZERO)),
            text => match humantime::parse_duration(text) {
                Ok(span) if span <= LONGEST => Ok(Span(span)),
                _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
            },
        }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Span, E> {
        match number {
            0 => Ok(Span(Duration::ZERO)),
            other => Err(E::invalid_value(serde::de::Unexpected::Unsigned(other), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

struct BytesVisitor;

impl Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SIZE)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
        text.parse::<bytesize::ByteSize>()
            .map(|size| Bytes(size.as_u64()))
            .map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Bytes, E> {
        Ok(Bytes(number))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }
}

struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name or a list of names")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<OneOrMany, E> {
        Ok(OneOrMany(vec![name.to_owned()]))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMany, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = items.next_element()? {
            names.push(name);
        }
        Ok(OneOrMany(names))
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

struct ThreadsVisitor;

impl Visitor<'_> for ThreadsVisitor {
    type Value = Threads;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`auto` or a number from 1 to 1024")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Threads, E> {
        match text {
            "auto" => Ok(Threads::Auto),
            other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
        }
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Threads, E> {
        match usize::try_from(number) {
            Ok(count @ 1..=1024) => Ok(Threads::Count(count)),
            _ => Err(E::invalid_value(serde::de::Unexpected::Unsigned(number), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for Threads {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ThreadsVisitor)
    }
}

struct NetworkVisitor;

impl Visitor<'_> for NetworkVisitor {
    type Value = Network;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a network, such as `10.0.0.0/8` or `fd00::/8`; one address is `10.0.0.7/32`")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Network, E> {
        text.parse().map(Network).map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

struct Network(IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NetworkVisitor)
    }
}

/// Networks in the notation of RFC 4632.
pub fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let networks = Vec::<Network>::deserialize(deserializer)?;
    Ok(networks.into_iter().map(|Network(network)| network).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Result<T, String> {
        serde_json::from_value(value).map_err(|e| e.to_string())
    }

    #[test]
    fn a_duration_carries_its_unit() {
        assert_eq!(read(json!("25ms")), Ok(Span(Duration::from_millis(25))));
        assert_eq!(read(json!("1m30s")), Ok(Span(Duration::from_secs(90))));
        assert_eq!(read(json!(0)), Ok(Span(Duration::ZERO)));
        assert_eq!(
            read::<Span>(json!(30)),
            Err("invalid value: integer `30`, expected a duration with its unit, such as `25ms`, `30s` or `4h`".into())
        );
        assert!(read::<Span>(json!("soon")).is_err());
        assert!(read::<Span>(json!("500000000000years")).is_err());
    }

    #[test]
    fn a_size_carries_its_unit_or_counts_bytes() {
        assert_eq!(read(json!("16KiB")), Ok(Bytes(16_384)));
        assert_eq!(read(json!(512)), Ok(Bytes(512)));
        assert!(read::<Bytes>(json!("much")).is_err());
    }

    #[test]
    fn a_secret_is_not_printed() {
        assert_eq!(format!("{:?}", Secret("hunter2".into())), "Secret(…)");
    }
}
