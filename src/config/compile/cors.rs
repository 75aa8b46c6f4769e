//! `cors:`

use http::{HeaderName, HeaderValue, Method};

use crate::config::compile::Compiler;
use crate::config::document::CorsDocument;
use crate::policy::cors::{Cors, Origins, is_origin};
use crate::policy::route::Methods;

impl Compiler<'_> {
    pub(super) fn cors(&mut self, document: &CorsDocument) -> Cors {
        let origins = self.origins(document);
        for (at, method) in document.methods.iter().enumerate() {
            let known = Method::from_bytes(method.as_bytes()).is_ok_and(|method| Methods::ALL.contains(&method));
            if !known {
                self.unknown_method(&["cors", "methods", &at.to_string()], method);
            }
        }
        for (key, names) in [("headers", &document.headers), ("expose", &document.expose)] {
            for (at, name) in names.iter().enumerate() {
                if HeaderName::from_bytes(name.as_bytes()).is_err() || name == "*" {
                    self.error(&["cors", key, &at.to_string()], format!("`{name}` is not the name of a field")).hint =
                        Some("name each one, such as Content-Type".into());
                }
            }
        }
        Cors {
            origins,
            methods: list(&document.methods),
            headers: list(&document.headers),
            expose: list(&document.expose),
            credentials: document.credentials,
            max_age: HeaderValue::from(document.max_age.0.as_secs()),
        }
    }

    fn origins(&mut self, document: &CorsDocument) -> Origins {
        let any = document.origins.iter().position(|origin| origin == "*");
        let is_any = any.is_some();
        if document.origins.is_empty() && !self.is_struck(&["cors", "origins"]) {
            self.error(&["cors", "origins"], "`origins` is empty: no page could call").hint =
                Some("name them, or take `cors:` out".into());
        }
        if let Some(at) = any
            && document.origins.len() > 1
        {
            self.error(&["cors", "origins", &at.to_string()], "`*` is everybody, so the other origins say nothing")
                .hint = Some("keep `*` or the list".into());
        }
        if is_any && document.credentials {
            self.error(&["cors", "credentials"], "with `*` any page could act for its visitors").hint =
                Some("name the origins".into());
        }
        if is_any {
            return Origins::Any;
        }
        for (at, origin) in document.origins.iter().enumerate() {
            if !is_origin(origin) {
                self.error(&["cors", "origins", &at.to_string()], format!("`{origin}` is not an origin")).hint = Some(
                    "as a browser sends it, without patterns: https://app.example.com or http://localhost:3000".into(),
                );
            }
        }
        Origins::These(document.origins.iter().filter_map(|origin| HeaderValue::try_from(origin).ok()).collect())
    }
}

fn list(names: &[String]) -> HeaderValue {
    // Names that cannot stand in a field are problems of their own.
    HeaderValue::try_from(names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""))
}
