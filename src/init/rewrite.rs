//! Changes a YAML text so that it reads as another value, and leaves everything else as it is: comments, order, style.
//! Pure.
//!
//! `yamlpath` finds the places. What comes out can still read differently, for example if an alias repeats a changed
//! value: the caller compares the two.

use std::ops::Range;

use serde_json::Value;
use yamlpath::{Document, Feature, QueryError, Route};

use crate::{
    compose::layout::{entries, flow, item, lines},
    yaml,
};

/// One change at a place.
enum Change<'a> {
    Remove(Route<'a>),
    /// A new value in the place of an old one.
    Replace(Route<'a>, &'a Value, &'a Value),
    /// A new entry of a mapping.
    Insert(Route<'a>, &'a str, &'a Value),
    /// A new element of a list.
    Append(Route<'a>, &'a Value),
    /// More text at the end of a text.
    Extend(Route<'a>, &'a str),
}

/// The text of `old`, changed so that it reads as `new`; the error is one line.
pub fn rewrite(text: &str, old: &Value, new: &Value) -> Result<String, String> {
    let unix = text.replace("\r\n", "\n");
    let is_windows = unix != text && unix.replace('\n', "\r\n") == text;
    let mut text = if is_windows { unix } else { text.to_owned() };
    let mut changes = Vec::new();
    compare(&Route::default(), old, new, &mut changes);
    for change in changes {
        let document = Document::new(text).map_err(|error| error.to_string())?;
        let (range, with) = change.place(&document)?;
        text = document.source().to_owned();
        text.replace_range(range, &with);
    }
    Ok(match is_windows {
        true => text.replace('\n', "\r\n"),
        false => text,
    })
}

/// The changes that lead from one value to another, in the order in which they can be made.
fn compare<'a>(at: &Route<'a>, old: &'a Value, new: &'a Value, changes: &mut Vec<Change<'a>>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(old), Value::Object(new)) => {
            let gone = old.keys().filter(|key| !new.contains_key(*key));
            changes.extend(gone.map(|key| Change::Remove(at.with_key(key.as_str()))));
            for (key, value) in entries(new) {
                match old.get(key) {
                    Some(before) => compare(&at.with_key(key.as_str()), before, value, changes),
                    None => changes.push(Change::Insert(at.clone(), key, value)),
                }
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(&at.with_key(index), old, new, changes);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            let gone = (0..old.len())
                .rev()
                .filter(|index| !new.contains(&old[*index]));
            changes.extend(gone.map(|index| Change::Remove(at.with_key(index))));
            let added = new.iter().filter(|item| !old.contains(item));
            changes.extend(added.map(|item| Change::Append(at.clone(), item)));
        }
        (Value::String(old), Value::String(new))
            if !old.trim().is_empty() && new.starts_with(old.trim_end()) =>
        {
            let more = new[old.trim_end().len()..].trim_end();
            changes.push(Change::Extend(at.clone(), more));
        }
        _ => changes.push(Change::Replace(at.clone(), old, new)),
    }
}

impl Change<'_> {
    /// What it replaces in the text, and with what.
    fn place(&self, document: &Document) -> Result<(Range<usize>, String), String> {
        let services = Place::of(document, &yamlpath::route!("services"));
        let step = services.map_or(2, |own| own.column);
        let step = if (1..=8).contains(&step) { step } else { 2 };
        match self {
            Self::Remove(at) => remove(document, at),
            Self::Insert(at, key, value) => {
                let map = Place::of(document, at)?;
                let pair = format!("{key}: {}", flow(value));
                let below = || map.below(&lines(key, value, step), map.source().contains("\n\n"));
                Ok(map.before_bracket(&pair).unwrap_or_else(below))
            }
            Self::Append(at, value) => {
                let list = Place::of(document, at)?;
                let written = match list.source().contains('"') {
                    true => yaml::json(value),
                    false => flow(value),
                };
                let below = || list.below(&[item(value)], false);
                Ok(list.before_bracket(&written).unwrap_or_else(below))
            }
            Self::Extend(at, more) => {
                let text = Place::of(document, at)?;
                let end = text.range.end - usize::from(text.source().ends_with(['"', '\'']));
                Ok((end..end, (*more).to_owned()))
            }
            Self::Replace(at, old, new) => replace(document, at, (old, new), step),
        }
    }
}

