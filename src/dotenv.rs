//! The text of an environment file as Compose reads it (compose-go's `dotenv`): where a variable gets its value, and how a
//! value is written. Pure.

use std::ops::Range;

/// The place of an assignment in a text.
struct Place {
    /// From its name, or from the `export` before it, to the end of its value.
    whole: Range<usize>,
    /// With its quotes.
    value: Range<usize>,
}

/// What the last assignment gives a variable, with its quotes; `None` where it has none.
pub fn assigned<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    Some(&text[last(text, name)?.value])
}

/// The number of the line of that assignment, from 1 on.
pub fn line(text: &str, name: &str) -> Option<usize> {
    let start = last(text, name)?.whole.start;
    Some(text[..start].matches('\n').count() + 1)
}

/// The text with another value, as [`quoted`] gives it, in the last assignment, else in a new line at the end. Without a
/// value, that assignment is taken out.
pub fn assign(text: &str, name: &str, value: Option<&str>) -> String {
    match (last(text, name), value) {
        (Some(place), Some(value)) => replaced(text, place.value, value),
        (Some(place), None) => replaced(text, with_its_line(text, place.whole), ""),
        (None, Some(value)) => appended(text, &format!("{name}={value}")),
        (None, None) => text.to_owned(),
    }
}

/// A value as it is written: bare where every version of Compose reads it so, else in quotes.
pub fn quoted(value: &str) -> String {
    let is_plain = |own: char| own.is_ascii_alphanumeric() || "_-./:@%+,=".contains(own);
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.to_owned();
    }
    if !value.contains(['\'', '\\', '\n', '\r']) {
        return format!("'{value}'");
    }
    let mut text = String::new();
    for own in value.chars() {
        match own {
            '\n' => text += "\\n",
            '\r' => text += "\\r",
            '"' | '\\' | '$' => text.extend(['\\', own]),
            _ => text.push(own),
        }
    }
    format!("\"{text}\"")
}

/// The assignment that counts.
fn last(text: &str, name: &str) -> Option<Place> {
    let mut found = None;
    let mut at = text.len() - text.trim_start_matches('\u{feff}').len();
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        let rest = &text[at..];
        let line = rest.find('\n').unwrap_or(rest.len());
        let key = rest.find(['=', ':']).filter(|key| *key < line);
        match key {
            _ if rest.is_empty() => return found,
            Some(key) if !rest.starts_with('#') => {
                let start = at + key + 1;
                let start = text.len() - trimmed(&text[start..]).len();
                let value = start..start + length(&text[start..]);
                let whole = at..value.end;
                at = value.end;
                if is_key(&rest[..key], name) {
                    found = Some(Place { whole, value });
                }
            }
            // A comment, or a name alone, which takes the value of the environment.
            _ => at += line,
        }
    }
}

/// A text without the blanks at its beginning, on the same line.
fn trimmed(text: &str) -> &str {
    text.trim_start_matches(|own: char| own.is_whitespace() && own != '\n')
}

fn is_key(text: &str, name: &str) -> bool {
    let bare = text.strip_prefix("export");
    let bare = bare.filter(|rest| rest.starts_with(char::is_whitespace));
    bare.unwrap_or(text).trim() == name
}

/// The length of the value at the beginning of a text.
fn length(text: &str) -> usize {
    let quote = text.chars().next().filter(|own| matches!(own, '"' | '\''));
    let Some(quote) = quote else {
        let line = text.split('\n').next().unwrap_or_default();
        let value = line.split(" #").next().unwrap_or_default();
        return value.trim_end().len();
    };
    let mut is_escaped = false;
    for (at, own) in text.char_indices().skip(1) {
        if own == quote && !is_escaped {
            return at + 1;
        }
        is_escaped = own == '\\' && !is_escaped;
    }
    text.len()
}

fn replaced(text: &str, place: Range<usize>, by: &str) -> String {
    format!("{}{by}{}", &text[..place.start], &text[place.end..])
}

/// The same line end as in the rest of the text. A last line without an end stays one.
fn appended(text: &str, line: &str) -> String {
    let end = match text.contains("\r\n") {
        true => "\r\n",
        false => "\n",
    };
    match text.is_empty() || text.ends_with('\n') {
        true => format!("{text}{line}{end}"),
        false => format!("{text}{end}{line}"),
    }
}

