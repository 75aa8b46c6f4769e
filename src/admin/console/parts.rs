//! What sections are made of: tables that become cards on a phone, badges with a shape beside their colour, bars.
//!
//! Cards are rows that a style lays out as blocks, and browsers then forget that they are a table; the roles say it again.

use maud::{Markup, Render, html};

/// A column of a table.
pub(super) struct Column {
    name: &'static str,
    class: &'static str,
}

/// A column of text.
pub(super) const fn text(name: &'static str) -> Column {
    Column { name, class: "" }
}

/// A column of numbers, which stand under each other.
pub(super) const fn number(name: &'static str) -> Column {
    Column { name, class: "number" }
}

/// The same where there are many of them: narrower on a phone.
pub(super) const fn dense(name: &'static str) -> Column {
    Column { name, class: "number dense" }
}

/// A column of lists, which take a line of their own on a phone.
pub(super) const fn wide(name: &'static str) -> Column {
    Column { name, class: "wide" }
}

/// A table. The first cell of a row is its head.
pub(super) fn table(caption: &str, columns: &[Column], rows: &[Vec<Markup>]) -> Markup {
    html! {
        table role="table" {
            caption { (caption) }
            thead role="rowgroup" {
                tr role="row" {
                    @for Column { name, class } in columns {
                        th role="columnheader" scope="col" class=[class_of(class)] { (name) }
                    }
                }
            }
            tbody role="rowgroup" {
                @for row in rows {
                    tr role="row" {
                        @for (at, (cell, Column { name, class })) in row.iter().zip(columns).enumerate() {
                            @if at == 0 {
                                th role="rowheader" scope="row" { (cell) }
                            } @else {
                                td role="cell" data-label=(name) class=[class_of(class)] { div { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn class_of(class: &'static str) -> Option<&'static str> {
    (!class.is_empty()).then_some(class)
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// As it should be.
    Good,
    /// Not quite.
    Warning,
    /// It needs somebody.
    Bad,
}

impl Mood {
    fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// Each mood has a shape of its own, for who does not see colours.
impl Render for Mood {
    fn render(&self) -> Markup {
        html! {
            svg.shape viewBox="0 0 16 16" width="14" height="14" aria-hidden="true" focusable="false" {
                @match self {
                    Self::Good => {
                        circle cx="8" cy="8" r="7" {}
                        path.cut d="M4.8 8.3l2.2 2.2 4.2-4.6" {}
                    }
                    Self::Warning => {
                        path d="M8 1.2 15.4 14.4H.6z" {}
                        path.cut d="M8 6v3.8M8 11.6v.9" {}
                    }
                    Self::Bad => {
                        rect x="1" y="1" width="14" height="14" rx="3" {}
                        path.cut d="M5.2 5.2l5.6 5.6M10.8 5.2l-5.6 5.6" {}
                    }
                }
            }
        }
    }
}

/// A word with its mood.
pub(super) fn badge(mood: Mood, word: impl Render) -> Markup {
    html! { span class={ "badge " (mood.class()) } { (mood) span { (word) } } }
}

/// A word without one.
pub(super) fn chip(word: impl Render) -> Markup {
    html! { span.chip { (word) } }
}

/// What is not there.
pub(super) fn nothing() -> Markup {
    html! { span.muted { "–" } }
}

/// A number that is quiet while it is 0.
pub(super) fn quiet(count: u64) -> Markup {
    html! { @if count == 0 { span.muted { "0" } } @else { (super::words::count(count)) } }
}

/// A number of something bad: quiet while it is 0.
pub(super) fn alarming(count: u64) -> Markup {
    html! { @if count == 0 { span.muted { "0" } } @else { strong.bad { (super::words::count(count)) } } }
}

/// How much of `whole` is `part`, as a bar beside the number that says it.
pub(super) fn bar(part: u64, whole: u64) -> Markup {
    #[expect(clippy::cast_precision_loss, reason = "a bar is no more exact than that")]
    let width = if whole == 0 { 0.0 } else { (part as f64 * 100.0 / whole as f64).clamp(0.0, 100.0) };
    html! {
        svg.bar viewBox="0 0 100 6" width="100" height="6" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            rect.track width="100" height="6" {}
            rect.part width=(format!("{width:.1}")) height="6" {}
        }
    }
}

/// A section with its heading, to which the navigation leads.
pub(super) fn section(id: &str, heading: &str, content: &Markup) -> Markup {
    let heading_id = format!("{id}-heading");
    html! {
        section id=(id) aria-labelledby=(heading_id) {
            h2 id=(heading_id) { (heading) }
            (content)
        }
    }
}

/// Names and values.
pub(super) fn facts(facts: &[(&str, Markup)]) -> Markup {
    html! {
        dl.facts {
            @for (name, value) in facts {
                div { dt { (name) } dd { (value) } }
            }
        }
    }
}