/// In block style, whole lines are removed, and their comments stay.
fn remove(document: &Document, at: &Route<'_>) -> Result<(Range<usize>, String), String> {
    let holder = Place::of(document, &at.parent().unwrap_or_default())?;
    if holder.source().starts_with(['[', '{']) {
        return Ok((document.removal_span(at).map_err(said)?, String::new()));
    }
    let own = Place::new(document, &document.query_pretty(at).map_err(said)?);
    // The library's own span of lines panics if the last character is not ASCII.
    let (before, after) = (&own.text[..own.range.start], &own.text[own.range.end..]);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let end = after
        .find('\n')
        .map_or(own.text.len(), |at| own.range.end + at + 1);
    let lines = own.text[start..end].split_inclusive('\n');
    let comments = lines.filter(|line| line.trim_start().starts_with('#'));
    Ok((start..end, comments.collect()))
}

fn replace(
    document: &Document,
    at: &Route<'_>,
    (before, value): (&Value, &Value),
    step: usize,
) -> Result<(Range<usize>, String), String> {
    let pair = Place::new(document, &document.query_pretty(at).map_err(said)?);
    let key = pair.source().split(':').next().unwrap_or_default();
    let written = lines(key, value, step);
    let Some(old) = document.query_exact(at).map_err(said)? else {
        // A comment behind the key stays on its line.
        let rest = &document.source()[pair.range.end..];
        let line = pair.range.end + rest.find('\n').unwrap_or(rest.len());
        return Ok(match written.len() {
            1 => (pair.range.end..pair.range.end, format!(" {}", flow(value))),
            _ => (line..line, pair.below(&written[1..], false).1),
        });
    };
    let old = Place::new(document, &old);
    let is_nested = before.is_array() || before.is_object();
    if document.source()[pair.range.clone()].contains(" #") {
        return Err(format!("{key} has comments"));
    }
    Ok(match is_nested && !old.source().starts_with(['[', '{']) {
        true => (
            pair.range.clone(),
            pair.below(&written, false).1.trim_start().to_owned(),
        ),
        false => (old.range, flow(value)),
    })
}

/// A value in a text.
struct Place<'a> {
    text: &'a str,
    range: Range<usize>,
    /// Where it begins in its line.
    column: usize,
}

impl<'a> Place<'a> {
    /// The value behind a key.
    fn of(document: &'a Document, at: &Route<'_>) -> Result<Self, String> {
        let found = match at.is_empty() {
            true => document.top_feature().map(Some),
            false => document.query_exact(at),
        };
        let found = found.map_err(said)?;
        Ok(Self::new(
            document,
            &found.ok_or("an empty value cannot be added to")?,
        ))
    }

    /// Comments less deep than a value stand behind it, although the library counts them in.
    fn new(document: &'a Document, found: &Feature<'_>) -> Self {
        let text = document.source();
        let (start, mut end) = found.location.byte_span;
        let column = found.location.point_span.0.1;
        loop {
            end = start + text[start..end].trim_end().len();
            let line = text[start..end]
                .rfind('\n')
                .map_or(start, |at| start + at + 1);
            let last = &text[line..end];
            let depth = last.len() - last.trim_start().len();
            if line == start || !last.trim_start().starts_with('#') || depth >= column {
                break;
            }
            end = line;
        }
        Self {
            text,
            range: start..end,
            column,
        }
    }

    fn source(&self) -> &'a str {
        &self.text[self.range.clone()]
    }

    /// One more entry before the bracket at the end; `None` in block style.
    fn before_bracket(&self, entry: &str) -> Option<(Range<usize>, String)> {
        let source = self.source();
        if !source.starts_with(['[', '{']) {
            return None;
        }
        let body = source[..source.len() - 1].trim_end();
        let entries = body.trim_end_matches(',');
        let (comma, space) = match entries {
            "[" => ("", ""),
            "{" => (" ", " "),
            own if own.ends_with(':') => (" , ", ""),
            _ => (", ", &source[body.len()..source.len() - 1]),
        };
        let range = self.range.start + entries.len()..self.range.end - 1;
        Some((range, format!("{comma}{entry}{space}")))
    }

    /// More lines below the last, as deep as the first.
    fn below(&self, lines: &[String], is_apart: bool) -> (Range<usize>, String) {
        let indent = " ".repeat(self.column);
        let lines = lines.iter().map(|line| format!("\n{indent}{line}"));
        let blank = if is_apart { "\n" } else { "" };
        let end = self.range.end;
        (end..end, format!("{blank}{}", lines.collect::<String>()))
    }
}

