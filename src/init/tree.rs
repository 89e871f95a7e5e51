//! A YAML document with the place of everything in it, in bytes: what an edit that leaves the rest alone needs.

use std::{iter::Peekable, ops::Range};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput};

use crate::yaml::MAX_DEPTH;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// From its first byte to behind its last; of a block collection, from its first child to its last.
    pub span: Range<usize>,
    pub content: Content,
    /// Whether it has an anchor or a tag: others may see what is changed in it.
    pub marked: bool,
}

/// What stands at a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A scalar, as it reads.
    Scalar(String),
    /// Nothing behind a key.
    Nothing,
    /// A list; whether it is written in brackets.
    List(Vec<Node>, bool),
    /// A mapping; whether it is written in braces.
    Map(Vec<(Node, Node)>, bool),
    /// `*name`.
    Alias,
}

impl Node {
    /// The key and the value of an entry.
    pub fn entry(&self, key: &str) -> Option<(&Node, &Node)> {
        let Content::Map(entries, _) = &self.content else {
            return None;
        };
        let mut all = entries.iter();
        all.find(|(own, _)| matches!(&own.content, Content::Scalar(text) if text == key))
            .map(|(key, value)| (key, value))
    }

    /// The value of an entry.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }
}

type Events<'a> = Peekable<Parser<'a, StrInput<'a>>>;

