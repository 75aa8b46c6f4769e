//! What each `reason` of the log and of the metrics means, and what to do about it: one table for everybody who says so.

/// The table: reason, meaning, advice, and the keys of gateway.yaml that play a part. A `*` in a key is the name of the request's own
/// route, limit or upstream.
const TABLE: &str = include_str!("reasons.txt");

/// One reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason {
    /// As in the access line.
    pub name: &'static str,
    /// What it means, as a clause.
    pub meaning: &'static str,
    /// What to do about it.
    pub advice: &'static str,
    keys: &'static str,
}

impl Reason {
    /// All there are.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.lines().filter_map(|line| {
            let mut cells = line.split('|').map(str::trim);
            let (name, meaning, advice) = (cells.next()?, cells.next()?, cells.next()?);
            Some(Self { name, meaning, advice, keys: cells.next().unwrap_or_default() })
        })
    }

    /// The one that is called `name`.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|reason| reason.name == name)
    }

    /// The keys of gateway.yaml that play a part, step by step, with the names that are known of the request filled in.
    pub fn keys<'n>(&self, named: impl Fn(&str) -> Option<&'n str>) -> Vec<Vec<&'n str>>
    where
        Self: 'n,
    {
        let key = |key: &'static str| {
            let section = key.split('.').next().unwrap_or_default();
            key.split('.').map(|step| if step == "*" { named(section) } else { Some(step) }).collect()
        };
        self.keys.split_whitespace().filter_map(key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_a_clause_some_advice_and_one_name() {
        let names: Vec<&str> = Reason::all().map(|reason| reason.name).collect();
        assert_eq!(names.len(), TABLE.lines().count());
        for reason in Reason::all() {
            assert!(!reason.meaning.ends_with('.') && !reason.advice.ends_with('.') && !reason.advice.is_empty());
            assert_eq!(names.iter().filter(|name| **name == reason.name).count(), 1, "{}", reason.name);
        }
    }

    #[test]
    fn a_key_is_the_requests_own() {
        let keys =
            Reason::named("upstream_timeout").unwrap().keys(|section| (section == "upstreams").then_some("main"));
        assert_eq!(keys, [["upstreams", "main", "timeouts"]]);
    }
}
