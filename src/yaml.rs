//! YAML in and out, as JSON values: the one module that uses `serde_yaml`.

use std::cell::Cell;

use saphyr_parser::{Event, Parser};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde_json::Value;

/// How deep values may stand in one another; the library takes no more.
pub const MAX_DEPTH: usize = 128;
/// The most values that a document may have with every alias written out; the library bounds the aliases alone, and
/// each of them may stand for much.
const MOST_VALUES: usize = 1_000_000;
/// The most bytes of text that they may have together.
const MOST_TEXT: usize = 64 * 1024 * 1024;

/// Reads one YAML document; the error is one line.
///
/// Compose files have nothing that JSON lacks: merge keys are gone from what `docker compose config` prints, and keys
/// are text.
pub fn parse(text: &str) -> Result<Value, String> {
    let read = || {
        measure(text)?;
        serde_yaml::from_str(text)
    };
    read().map_err(one_line)
}

/// As [`parse`], for files that people wrote, with merge keys (`<<`) and Compose's tags, which are left out.
pub fn parse_merged(text: &str) -> Result<Value, String> {
    let read = || {
        measure(text)?;
        let mut value: serde_yaml::Value = serde_yaml::from_str(text)?;
        value.apply_merge()?;
        remove_tags(&mut value);
        serde_yaml::from_value(value)
    };
    read().map_err(one_line)
}

fn remove_tags(value: &mut serde_yaml::Value) {
    while let serde_yaml::Value::Tagged(tagged) = value {
        *value = std::mem::take(&mut tagged.value);
    }
    match value {
        serde_yaml::Value::Sequence(items) => items.iter_mut().for_each(remove_tags),
        serde_yaml::Value::Mapping(entries) => entries.values_mut().for_each(remove_tags),
        _ => {}
    }
}

/// Writes a value as YAML.
pub fn write(value: &Value) -> Result<String, String> {
    serde_yaml::to_string(value).map_err(|error| error.to_string())
}

