//! Who asks most, among any number of names, in a bounded number of counters: the space-saving algorithm of Metwally, Agrawal and
//! El Abbadi (Efficient Computation of Frequent and Top-k Elements in Data Streams, 2005).
//!
//! Who is not counted yet takes the counter of the least busy one over, and its count as the most that may be wrong. So a name with more
//! than a [`KEPT`]th of all requests is always found, and no count is too small.

/// Names that are counted at a time.
const KEPT: usize = 32;

/// The busiest names of one stretch of time.
#[derive(Debug, Default)]
pub(super) struct Sketch(Vec<Busy>);

/// A name and its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// Whose they are.
    pub name: String,
    /// At most so many.
    pub requests: u64,
    /// So many of them may have been others'.
    pub uncertain: u64,
    /// Of those that are certain, how many were refused.
    pub refused: u64,
}

impl Busy {
    /// At least so many requests.
    pub fn at_least(&self) -> u64 {
        self.requests.saturating_sub(self.uncertain)
    }
}

impl Sketch {
    /// Counts `weight` requests of `name`.
    pub(super) fn count(&mut self, name: &str, weight: u64, refused: bool) {
        let refused = if refused { weight } else { 0 };
        if let Some(known) = self.0.iter_mut().find(|busy| busy.name == name) {
            known.requests += weight;
            known.refused += refused;
            return;
        }
        if self.0.len() < KEPT {
            return self.0.push(Busy { name: name.to_owned(), requests: weight, uncertain: 0, refused });
        }
        if let Some(least) = self.0.iter_mut().min_by_key(|busy| busy.requests) {
            name.clone_into(&mut least.name);
            least.uncertain = least.requests;
            least.requests += weight;
            least.refused = refused;
        }
    }

    /// Both stretches together, the busiest first.
    pub(super) fn with(&self, other: Option<&Self>) -> Vec<Busy> {
        let mut all = self.0.clone();
        for more in other.iter().flat_map(|other| &other.0) {
            match all.iter_mut().find(|busy| busy.name == more.name) {
                Some(known) => {
                    known.requests += more.requests;
                    known.uncertain += more.uncertain;
                    known.refused += more.refused;
                }
                None => all.push(more.clone()),
            }
        }
        all.sort_by(|one, other| other.at_least().cmp(&one.at_least()).then_with(|| one.name.cmp(&other.name)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_flood_of_names_does_not_hide_the_busy_ones() {
        let mut sketch = Sketch::default();
        for n in 0..100_000_u32 {
            sketch.count(&format!("passer-by-{n}"), 1, false);
            if n % 10 == 0 {
                sketch.count("busy", 1, n % 20 == 0);
            }
        }
        let busiest = sketch.with(None);
        assert_eq!((busiest.len(), busiest[0].name.as_str()), (KEPT, "busy"));
        assert!(busiest[0].at_least() > 9_900 && busiest[0].requests >= 10_000, "{:?}", busiest[0]);
    }

    #[test]
    fn two_stretches_are_added_up() {
        let (mut one, mut other) = (Sketch::default(), Sketch::default());
        one.count("a", 3, true);
        other.count("a", 4, false);
        other.count("b", 9, false);
        let busy = |name: &str, requests, refused| Busy { name: name.into(), requests, uncertain: 0, refused };
        assert_eq!(one.with(Some(&other)), [busy("b", 9, 0), busy("a", 7, 3)]);
    }

    proptest! {
        #[test]
        fn no_count_is_too_small_and_none_is_wrong_by_more_than_it_says(names in proptest::collection::vec(0u8..90, 0..2000)) {
            let (mut sketch, mut truth) = (Sketch::default(), HashMap::<String, u64>::new());
            for name in &names {
                let name = (u16::from(*name) * u16::from(*name) / 90).to_string();
                sketch.count(&name, 1, false);
                *truth.entry(name).or_default() += 1;
            }
            for busy in sketch.with(None) {
                let true_count = truth.get(&busy.name).copied().unwrap_or_default();
                prop_assert!((busy.at_least()..=busy.requests).contains(&true_count), "{busy:?} {true_count}");
            }
        }
    }
}
