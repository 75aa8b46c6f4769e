//! Path patterns → the path templates of OpenAPI, which has no word for "and everything below".

use crate::policy::route::Pattern;

/// A path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template {
    /// As in the document: `/contacts/{path}`.
    pub(super) text: String,
    /// Its parameters, from the left.
    pub(super) parameters: Vec<Parameter>,
    /// One of the paths it stands for, that no more specific template does.
    pub(super) sample: String,
}

/// A parameter of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    /// Its name.
    pub(super) name: String,
    /// Whether it stands for everything below, slashes included.
    pub(super) is_below: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    One(String),
    Below,
}

/// The templates of all patterns, each once whatever their placeholders are called: OpenAPI takes `/a/{x}` and `/a/{y}` for one.
pub(super) fn templates<'p>(patterns: impl Iterator<Item = &'p Pattern>) -> Vec<Template> {
    let mut found: Vec<Vec<Part>> = Vec::new();
    let mut below = Vec::new();
    for pattern in patterns.map(|pattern| parts(pattern.as_str())) {
        let itself = match pattern.split_last() {
            Some((Part::Below, above)) => {
                below.push(above.to_vec());
                above.to_vec()
            }
            _ => pattern,
        };
        if !found.iter().any(|other| is_same(other, &itself)) {
            found.push(itself);
        }
    }
    for mut above in below {
        // Where one segment below has a template of its own, everything below is what is below that.
        while let Some(deeper) = found.iter().find(|other| is_same(other, &with(&above, Part::One(String::new())))) {
            above.clone_from(deeper);
        }
        let all = with(&above, Part::Below);
        if !found.contains(&all) {
            found.push(all);
        }
    }
    let stranger = stranger(&found);
    let mut templates: Vec<Template> = found.iter().map(|parts| template(parts, &stranger)).collect();
    templates.sort_by(|a, b| a.text.cmp(&b.text));
    templates
}

fn parts(pattern: &str) -> Vec<Part> {
    let part = |segment: &str| match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(name) => Part::One(name.to_owned()),
        None if segment == "**" => Part::Below,
        None => Part::Literal(segment.to_owned()),
    };
    pattern.split('/').filter(|segment| !segment.is_empty()).map(part).collect()
}

fn with(parts: &[Part], last: Part) -> Vec<Part> {
    parts.iter().cloned().chain([last]).collect()
}

/// Whether two templates differ in nothing but the names of placeholders.
fn is_same(one: &[Part], other: &[Part]) -> bool {
    let is_pair = |pair: (&Part, &Part)| matches!(pair, (Part::One(_), Part::One(_))) || pair.0 == pair.1;
    one.len() == other.len() && one.iter().zip(other).all(is_pair)
}

/// A segment that no template has as a literal.
fn stranger(all: &[Vec<Part>]) -> String {
    let is_taken = |name: &String| all.iter().flatten().any(|part| matches!(part, Part::Literal(text) if text == name));
    (1..).map(|length| "x".repeat(length)).find(|name| !is_taken(name)).unwrap_or_default()
}

fn template(parts: &[Part], stranger: &str) -> Template {
    let mut template = Template { text: String::new(), parameters: Vec::new(), sample: String::new() };
    for part in parts {
        let (name, is_below) = match part {
            Part::Literal(literal) => {
                template.text.push_str(&format!("/{literal}"));
                template.sample.push_str(&format!("/{literal}"));
                continue;
            }
            Part::One(name) => (name.as_str(), false),
            Part::Below => ("path", true),
        };
        let numbered = (2..).map(|number| format!("{name}{number}"));
        let is_free = |name: &String| template.parameters.iter().all(|other| other.name != *name);
        let name = std::iter::once(name.to_owned()).chain(numbered).find(is_free).unwrap_or_default();
        template.text.push_str(&format!("/{{{name}}}"));
        template.sample.push_str(&format!("/{stranger}"));
        template.parameters.push(Parameter { name, is_below });
    }
    if parts.is_empty() {
        (template.text, template.sample) = ("/".to_owned(), "/".to_owned());
    }
    template
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(patterns: &[&str]) -> Vec<String> {
        let patterns: Vec<Pattern> = patterns.iter().map(|text| Pattern::parse(text).unwrap()).collect();
        templates(patterns.iter()).into_iter().map(|template| template.text).collect()
    }

    #[test]
    fn everything_below_is_the_path_itself_and_a_parameter() {
        assert_eq!(texts(&["/v1/contacts/**"]), ["/v1/contacts", "/v1/contacts/{path}"]);
        assert_eq!(texts(&["/**"]), ["/", "/{path}"]);
    }

    #[test]
    fn no_two_templates_differ_in_names_alone() {
        assert_eq!(texts(&["/a/{id}", "/a/{name}", "/a"]), ["/a", "/a/{id}"]);
        assert_eq!(texts(&["/a/{id}/b/{id}"]), ["/a/{id}/b/{id2}"]);
        assert_eq!(texts(&["/a/**", "/a/{id}"]), ["/a", "/a/{id}", "/a/{id}/{path}"]);
        assert_eq!(texts(&["/a/{path}/**", "/a/**"]), ["/a", "/a/{path}", "/a/{path}/{path2}"]);
    }

    #[test]
    fn a_sample_is_of_its_own_template() {
        let patterns = ["/x/{id}", "/x/xx"].map(|text| Pattern::parse(text).unwrap());
        let samples: Vec<String> = templates(patterns.iter()).into_iter().map(|template| template.sample).collect();
        assert_eq!(samples, ["/x/xx", "/x/xxx"]);
    }
}
