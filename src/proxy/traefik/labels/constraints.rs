//! The language of `providers.docker.constraints` (`pkg/provider/constraints/constraints_labels.go`). Pure.
//!
//! `Label(name, value)`, `LabelRegex(name, expression)`, `!`, `&&`, `||`, parentheses; strings as Go writes them.

use std::collections::BTreeMap;

use regex::Regex;

type Labels = BTreeMap<String, String>;

/// How deep parentheses may go.
const MAX_DEPTH: usize = 64;

/// Whether labels match an expression; `None` where it is not understood. An empty one matches everything.
pub fn matches(expression: &str, labels: &Labels) -> Option<bool> {
    let mut reader = Reader {
        rest: expression.trim_start(),
        labels,
    };
    if reader.rest.is_empty() {
        return Some(true);
    }
    let matched = reader.either(0)?;
    reader.rest.is_empty().then_some(matched)
}

/// What is left of the expression; every method takes its part from the front.
struct Reader<'a> {
    rest: &'a str,
    labels: &'a Labels,
}

impl Reader<'_> {
    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn either(&mut self, depth: usize) -> Option<bool> {
        let mut matched = self.both(depth)?;
        while self.take("||") {
            // The right side is read in any case.
            matched |= self.both(depth)?;
        }
        Some(matched)
    }

    fn both(&mut self, depth: usize) -> Option<bool> {
        let mut matched = self.single(depth)?;
        while self.take("&&") {
            matched &= self.single(depth)?;
        }
        Some(matched)
    }

    fn single(&mut self, depth: usize) -> Option<bool> {
        if depth > MAX_DEPTH {
            return None;
        }
        if self.take("!") {
            return self.single(depth + 1).map(|matched| !matched);
        }
        if self.take("(") {
            let matched = self.either(depth + 1)?;
            return self.take(")").then_some(matched);
        }
        if self.take("LabelRegex") {
            let (name, expression) = self.arguments()?;
            let expression = Regex::new(&expression).ok()?;
            return Some(expression.is_match(self.value(&name)));
        }
        if self.take("Label") {
            let (name, value) = self.arguments()?;
            return Some(self.value(&name) == value);
        }
        None
    }

    /// A label that is missing is an empty one.
    fn value(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    fn arguments(&mut self) -> Option<(String, String)> {
        let opened = self.take("(");
        let first = self.text().filter(|_| opened)?;
        let comma = self.take(",");
        let second = self.text().filter(|_| comma)?;
        self.take(")").then_some((first, second))
    }

    fn text(&mut self) -> Option<String> {
        let (text, rest) = match self.rest.strip_prefix('`') {
            Some(raw) => {
                let (text, rest) = raw.split_once('`')?;
                (text.to_owned(), rest)
            }
            None => quoted(self.rest.strip_prefix('"')?)?,
        };
        self.rest = rest.trim_start();
        Some(text)
    }
}

/// The rest of a string in double quotes, and what comes after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut own = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((own, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                escaped @ ('"' | '\\') => own.push(escaped),
                _ => return None,
            },
            other => own.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    fn matched(expression: &str) -> Option<bool> {
        let labels = [("stage", "live"), ("team", "shop-eu"), ("quote", "a\"b")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        matches(expression, &labels.into())
    }

    #[test]
    fn every_operator_binds_as_in_go() {
        for (expression, expected) in [
            ("", true),
            ("Label(`stage`,`live`)", true),
            ("Label(\"stage\", \"test\")", false),
            ("!Label(`stage`,`test`)", true),
            ("! ( Label(`stage`,`test`) || Label(`team`,`shop`) )", true),
            (
                "Label(`stage`,`test`) && Label(`a`,`b`) || Label(`stage`,`live`)",
                true,
            ),
            (
                "Label(`stage`,`live`) || Label(`a`,`b`) && Label(`c`,`d`)",
                true,
            ),
            (
                "(Label(`stage`,`live`) || Label(`a`,`b`)) && Label(`c`,`d`)",
                false,
            ),
            ("Label(`missing`,``)", true),
            ("LabelRegex(`team`,`^shop-(eu|us)$`)", true),
            ("LabelRegex(`team`,`op`)", true),
            ("LabelRegex(`team`,`^us`)", false),
            ("Label(`quote`,\"a\\\"b\")", true),
        ] {
            assert_eq!(matched(expression), Some(expected), "{expression}");
        }
    }

    #[test]
    fn what_is_not_understood_is_nobodys_answer() {
        for expression in [
            "Tag(`a`)",
            "Label(`a`)",
            "Label(`a`,`b`",
            "Label(`a`,`b`) Label(`c`,`d`)",
            "Label(`a`,`b`) &&",
            "LabelRegex(`a`,`(`)",
            "Label(`a`,\"\\q\")",
            "Label(`a`,`b",
        ] {
            assert_eq!(matched(expression), None, "{expression}");
        }
        assert_eq!(matched(&"(".repeat(100_000)), None);
        assert_eq!(matched(&"!".repeat(100_000)), None);
    }

    proptest! {
        #[test]
        fn any_expression_is_answered_or_has_no_answer(
            expression in mutated_text("Label(`a`,`b`) && !(LabelRegex(\"c\", `d.*`) || Label(`e`,``))"),
        ) {
            let negated = matched(&format!("!({expression})"));
            if let (Some(own), Some(other)) = (matched(&expression), negated) {
                prop_assert_ne!(own, other);
            }
        }
    }
}
