//! Additions to a YAML text and removals from it, at the places that its tree names; all else stays as it is.

use std::{cmp::Reverse, ops::Range};

use super::tree::{Content, Node};

/// What is added: as lines of a block, two spaces a level, and as one piece between brackets.
pub struct Addition {
    /// Lines without a line end.
    pub block: Vec<String>,
    /// The same in flow style.
    pub flow: String,
}

impl Addition {
    /// `key: value`, which reads the same in both styles.
    pub fn entry(key: &str, value: &str) -> Self {
        let text = format!("{key}: {value}");
        Self {
            block: vec![text.clone()],
            flow: text,
        }
    }

    /// `key:` with nothing behind it.
    pub fn bare(key: &str) -> Self {
        let text = format!("{key}:");
        Self {
            block: vec![text.clone()],
            flow: text,
        }
    }

    /// `key:` with one entry of its own.
    pub fn nested(key: &str, entry: &str) -> Self {
        Self {
            block: vec![format!("{key}:"), format!("  {entry}")],
            flow: format!("{key}: {{ {entry} }}"),
        }
    }

    /// An element of a list.
    pub fn item(text: &str) -> Self {
        Self {
            block: vec![format!("- {text}")],
            flow: text.to_owned(),
        }
    }
}

/// One change, by the bytes of the text before any.
struct Splice {
    range: Range<usize>,
    text: String,
    /// How deep its place is: of several at one place, the deepest comes first.
    depth: usize,
}

/// Collects changes of one text.
pub struct Editor {
    /// As given, with a line end behind its last line.
    text: String,
    ended: bool,
    newline: &'static str,
    /// The spaces of one level.
    pub step: usize,
    /// Whether the dashes of lists stand deeper than their key.
    pub lists_indented: bool,
    splices: Vec<Splice>,
}

impl Editor {
    /// Changes of this text, whose levels are as deep as they are below `sample`.
    pub fn new(text: &str) -> Self {
        let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
        let ended = text.ends_with('\n');
        let text = match ended {
            true => text.to_owned(),
            false => format!("{text}{newline}"),
        };
        Self {
            text,
            ended,
            newline,
            step: 2,
            lists_indented: true,
            splices: Vec::new(),
        }
    }

    /// Takes over how a block mapping and the lists in it are indented.
    pub fn learn(&mut self, key: &Node, map: &Node) {
        let Content::Map(entries, false) = &map.content else {
            return;
        };
        let outer = self.column(key.span.start);
        let inner = self.column(map.span.start);
        self.step = inner.saturating_sub(outer).max(1);
        for (_, value) in entries {
            if let Content::List(items, false) = &value.content
                && let Some(dash) = items.first().and_then(|item| self.dash(item))
            {
                self.lists_indented = self.column(dash) > inner;
                return;
            }
        }
    }

    /// What stands at a place.
    pub fn source(&self, node: &Node) -> &str {
        &self.text[node.span.clone()]
    }

    /// Whether the file sets its sections apart by empty lines.
    pub fn is_airy(&self) -> bool {
        let double = self.newline.repeat(2);
        self.text.trim_end().contains(&double)
    }

    /// Puts a text in the place of another.
    pub fn replace(&mut self, range: Range<usize>, text: impl Into<String>, depth: usize) {
        self.splices.push(Splice {
            range,
            text: text.into(),
            depth,
        });
    }

    /// Adds to the mapping or list that stands behind `key`; the error says why that cannot be done.
    pub fn add(
        &mut self,
        (key, value): (&Node, &Node),
        addition: &Addition,
        depth: usize,
    ) -> Result<(), String> {
        let dashed = addition.block[0].starts_with("- ");
        if value.marked {
            return Err("it has an anchor or a tag".to_owned());
        }
        match &value.content {
            Content::Alias => Err("it is an alias".to_owned()),
            Content::Scalar(_) => Err("it is one piece of text".to_owned()),
            Content::Nothing => {
                let deeper = if dashed && !self.lists_indented {
                    0
                } else {
                    self.step
                };
                let column = self.column(key.span.start) + deeper;
                let at = self.below(key.span.end, column);
                self.insert(at, column, &addition.block, depth);
                Ok(())
            }
            Content::Map(entries, flow) => {
                let last = entries.last().map(|(_, value)| value);
                let column = self.column(value.span.start);
                self.extend(value, *flow, last, column, addition, depth);
                Ok(())
            }
            Content::List(items, flow) => {
                let last = items.last();
                let dash = items.first().and_then(|item| self.dash(item));
                let column = dash.map_or(0, |dash| self.column(dash));
                if !flow && dash.is_none() {
                    return Err("its dashes stand apart".to_owned());
                }
                self.extend(value, *flow, last, column, addition, depth);
                Ok(())
            }
        }
    }

