//! A tree → what serde asks for, strictly: a list is not a map, a number is not a text, and the first obstacle knows its node.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use crate::config::obstacle::{Obstacle, Wanted};
use crate::config::yaml::{Entry, Node, Step, Style, Value, resolve};

impl Node {
    /// The scalar as a value, unless it is in quotes.
    fn resolved(&self) -> Option<serde_json::Value> {
        match &self.value {
            Value::Scalar { text, style: Style::Plain | Style::Filled } => Some(resolve(text)),
            _ => None,
        }
    }

    /// The scalar as a text, unless it is a plain number or the like.
    fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, style: Style::Plain } => resolve(text).is_string().then_some(text),
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    fn text_of_scalar(&self) -> &str {
        match &self.value {
            Value::Scalar { text, .. } => text,
            _ => "",
        }
    }

    /// The scalar as a whole number up to `most`.
    fn whole(&self, most: u64) -> Result<u64, Obstacle> {
        let number = self.resolved();
        let whole = number.as_ref().and_then(serde_json::Value::as_u64);
        whole.filter(|whole| *whole <= most).ok_or_else(|| {
            // The bound is worth its words only to somebody who wrote a whole number.
            let is_whole = self.text_of_scalar().trim_start_matches('-').bytes().all(|b| b.is_ascii_digit());
            Obstacle::unexpected(Wanted::Whole(if number.is_some() && is_whole { most } else { u64::MAX }))
        })
    }
}

impl<'n> Deserializer<'n> for &'n Node {
    type Error = Obstacle;

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Obstacle> {
        match &self.value {
            Value::Scalar { text, .. } => match self.resolved() {
                Some(serde_json::Value::Bool(flag)) => visitor.visit_bool(flag),
                Some(serde_json::Value::Number(number)) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                    (Some(number), _, _) => visitor.visit_u64(number),
                    (_, Some(number), _) => visitor.visit_i64(number),
                    (_, _, number) => visitor.visit_f64(number.unwrap_or_default()),
                },
                _ if self.is_null() => visitor.visit_unit(),
                _ => visitor.visit_borrowed_str(text),
            },
            Value::Sequence(_) => self.deserialize_seq(visitor),
            Value::Mapping(_) => self.deserialize_map(visitor),
            Value::Struck => visitor.visit_unit(),
        }
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Obstacle> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_bool<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Obstacle> {
        let flag = self.resolved().and_then(|value| value.as_bool());
        visitor.visit_bool(flag.ok_or_else(|| Obstacle::unexpected(Wanted::Flag))?)
    }

    fn deserialize_u16<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Obstacle> {
        visitor.visit_u64(self.whole(u16::MAX.into())?)
    }

    fn deserialize_u32<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Obstacle> {
        visitor.visit_u64(self.whole(u32::MAX.into())?)
    }

    fn deserialize_u64<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Obstacle> {
        visitor.visit_u64(self.whole(i64::MAX.unsigned_abs())?)
    }

    fn deserialize_f64<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Obstacle> {
        let number = self.resolved().and_then(|value| value.as_f64());
        visitor.visit_f64(number.ok_or_else(|| Obstacle::unexpected(Wanted::Number))?)
    }

    fn deserialize_str<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Obstacle> {
        visitor.visit_borrowed_str(self.text().ok_or_else(|| Obstacle::unexpected(Wanted::Text))?)
    }

    fn deserialize_string<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Obstacle> {
        self.deserialize_str(visitor)
    }

    fn deserialize_seq<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Obstacle> {
        let Value::Sequence(items) = &self.value else { return Err(Obstacle::unexpected(Wanted::List)) };
        visitor.visit_seq(Items(items.iter().enumerate()))
    }

    fn deserialize_map<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Obstacle> {
        let Value::Mapping(entries) = &self.value else { return Err(Obstacle::unexpected(Wanted::Names)) };
        visitor.visit_map(Entries { entries: entries.iter(), entry: None })
    }

    fn deserialize_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Obstacle> {
        let Value::Mapping(entries) = &self.value else { return Err(Obstacle::unexpected(Wanted::Keys(keys))) };
        visitor.visit_map(Entries { entries: entries.iter(), entry: None })
    }

    /// A name, or a map of one key that is the name of a kind.
    fn deserialize_enum<V: Visitor<'n>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Obstacle> {
        let not_one = || Obstacle::unexpected(Wanted::OneOf(names));
        match &self.value {
            Value::Scalar { .. } => visitor.visit_enum(Name(self.text().ok_or_else(not_one)?)),
            Value::Mapping(entries) => match entries.as_slice() {
                [entry] if entry.node.is_struck() => Err(Obstacle::told()),
                [entry] if names.contains(&entry.key.as_str()) => visitor.visit_enum(Kind(entry)),
                [_] => Err(Obstacle::unknown_kind(names)),
                _ => Err(not_one()),
            },
            Value::Sequence(_) | Value::Struck => Err(not_one()),
        }
    }

    forward_to_deserialize_any! {
        <V: Visitor<'n>>
        i8 i16 i32 i64 u8 f32 char bytes byte_buf unit unit_struct newtype_struct tuple tuple_struct identifier ignored_any
    }
}

