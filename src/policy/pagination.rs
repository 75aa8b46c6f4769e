//! The list contract: `page`, `per_page`, `sort_by` and `sort_order` of a route with `pagination:`.
//!
//! Parameter names are compared as PHP reads them, because a name that Laravel would take for ours and we would not is a way around
//! the contract.

use crate::policy::query;
use crate::policy::refusal::{FieldErrors, Refusal};

/// The list contract of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pagination {
    /// What `sort_by` may name; not empty.
    sort_by: Vec<String>,
    /// What `sort_by` is when it is left out: `created_at`, or the first of the list where that is not in it.
    default_sort: String,
}

/// The parameters of the contract.
const FIELDS: [&str; 4] = ["page", "per_page", "sort_by", "sort_order"];
/// The greatest page: nine digits, which any database takes.
pub const MAX_PAGE: u64 = 999_999_999;
/// The most entries on a page.
pub const MAX_PER_PAGE: u64 = 100;
/// How many there are if it is not said.
pub const DEFAULT_PER_PAGE: u64 = 25;
const DEFAULT_SORT: &str = "created_at";

impl Pagination {
    /// The contract with these sort keys; `None` without any, or with one that would need escaping in a query.
    pub fn new(sort_by: Vec<String>) -> Option<Self> {
        let is_plain = |key: &String| {
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if !sort_by.iter().all(is_plain) {
            return None;
        }
        let default_sort = sort_by.iter().find(|key| *key == DEFAULT_SORT).or(sort_by.first())?.clone();
        Some(Self { sort_by, default_sort })
    }

    /// What `sort_by` may name.
    pub fn sort_by(&self) -> &[String] {
        &self.sort_by
    }

    /// What `sort_by` is when it is left out.
    pub fn default_sort(&self) -> &str {
        &self.default_sort
    }

    /// Checks a query string and fills in what was left out: the query to forward, or what is wrong with each field.
    ///
    /// Parameters that are none of ours pass as they were sent.
    pub fn apply(&self, query: Option<&str>) -> Result<String, Refusal> {
        let query = query.unwrap_or_default();
        let mut errors = FieldErrors::new();
        let mut given = [0usize; FIELDS.len()];
        for parameter in query::parameters(query) {
            let Some(at) = FIELDS.iter().position(|field| *field == parameter.name) else { continue };
            let (Some(field), Some(count)) = (FIELDS.get(at), given.get_mut(at)) else { continue };
            *count += 1;
            let problem = match *count {
                1 => self.problem(field, (parameter.sent == *field).then_some(&*parameter.value)),
                _ => Some(format!("The {} field must be given once.", spoken(field))),
            };
            if let Some(problem) = problem {
                errors.insert((*field).to_owned(), vec![problem]);
            }
        }
        if !errors.is_empty() {
            return Err(Refusal::Invalid(errors));
        }
        Ok(self.filled(query, given))
    }

    /// What is wrong with a field, in Laravel's words; `None` as value means that its name was not spelled as it should.
    fn problem(&self, field: &str, value: Option<&str>) -> Option<String> {
        let spoken = spoken(field);
        match field {
            "page" | "per_page" => match value.and_then(whole_number) {
                None => Some(format!("The {spoken} field must be an integer.")),
                Some(0) => Some(format!("The {spoken} field must be at least 1.")),
                Some(n) if field == "per_page" && n > MAX_PER_PAGE => {
                    Some(format!("The {spoken} field must not be greater than {MAX_PER_PAGE}."))
                }
                Some(_) => None,
            },
            "sort_by" => {
                let is_listed = value.is_some_and(|value| self.sort_by.iter().any(|key| key == value));
                (!is_listed).then(|| format!("The selected {spoken} is invalid."))
            }
            _ => {
                let is_order = matches!(value, Some("asc" | "desc"));
                (!is_order).then(|| format!("The selected {spoken} is invalid."))
            }
        }
    }

    fn filled(&self, query: &str, given: [usize; FIELDS.len()]) -> String {
        let per_page = DEFAULT_PER_PAGE.to_string();
        let defaults = ["1", &per_page, &self.default_sort, "desc"];
        let mut filled = query.to_owned();
        for ((field, default), given) in FIELDS.iter().zip(defaults).zip(given) {
            if given == 0 {
                if !filled.is_empty() {
                    filled.push('&');
                }
                filled.push_str(field);
                filled.push('=');
                filled.push_str(default);
            }
        }
        filled
    }
}

/// `per_page` → `per page`, as Laravel's messages name a field.
fn spoken(field: &str) -> String {
    field.replace('_', " ")
}

/// Decimal digits without sign, space or leading zero, small enough for any database.
fn whole_number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_canonical = text == "0" || !text.starts_with('0');
    let number = (is_number && is_canonical).then(|| text.parse().ok())?;
    number.filter(|number| *number <= MAX_PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contract() -> Pagination {
        Pagination::new(["created_at", "name"].map(str::to_owned).to_vec()).unwrap()
    }

    fn forwarded(query: &str) -> String {
        contract().apply(Some(query)).unwrap()
    }

    fn complaint(query: &str) -> Vec<(String, String)> {
        match contract().apply(Some(query)) {
            Err(Refusal::Invalid(fields)) => fields.into_iter().map(|(f, m)| (f, m.join(" "))).collect(),
            other => panic!("{query}: {other:?}"),
        }
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        assert_eq!(contract().apply(None).unwrap(), "page=1&per_page=25&sort_by=created_at&sort_order=desc");
        assert_eq!(
            forwarded("per_page=100&x=1&sort_order=asc"),
            "per_page=100&x=1&sort_order=asc&page=1&sort_by=created_at"
        );
        assert_eq!(
            forwarded("page=2&per_page=1&sort_by=name&sort_order=asc"),
            "page=2&per_page=1&sort_by=name&sort_order=asc"
        );
    }

    #[test]
    fn the_default_sort_is_the_first_of_a_list_without_created_at() {
        let contract = Pagination::new(vec!["name".into(), "id".into()]).unwrap();
        assert_eq!(contract.apply(None).unwrap(), "page=1&per_page=25&sort_by=name&sort_order=desc");
        assert_eq!(Pagination::new(vec![]), None);
        assert_eq!(Pagination::new(vec!["a&b".into()]), None);
    }

    #[test]
    fn other_parameters_pass_as_they_were_sent() {
        assert_eq!(
            forwarded("q=a%20b+c&tags[]=x&pages=0&&Page=0").split("&page=").next(),
            Some("q=a%20b+c&tags[]=x&pages=0&&Page=0")
        );
    }

    #[test]
    fn each_field_out_of_contract_is_named_in_laravels_words() {
        let one = |field: &str, message: &str| vec![(field.to_owned(), message.to_owned())];
        for value in ["", "x", "-1", "1.5", "01", "+1", "1 ", "0x1", "1e2", "9999999999"] {
            assert_eq!(
                complaint(&format!("page={value}")),
                one("page", "The page field must be an integer."),
                "{value}"
            );
        }
        assert_eq!(complaint("page=0"), one("page", "The page field must be at least 1."));
        assert_eq!(complaint("per_page=0"), one("per_page", "The per page field must be at least 1."));
        assert_eq!(complaint("per_page=101"), one("per_page", "The per page field must not be greater than 100."));
        assert_eq!(complaint("sort_by=password"), one("sort_by", "The selected sort by is invalid."));
        assert_eq!(complaint("sort_order=ASC"), one("sort_order", "The selected sort order is invalid."));
        assert_eq!(complaint("page=0&per_page=0").len(), 2);
    }

    #[test]
    fn a_repeated_parameter_is_refused_even_when_both_are_fine() {
        assert_eq!(complaint("page=1&page=1"), vec![("page".into(), "The page field must be given once.".into())]);
    }

    #[test]
    fn names_that_php_would_read_as_ours_are_refused() {
        for query in [
            "per.page=5",
            "per+page=5",
            "per%20page=5",
            "per_page[]=5",
            "per_page[a]=5",
            "per%5Fpage%5B%5D=5",
            "%20per_page=5",
            "per[page=5",
            "per_page%00x=5",
        ] {
            assert_eq!(
                complaint(query),
                vec![("per_page".into(), "The per page field must be an integer.".into())],
                "{query}"
            );
        }
        assert_eq!(complaint("per_page=5&per.page=500").len(), 1);
    }

    #[test]
    fn an_escaped_spelling_of_a_good_value_passes_as_sent() {
        assert_eq!(forwarded("%70age=%32"), "%70age=%32&per_page=25&sort_by=created_at&sort_order=desc");
    }

    proptest! {
        #[test]
        fn what_is_forwarded_passes_again_unchanged(query in "([a-z_.%\\[\\]0-9=&+]|page=|per_page=){0,12}") {
            if let Ok(once) = contract().apply(Some(&query)) {
                prop_assert_eq!(contract().apply(Some(&once)).unwrap(), once);
            }
        }
    }
}