    /// Adds to what is there already: behind its last child, or between empty brackets.
    fn extend(
        &mut self,
        value: &Node,
        flow: bool,
        last: Option<&Node>,
        column: usize,
        addition: &Addition,
        depth: usize,
    ) {
        match (flow, last) {
            (false, _) => {
                let at = self.below(value.span.end, column);
                self.insert(at, column, &addition.block, depth);
            }
            (true, Some(last)) => {
                // Without a blank the comma would be part of the key.
                let bare = last.content == Content::Nothing;
                let blank = if bare { " " } else { "" };
                let at = last.span.end;
                self.replace(at..at, format!("{blank}, {}", addition.flow), depth);
            }
            (true, None) => {
                let inside = value.span.start + 1..value.span.end - 1;
                let blank = if matches!(value.content, Content::Map(..)) {
                    " "
                } else {
                    ""
                };
                self.replace(inside, format!("{blank}{}{blank}", addition.flow), depth);
            }
        }
    }

    /// Adds lines behind a block that ends at `end`, indented as deep as `column`.
    pub fn append(&mut self, end: usize, column: usize, lines: &[String], depth: usize) {
        let at = self.below(end, column);
        self.insert(at, column, lines, depth);
    }

    /// Adds lines at the very end.
    pub fn append_last(&mut self, lines: &[String], depth: usize) {
        self.insert(self.text.len(), 0, lines, depth);
    }

    fn insert(&mut self, at: usize, column: usize, lines: &[String], depth: usize) {
        let line = |line: &String| {
            let bare = line.trim_start();
            let levels = (line.len() - bare.len()) / 2;
            match bare.is_empty() {
                true => self.newline.to_owned(),
                false => format!(
                    "{}{bare}{}",
                    " ".repeat(column + levels * self.step),
                    self.newline
                ),
            }
        };
        let text: String = lines.iter().map(line).collect();
        self.replace(at..at, text, depth);
    }

    /// Removes an entry's lines, comments of their own between them aside.
    pub fn remove_line_of(&mut self, node: &Node, depth: usize) {
        let start = self.line_start(node.span.start);
        let end = self.line_end(node.span.end);
        self.replace(start..end, "", depth);
    }

    /// Removes an element of a list, with its dash or its comma.
    pub fn remove_item(&mut self, list: &Node, index: usize, depth: usize) -> Result<(), String> {
        let Content::List(items, flow) = &list.content else {
            return Err("it is no list".to_owned());
        };
        let item = &items[index];
        if !flow {
            let dash = self.dash(item).ok_or("its dashes stand apart")?;
            let range = self.line_start(dash)..self.line_end(item.span.end);
            self.replace(range, "", depth);
            return Ok(());
        }
        let range = match (index.checked_sub(1), items.get(index + 1)) {
            (_, Some(next)) => item.span.start..next.span.start,
            (Some(before), None) => items[before].span.end..item.span.end,
            (None, None) => item.span.clone(),
        };
        if self.text[range.clone()].contains(['\n', '#']) {
            return Err("it is written over several lines".to_owned());
        }
        self.replace(range, "", depth);
        Ok(())
    }

    /// The text with all changes made.
    pub fn finish(mut self) -> String {
        self.splices
            .sort_by_key(|own| (own.range.start, own.range.end, Reverse(own.depth)));
        let mut done = String::new();
        let mut from = 0;
        for Splice { range, text, .. } in &self.splices {
            done.push_str(&self.text[from..range.start.max(from)]);
            done.push_str(text);
            from = range.end.max(from);
        }
        done.push_str(&self.text[from..]);
        if !self.ended {
            done.truncate(done.len() - self.newline.len());
        }
        done
    }

    /// The dash of an element of a block list.
    pub fn dash(&self, item: &Node) -> Option<usize> {
        let before = self.text[..item.span.start].trim_end();
        before.ends_with('-').then(|| before.len() - 1)
    }

    /// How far from the start of its line a place is.
    pub fn column(&self, at: usize) -> usize {
        self.text[self.line_start(at)..at].chars().count()
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |end| end + 1)
    }

    fn line_end(&self, at: usize) -> usize {
        let end = self.text[at..].find('\n');
        end.map_or(self.text.len(), |end| at + end + 1)
    }

    /// The start of the line below a place; comments that stand as deep as `column` belong to what is above them.
    fn below(&self, at: usize, column: usize) -> usize {
        let mut at = self.line_end(at);
        loop {
            let line = &self.text[at..self.line_end(at)];
            let bare = line.trim_start_matches(' ');
            if !bare.starts_with('#') || line.len() - bare.len() < column.max(1) {
                return at;
            }
            at += line.len();
        }
    }
}

#[cfg(test)]
#[path = "editor_tests.rs"]
mod tests;