fn said(error: QueryError) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn becomes(before: &str, value: &str, after: &str) {
        let old = yaml::parse(before).unwrap();
        let new = yaml::parse(value).unwrap();
        assert_eq!(rewrite(before, &old, &new).unwrap(), after);
        assert_eq!(yaml::parse(after), Ok(new));
    }

    #[test]
    fn comments_as_deep_as_a_block_belong_to_it() {
        becomes(
            "a:\n  b: 1\n  # of a\n# of c\nc: 2\n",
            "{a: {b: 1, z: 0}, c: 2}",
            "a:\n  b: 1\n  # of a\n  z: 0\n# of c\nc: 2\n",
        );
    }

    #[test]
    fn an_element_is_removed_with_its_dash_or_its_comma() {
        for (value, after) in [
            ("[y, z]", "[y, z]"),
            ("[x, z]", "[x, z]"),
            ("[x, y]", "[x, y]"),
        ] {
            becomes(
                "a: [x, y, z]\n",
                &format!("a: {value}"),
                &format!("a: {after}\n"),
            );
        }
        becomes(
            "a:\n  - x\n  - yä\n  - z\n",
            "a: [x, z]",
            "a:\n  - x\n  - z\n",
        );
        becomes(
            "a:\n- x # one\n# two\n-   y\n- k: 1\n  l: 2\n",
            "a: [y]",
            "a:\n# two\n-   y\n",
        );
    }

    #[test]
    fn a_value_that_is_removed_leaves_its_comments() {
        becomes(
            "a:\n  b: 1\n  # why\n  c:\n    # what\n    - d # one\n",
            "a: {b: 1}",
            "a:\n  b: 1\n  # why\n    # what\n",
        );
    }

    #[test]
    fn entries_are_added_between_brackets() {
        for (before, after) in [
            ("{}", "{ k: [\"a:b\"] }"),
            ("{ x: 1 }", "{ x: 1, k: [\"a:b\"] }"),
            ("{x: 1,}", "{x: 1, k: [\"a:b\"]}"),
        ] {
            let x = if before.contains('x') { "x: 1, " } else { "" };
            becomes(
                &format!("a: {before} # c\n"),
                &format!("a: {{{x}k: ['a:b']}}"),
                &format!("a: {after} # c\n"),
            );
        }
        becomes("a: ['x' ]", "a: [x, y]", "a: ['x', y ]");
        becomes("a: [\"x\"]", "a: [x, y]", "a: [\"x\", \"y\"]");
        becomes("a: []", "a: [x]", "a: [x]");
    }

    #[test]
    fn a_text_is_extended_in_its_own_style() {
        for (before, after) in [
            ("a: x y # c\n", "a: x y z # c\n"),
            ("a: 'x y'\n", "a: 'x y z'\n"),
            ("a: >-\n  x\n  y\nb: 1\n", "a: >-\n  x\n  y z\nb: 1\n"),
        ] {
            let b = if before.contains("b:") { ", b: 1" } else { "" };
            becomes(before, &format!("{{a: x y z{b}}}"), after);
        }
    }

    #[test]
    fn a_value_is_replaced_where_no_comment_is_lost() {
        becomes("a: 'x' # c\n", "a: y", "a: y # c\n");
        becomes(
            "a: # c\nb: 1\n",
            "{a: {k: v}, b: 1}",
            "a: # c\n  k: v\nb: 1\n",
        );
        becomes("a: # c\n", "a: [v]", "a: [v] # c\n");
        becomes(
            "a:\n- x\n- y\nb: 1\n",
            "{a: {x: {k: 1}}, b: 1}",
            "a:\n  x:\n    k: 1\nb: 1\n",
        );
        becomes("a: [x]\n", "a: {x: {k: 1}}", "a: { x: { k: 1 } }\n");
        let (old, new) = (yaml::parse("a: [x]"), yaml::parse("a: {x: 1}"));
        let said = rewrite("a:\n  - x # c\n", &old.unwrap(), &new.unwrap());
        assert_eq!(said, Err("a has comments".to_owned()));
    }
}