/// Reads a text of one document; the error is one line.
pub fn parse(text: &str) -> Result<Node, String> {
    let offsets: Vec<usize> = text
        .char_indices()
        .map(|(at, _)| at)
        .chain([text.len()])
        .collect();
    let mut reader = Reader {
        text,
        offsets,
        events: Parser::new_from_str(text).peekable(),
        depth: 0,
    };
    let mut document = None;
    loop {
        match reader.next()? {
            (Event::StreamEnd, _) => return document.ok_or_else(|| "it is empty".to_owned()),
            (Event::DocumentStart(_), _) if document.is_some() => {
                return Err("it has several documents".to_owned());
            }
            (Event::DocumentStart(_), _) => document = Some(reader.node(None)?),
            _ => {}
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    /// The byte at which each character begins.
    offsets: Vec<usize>,
    events: Events<'a>,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), String> {
        let next = self.events.next().ok_or("it ends too early")?;
        next.map_err(|error| error.to_string().replace('\n', " "))
    }

    /// One value; `key` is the one that it stands behind.
    fn node(&mut self, key: Option<&Node>) -> Result<Node, String> {
        let (event, span) = self.next()?;
        Ok(match event {
            Event::Alias(_) => self.leaf(span, Content::Alias, false),
            Event::Scalar(text, style, anchor, tag) => {
                let marked = anchor != 0 || tag.is_some();
                if text.is_empty() && style == ScalarStyle::Plain && !marked {
                    let at = key.map_or(self.byte(span.start.index()), |key| self.behind(key));
                    let (span, content) = (at..at, Content::Nothing);
                    return Ok(Node {
                        span,
                        content,
                        marked,
                    });
                }
                self.leaf(span, Content::Scalar(text.into_owned()), marked)
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if self.depth == MAX_DEPTH => {
                return Err("its values stand too deep in one another".to_owned());
            }
            Event::SequenceStart(anchor, tag) => {
                self.depth += 1;
                let list = self.list(span, anchor != 0 || tag.is_some())?;
                self.depth -= 1;
                list
            }
            Event::MappingStart(anchor, tag) => {
                self.depth += 1;
                let map = self.map(span, anchor != 0 || tag.is_some())?;
                self.depth -= 1;
                map
            }
            other => return Err(format!("{other:?} stands where a value should")),
        })
    }

    fn leaf(&self, span: Span, content: Content, marked: bool) -> Node {
        let start = self.byte(span.start.index());
        // The parser's ends may lie behind blanks, and behind the empty lines after a block scalar.
        let end = start
            + self.text[start..self.byte(span.end.index())]
                .trim_end()
                .len();
        Node {
            span: start..end,
            content,
            marked,
        }
    }

    fn list(&mut self, start: Span, marked: bool) -> Result<Node, String> {
        let mut items = Vec::new();
        let end = loop {
            if let Some(Ok((Event::SequenceEnd, end))) = self.events.peek() {
                break *end;
            }
            items.push(self.node(None)?);
        };
        self.next()?;
        let flow = self.is_flow(end, ']');
        let first = items.first().map(|own| own.span.start);
        let last = items.last().map(|own| own.span.end);
        let span = self.around(start, end, flow, first, last);
        let content = Content::List(items, flow);
        Ok(Node {
            span,
            content,
            marked,
        })
    }

    fn map(&mut self, start: Span, marked: bool) -> Result<Node, String> {
        let mut entries = Vec::new();
        let end = loop {
            if let Some(Ok((Event::MappingEnd, end))) = self.events.peek() {
                break *end;
            }
            let key = self.node(None)?;
            let value = self.node(Some(&key))?;
            entries.push((key, value));
        };
        self.next()?;
        let flow = self.is_flow(end, '}');
        let first = entries.first().map(|(key, _)| key.span.start);
        let last = entries.last().map(|(_, value)| value.span.end);
        let span = self.around(start, end, flow, first, last);
        let content = Content::Map(entries, flow);
        Ok(Node {
            span,
            content,
            marked,
        })
    }

    /// Only what is written in brackets has an end of its own.
    fn is_flow(&self, end: Span, bracket: char) -> bool {
        !end.is_empty() && self.text[self.byte(end.start.index())..].starts_with(bracket)
    }

    fn around(
        &self,
        start: Span,
        end: Span,
        flow: bool,
        first: Option<usize>,
        last: Option<usize>,
    ) -> Range<usize> {
        match (flow, first, last) {
            (false, Some(first), Some(last)) => first..last,
            // The parser's end may lie behind blanks.
            _ => self.byte(start.start.index())..self.byte(end.start.index()) + usize::from(flow),
        }
    }

    /// The place behind a key's colon, where it has one.
    fn behind(&self, key: &Node) -> usize {
        let rest = &self.text[key.span.end..];
        let blank = rest.len() - rest.trim_start().len();
        match rest[blank..].starts_with(':') {
            true => key.span.end + blank + 1,
            false => key.span.end,
        }
    }

    fn byte(&self, character: usize) -> usize {
        let last = self.offsets.last().copied().unwrap_or_default();
        self.offsets.get(character).copied().unwrap_or(last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    const TEXT: &str = "ä:\n  b: x # c\n  n:\n  l:\n  - q\n  - w: |\n      t\n      u\n\n  # tail\n  f: {k: , m: [1, 2,], \"s\" }\nd: &x \"e\"\n";

    fn at(path: &str) -> String {
        let root = parse(TEXT).unwrap();
        let node = path
            .split('.')
            .fold(&root, |node, name| match &node.content {
                Content::List(items, _) => &items[name.parse::<usize>().unwrap()],
                _ => node.get(name).unwrap(),
            });
        TEXT[node.span.clone()].to_owned()
    }

    #[test]
    fn every_value_is_found_where_it_stands() {
        for (path, text) in [
            ("ä.b", "x"),
            ("ä.n", ""),
            ("ä.l", "q\n  - w: |\n      t\n      u"),
            ("ä.l.1.w", "t\n      u"),
            ("ä.f", "{k: , m: [1, 2,], \"s\" }"),
            ("ä.f.m", "[1, 2,]"),
            ("ä.f.m.1", "2"),
            ("d", "&x \"e\""),
        ] {
            assert_eq!(at(path), text, "{path}");
        }
        let root = parse(TEXT).unwrap();
        let nothing = root.get("ä").unwrap().get("n").unwrap();
        assert_eq!(&TEXT[..nothing.span.start], "ä:\n  b: x # c\n  n:");
        assert!(root.get("d").unwrap().marked);
        assert_eq!(root.get("missing"), None);
    }

    #[test]
    fn several_documents_none_and_what_is_no_yaml_are_errors_of_one_line() {
        for (text, error) in [
            ("a: 1\n---\nb: 2\n", "several documents"),
            ("", "empty"),
            ("a: [1\nb: 2", ""),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(error) && !said.contains('\n'), "{said}");
        }
    }

    // Every value stands within the one that holds it.
    fn holds(text: &str, node: &Node, within: &Range<usize>) {
        let Range { start, end } = node.span;
        assert!(within.start <= start && start <= end && end <= within.end);
        assert!(text.is_char_boundary(start) && text.is_char_boundary(end));
        match &node.content {
            Content::List(items, _) => items.iter().for_each(|item| holds(text, item, &node.span)),
            Content::Map(entries, _) => entries.iter().for_each(|(key, value)| {
                holds(text, key, &node.span);
                holds(text, value, &node.span);
            }),
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn whatever_is_read_stands_within_the_text(text in mutated_text(TEXT)) {
            match parse(&text) {
                Ok(root) => holds(&text, &root, &(0..text.len())),
                Err(error) => prop_assert!(!error.contains('\n'), "{}", error),
            }
        }
    }

    #[test]
    fn however_deep_values_stand_in_one_another_the_stack_does_not_overflow() {
        for open in ["[", "{a: ", "- ", "? "] {
            assert!(parse(&open.repeat(5_000)).is_err(), "{open}");
        }
    }
}