/// What is not struck of a list.
struct Items<'n>(std::iter::Enumerate<std::slice::Iter<'n, Node>>);

impl<'n> SeqAccess<'n> for Items<'n> {
    type Error = Obstacle;

    fn next_element_seed<T: DeserializeSeed<'n>>(&mut self, seed: T) -> Result<Option<T::Value>, Obstacle> {
        let Some((at, item)) = self.0.find(|(_, item)| !item.is_struck()) else { return Ok(None) };
        seed.deserialize(item).map(Some).map_err(|obstacle| obstacle.below(Step::Item(at)))
    }
}

/// What is not struck of a map.
struct Entries<'n> {
    entries: std::slice::Iter<'n, Entry>,
    entry: Option<&'n Entry>,
}

impl<'n> MapAccess<'n> for Entries<'n> {
    type Error = Obstacle;

    fn next_key_seed<K: DeserializeSeed<'n>>(&mut self, seed: K) -> Result<Option<K::Value>, Obstacle> {
        self.entry = self.entries.find(|entry| !entry.node.is_struck());
        let Some(entry) = self.entry else { return Ok(None) };
        let key = BorrowedStrDeserializer::new(&entry.key);
        seed.deserialize(key).map(Some).map_err(|obstacle: Obstacle| obstacle.below(Step::Key(entry.key.clone())))
    }

    fn next_value_seed<V: DeserializeSeed<'n>>(&mut self, seed: V) -> Result<V::Value, Obstacle> {
        let entry = self.entry.ok_or_else(|| Obstacle::custom("a value is asked for before its key"))?;
        seed.deserialize(&entry.node).map_err(|obstacle| obstacle.below(Step::Key(entry.key.clone())))
    }
}

/// A scalar that names one of several.
struct Name<'n>(&'n str);

impl<'n> EnumAccess<'n> for Name<'n> {
    type Error = Obstacle;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'n>>(self, seed: V) -> Result<(V::Value, Self), Obstacle> {
        let name = seed.deserialize(IntoDeserializer::<Obstacle>::into_deserializer(self.0))?;
        Ok((name, self))
    }
}

impl<'n> VariantAccess<'n> for Name<'n> {
    type Error = Obstacle;

    fn unit_variant(self) -> Result<(), Obstacle> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'n>>(self, _: T) -> Result<T::Value, Obstacle> {
        Err(Obstacle::unexpected(Wanted::KeysOf(self.0.to_owned())))
    }

    fn tuple_variant<V: Visitor<'n>>(self, _: usize, _: V) -> Result<V::Value, Obstacle> {
        Err(Obstacle::unexpected(Wanted::List))
    }

    fn struct_variant<V: Visitor<'n>>(self, keys: &'static [&'static str], _: V) -> Result<V::Value, Obstacle> {
        Err(Obstacle::unexpected(Wanted::Keys(keys)))
    }
}

/// A map of one key, which names the kind, and whose value is what belongs to it.
struct Kind<'n>(&'n Entry);

impl<'n> EnumAccess<'n> for Kind<'n> {
    type Error = Obstacle;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'n>>(self, seed: V) -> Result<(V::Value, Self), Obstacle> {
        let name = seed.deserialize(BorrowedStrDeserializer::<Obstacle>::new(&self.0.key))?;
        Ok((name, self))
    }
}

impl<'n> VariantAccess<'n> for Kind<'n> {
    type Error = Obstacle;

    fn unit_variant(self) -> Result<(), Obstacle> {
        Err(Obstacle::unexpected(Wanted::Other(format!("`{}` alone", self.0.key))))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'n>>(self, seed: T) -> Result<T::Value, Obstacle> {
        let Entry { key, node, .. } = self.0;
        seed.deserialize(node).map_err(|obstacle| obstacle.below(Step::Key(key.clone())))
    }

    fn tuple_variant<V: Visitor<'n>>(self, _: usize, visitor: V) -> Result<V::Value, Obstacle> {
        self.0.node.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'n>>(self, keys: &'static [&'static str], visitor: V) -> Result<V::Value, Obstacle> {
        self.0.node.deserialize_struct("", keys, visitor)
    }
}