/// Writes a value as JSON that reads the same as YAML: there, some characters may not stand as they are in a text.
pub fn json(value: &Value) -> String {
    let is_plain = |c: char| {
        !matches!(
            c,
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
    };
    let mut text = String::new();
    for c in value.to_string().chars() {
        match is_plain(c) {
            true => text.push(c),
            false => text += &format!("\\u{:04x}", u32::from(c)),
        }
    }
    text
}

fn one_line(error: serde_yaml::Error) -> String {
    error.to_string().replace(['\n', '\r'], " ")
}

/// Refuses a document that is too deep; the library takes time by the square of the depth before it does so itself.
fn check_depth(text: &str) -> Result<(), serde_yaml::Error> {
    let too_deep = || serde::de::Error::custom("its values stand too deep in one another");
    let mut depth = 0;
    for event in Parser::new_from_str(text) {
        match event {
            Ok((Event::SequenceStart(..) | Event::MappingStart(..), _)) if depth == MAX_DEPTH => {
                return Err(too_deep());
            }
            Ok((Event::SequenceStart(..) | Event::MappingStart(..), _)) => depth += 1,
            Ok((Event::SequenceEnd | Event::MappingEnd, _)) => depth -= 1,
            Ok(_) => {}
            Err(error) if error.info() == "recursion limit exceeded" => return Err(too_deep()),
            // The library's own error says where and why.
            Err(_) => break,
        }
    }
    Ok(())
}

/// Walks a document with every alias written out, and keeps nothing of it; an error where it is too large to be kept.
fn measure(text: &str) -> Result<(), serde_yaml::Error> {
    check_depth(text)?;
    let left = Left {
        values: Cell::new(MOST_VALUES),
        text: Cell::new(MOST_TEXT),
    };
    serde_yaml::Deserializer::from_str(text).deserialize_any(&left)
}

/// What a document may still have.
struct Left {
    values: Cell<usize>,
    text: Cell<usize>,
}

impl Left {
    fn take<E: serde::de::Error>(&self, text: usize) -> Result<(), E> {
        let taken = |of: &Cell<usize>, count| of.get().checked_sub(count).map(|left| of.set(left));
        let fits = taken(&self.values, 1).and(taken(&self.text, text));
        fits.ok_or_else(|| E::custom("it is too large with its aliases written out"))
    }
}

impl<'de> DeserializeSeed<'de> for &Left {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Left {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.take(0)
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.take(0)
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.take(0)
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.take(0)
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<(), E> {
        self.take(0)
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<(), E> {
        self.take(0)
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.take(0)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.take(text.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.take(0)?;
        while items.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.take(0)?;
        while entries.next_entry_seed(self, self)?.is_some() {}
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<(), A::Error> {
        tagged.variant_seed(self)?.1.newtype_variant_seed(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let value = serde_json::json!({"a": "yes", "b": "8080", "c": [1, null, 1.5, true], "d": "x: y\n#z"});
        assert_eq!(parse(&write(&value).unwrap()), Ok(value));
    }

    #[test]
    fn json_of_any_text_is_printable_and_reads_as_yaml() {
        let text = "a\u{7f}b\u{85}c\u{2028}d\u{feff}e\u{9f}f é 𝄞";
        let value = serde_json::json!({"text": text});
        let written = json(&value);
        assert!(!written.contains(['\u{7f}', '\u{85}', '\u{2028}', '\u{feff}', '\u{9f}']));
        assert!(written.contains("é 𝄞"), "{written}");
        assert_eq!(parse(&written), Ok(value));
    }

    #[test]
    fn merge_keys_are_merged_where_people_wrote_them() {
        let value = parse_merged("a: &a {b: 1}\nc:\n  <<: *a\n  d: 2").unwrap();
        assert_eq!(value["c"], serde_json::json!({"b": 1, "d": 2}));
    }

    #[test]
    fn an_error_is_one_line() {
        let error = parse("a: [1\nb: 2").unwrap_err();
        assert!(!error.contains('\n'), "{error}");
        // The library names a place by its keys, as they are.
        let text = r#""a\nb": {[x]: 1}"#;
        let plain = serde_yaml::from_str::<Value>(text).unwrap_err().to_string();
        assert!(plain.contains('\n'), "{plain}");
        let error = parse(text).unwrap_err();
        assert_eq!(error, plain.replace('\n', " "));
    }

    const SAMPLE: &str = "a: &a {b: 1, c: [x, 'y', \"z\", ~, 1.5e3]}\nd:\n  <<: *a\n  e: |\n    text\n  f: !t 5\ng: *a\n";

    proptest! {
        #[test]
        fn whatever_is_read_is_written_back_and_an_error_is_one_line(text in mutated_text(SAMPLE)) {
            for read in [parse(&text), parse_merged(&text)] {
                match read {
                    Ok(value) => prop_assert_eq!(parse(&write(&value).unwrap()), Ok(value)),
                    Err(error) => prop_assert!(!error.contains(['\n', '\r']), "{}", error),
                }
            }
        }
    }

    #[test]
    fn aliases_of_aliases_are_refused_before_they_are_written_out() {
        let mut text = "a0: &a0 [x]\n".to_owned();
        for level in 1..40 {
            let before = level - 1;
            text += &format!("a{level}: &a{level} [*a{before}, *a{before}]\n");
        }
        for read in [parse(&text), parse_merged(&text)] {
            assert!(read.unwrap_err().contains("limit exceeded"));
        }
    }

    #[test]
    fn many_aliases_of_one_long_list_are_refused_before_they_are_written_out() {
        let list = "1,".repeat(5_000);
        let aliases = "*a,".repeat(5_000);
        let values = parse(&format!("a: &a [{list}]\nb: [{aliases}]\n"));
        assert!(values.unwrap_err().contains("too large"));
        let long = "x".repeat(1024 * 1024);
        let text = parse_merged(&format!("a: &a {long}\nb: [{}]\n", "*a,".repeat(100)));
        assert!(text.unwrap_err().contains("too large"));
    }

    #[test]
    fn however_deep_values_stand_in_one_another_the_stack_does_not_overflow() {
        for (open, close) in [
            ("[", "]"),
            ("{a: ", "}"),
            ("- ", ""),
            ("? ", ""),
            ("!t [", "]"),
        ] {
            let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
            assert!(parse(&deep).is_err(), "{open}");
            assert!(parse_merged(&deep).is_err(), "{open}");
        }
    }
}