/// The line of an assignment with its end, or the assignment alone if there is more on the line.
fn with_its_line(text: &str, own: Range<usize>) -> Range<usize> {
    let start = text[..own.start].rfind('\n').map_or(0, |at| at + 1);
    let end = text[own.end..].find('\n').map(|at| own.end + at + 1);
    let rest = &text[own.end..end.unwrap_or(text.len())];
    let is_alone = text[start..own.start].trim().is_empty() && rest.trim().is_empty();
    match end {
        _ if !is_alone => own,
        Some(end) => start..end,
        // It has no end, so that of the line before goes.
        None => {
            let before = &text[..start];
            let before = before.strip_suffix('\n').unwrap_or(before);
            before.strip_suffix('\r').unwrap_or(before).len()..text.len()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::arbitrary::mutated_text;

    #[test]
    fn the_last_assignment_counts_in_every_form_that_compose_reads() {
        for (text, value) in [
            ("", None),
            ("# V=1\nVERSION=1\nV\nexport V\n", None),
            ("V=1", Some("1")),
            ("V=1\nW=2\nV=3\n", Some("3")),
            ("export V=1\r\n", Some("1")),
            ("\u{feff}V: 1", Some("1")),
            ("  V =\t1 2  # now\n", Some("1 2")),
            ("V=a#b\n", Some("a#b")),
            ("V=\nW=1\n", Some("")),
            ("V=\"a\\\"b\" # V=2\n", Some("\"a\\\"b\"")),
            ("W='x\nV=2\n'\n", None),
            ("W='x\nV=2\n' V=3\n", Some("3")),
            ("W=\"\\\\\"\nV='\n# 1'", Some("'\n# 1'")),
        ] {
            assert_eq!(assigned(text, "V"), value, "{text:?}");
        }
        assert_eq!(line("W='\n\n'\nV=1\n", "V"), Some(4));
        assert_eq!(line("W=1", "V"), None);
    }

    #[test]
    fn an_assignment_is_changed_in_place_or_comes_at_the_end_with_the_line_end_of_the_file() {
        for (text, after) in [
            ("", "V=2\n"),
            ("W=1\n", "W=1\nV=2\n"),
            ("W=1", "W=1\nV=2"),
            ("W=1\r\n", "W=1\r\nV=2\r\n"),
            ("W=1\r\n# end", "W=1\r\n# end\r\nV=2"),
            (
                "V=0\n\nexport V = \"1\"  # now\r\nW='1'\n",
                "V=0\n\nexport V = 2  # now\r\nW='1'\n",
            ),
            ("V=\nW=1", "V=2\nW=1"),
        ] {
            assert_eq!(assign(text, "V", Some("2")), after, "{text:?}");
            let before = assigned(text, "V");
            assert_eq!(assign(after, "V", before), text, "{after:?}");
        }
    }

    #[test]
    fn what_stands_beside_an_assignment_stays_when_it_is_taken_out() {
        assert_eq!(assign("W='1' V=2\n", "V", None), "W='1' \n");
        assert_eq!(assign("V=2 # now\n", "V", None), " # now\n");
        assert_eq!(assign("W=1\n", "V", None), "W=1\n");
    }

    #[test]
    fn a_value_is_bare_where_it_can_be_and_quoted_else() {
        for (value, text) in [
            ("v1.11", "v1.11"),
            ("reg:5000/app@sha256:1f", "reg:5000/app@sha256:1f"),
            ("", "''"),
            ("a b", "'a b'"),
            ("a#b $c \"d\"", "'a#b $c \"d\"'"),
            ("it's $5", "\"it's \\$5\""),
            ("a\nb", "\"a\\nb\""),
            ("\\", "\"\\\\\""),
        ] {
            assert_eq!(quoted(value), text);
        }
    }

    const LINES: &[&str] = &[
        "",
        "# V=9",
        "V=1",
        "export V='a b'",
        "W=1 # x",
        "W=\"\nV=2\"",
        "V : \"q\" # y",
        "V",
    ];

    /// Lines in every form, with either line end.
    fn files() -> impl Strategy<Value = String> {
        let line = (select(LINES), select(&["\n", "\r\n"][..]));
        (vec(line, 0..6), any::<bool>()).prop_map(|(lines, ends)| {
            let text: String = lines.iter().flat_map(|(line, end)| [*line, *end]).collect();
            match ends {
                true => text,
                false => text.trim_end().to_owned(),
            }
        })
    }

    proptest! {
        #[test]
        fn every_value_is_read_back_and_the_way_back_gives_the_same_bytes(text in files(), value in "\\PC{0,12}") {
            let (before, written) = (assigned(&text, "V"), quoted(&value));
            let after = assign(&text, "V", Some(&written));
            prop_assert_eq!(assigned(&after, "V"), Some(written.as_str()));
            prop_assert_eq!(assigned(&after, "W"), assigned(&text, "W"));
            prop_assert_eq!(assign(&after, "V", before), text);
        }

        #[test]
        fn in_any_text_only_the_value_changes(text in mutated_text("# x\r\nexport V='1' # y\nW=\"a\nb\"\n")) {
            let after = assign(&text, "V", Some("2"));
            let value = assigned(&text, "V").map_or(0, str::len);
            let kept = text.len() - value;
            prop_assert!(after.len() > kept);
            let same = |(a, b): &(char, char)| a == b;
            let begin: usize = text.chars().zip(after.chars()).take_while(same).map(|(own, _)| own.len_utf8()).sum();
            let end: usize = text.chars().rev().zip(after.chars().rev()).take_while(same).map(|(own, _)| own.len_utf8()).sum();
            prop_assert!(begin + end >= kept, "{:?} {:?}", text, after);
        }
    }
}
