//! The header fields of a message that goes out, in their order. A list, because they are written once and hardly ever looked up.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

/// Names and values. A name may stand more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<(HeaderName, HeaderValue)>);

impl Fields {
    /// None yet, with room for so many.
    pub fn with_capacity(fields: usize) -> Self {
        Self(Vec::with_capacity(fields))
    }

    /// One more field, whatever is there.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }

    /// The field instead of all others of its name.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.retain(|(other, _)| *other != name);
        self.append(name, value);
    }

    /// The first value of a name.
    pub fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.0.iter()
    }

    /// Only those that `are_kept`.
    pub fn retain(&mut self, are_kept: impl Fn(&HeaderName) -> bool) {
        self.0.retain(|(name, _)| are_kept(name));
    }
}

impl From<Vec<(HeaderName, HeaderValue)>> for Fields {
    fn from(fields: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self(fields)
    }
}

impl From<Fields> for HeaderMap {
    fn from(fields: Fields) -> Self {
        let mut map = Self::with_capacity(fields.0.len());
        for (name, value) in fields.0 {
            map.append(name, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::{SET_COOKIE, VARY};

    #[test]
    fn a_name_may_stand_twice_until_it_is_set() {
        let value = HeaderValue::from_static;
        let mut fields = Fields::default();
        fields.append(SET_COOKIE, value("a"));
        fields.append(VARY, value("b"));
        fields.append(SET_COOKIE, value("c"));
        assert_eq!(fields.get(&SET_COOKIE), Some(&value("a")));
        assert_eq!(HeaderMap::from(fields.clone()).get_all(SET_COOKIE).iter().count(), 2);
        fields.set(SET_COOKIE, value("d"));
        let left: Vec<&str> = fields.iter().filter_map(|(_, value)| value.to_str().ok()).collect();
        assert_eq!(left, ["b", "d"]);
    }
}
