//! Arguments, variables or a file of Traefik as one tree, whose names are compared as Traefik does. Pure.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};

use crate::{compose::duration, yaml};

/// What every variable of Traefik's static configuration begins with.
const PREFIX: &str = "TRAEFIK_";
/// The most steps of an option's name; Traefik's own have a dozen.
const MAX_STEPS: usize = 64;

/// One source of a static configuration, read but not understood.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree(Value);

impl Tree {
    /// Options as `traefik` takes them: `--a.b=c`, `-a.b c`, and `--a.b` for true (paerser, `flag/flagparser.go`).
    pub fn of_arguments(arguments: &[String]) -> Self {
        let mut tree = Self::default();
        let mut rest = arguments.iter().peekable();
        while let Some(argument) = rest.next() {
            let Some(option) = argument.strip_prefix('-') else {
                break;
            };
            let option = option.strip_prefix('-').unwrap_or(option);
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                // Traefik knows which options are switches; nothing else is followed by another option.
                None => {
                    let value = rest.next_if(|next| !next.starts_with('-'));
                    (
                        option,
                        value.map_or_else(|| "true".to_owned(), Clone::clone),
                    )
                }
            };
            tree.put(&name.split('.').collect::<Vec<_>>(), value);
        }
        tree
    }

    /// `TRAEFIK_A_B=c` (paerser, `env/env.go`); names of entrypoints are lower case then.
    pub fn of_environment(environment: &[String]) -> Self {
        let mut tree = Self::default();
        for variable in environment {
            let Some((name, value)) = variable.split_once('=') else {
                continue;
            };
            let known = name.get(..PREFIX.len());
            if known.is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX)) {
                let name = name[PREFIX.len()..].to_lowercase();
                tree.put(&name.split('_').collect::<Vec<_>>(), value.to_owned());
            }
        }
        tree
    }

    /// The labels of a container, `traefik` being the first name.
    pub fn of_labels(labels: &BTreeMap<String, String>) -> Self {
        let mut tree = Self::default();
        for (name, value) in labels {
            tree.put(&name.split('.').collect::<Vec<_>>(), value.clone());
        }
        tree
    }

    /// A configuration file, TOML or YAML by the end of its name; the error is one line.
    pub fn of_file(path: &str, text: &str) -> Result<Self, String> {
        let parsed = match path.ends_with(".toml") {
            true => toml::from_str(text).map_err(|error| error.message().replace('\n', " ")),
            false if text.trim().is_empty() => Ok(Value::Null),
            false => yaml::parse_merged(text),
        };
        parsed.map(Self)
    }

    fn put(&mut self, path: &[&str], value: String) {
        if path.len() > MAX_STEPS {
            return;
        }
        let mut node = &mut self.0;
        for name in path {
            if !node.is_object() {
                // `--api=true --api.insecure=true` says twice that it is on.
                *node = Value::Object(Map::new());
            }
            let Value::Object(map) = node else { return };
            let known = map.keys().find(|key| key.eq_ignore_ascii_case(name));
            let key = known.cloned().unwrap_or_else(|| (*name).to_owned());
            node = map.entry(key).or_insert(Value::Null);
        }
        *node = match std::mem::take(node) {
            map @ Value::Object(_) => map,
            // A list may be given an element a time; of anything else the last one counts.
            Value::Array(mut before) => {
                before.push(Value::String(value));
                Value::Array(before)
            }
            Value::Null => Value::String(value),
            before => Value::Array(vec![before, Value::String(value)]),
        };
    }

    /// Whether there is anything in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_null()
    }

    /// What is under a path of names.
    pub fn at(&self, path: &str) -> Option<Node<'_>> {
        Node(&self.0).at(path)
    }
}

/// A place in a tree.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a>(&'a Value);

impl<'a> Node<'a> {
    /// What is under a path of names, which are separated by dots.
    pub fn at(self, path: &str) -> Option<Self> {
        path.split('.').try_fold(self, |node, name| {
            let map = node.0.as_object()?;
            let mut all = map.iter();
            let (_, value) = all.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
            Some(Node(value))
        })
    }

    /// Every name that it has, and what is under it.
    pub fn children(self) -> impl Iterator<Item = (&'a str, Node<'a>)> {
        let map = self.0.as_object().into_iter().flatten();
        map.map(|(key, value)| (key.as_str(), Node(value)))
    }

    /// Whether a part of Traefik is on by being named: `true`, or anything under it (paerser, `parser/nodes_metadata.go`).
    pub fn is_on(self) -> bool {
        match self.0 {
            Value::Null => false,
            Value::Object(_) => true,
            _ => self
                .text()
                .is_some_and(|text| text.is_empty() || text.eq_ignore_ascii_case("true")),
        }
    }

    /// The text of a single value; of several the last.
    pub fn text(self) -> Option<String> {
        match self.0 {
            Value::Null | Value::Object(_) => None,
            Value::String(text) => Some(text.clone()),
            Value::Array(values) => Node(values.last()?).text(),
            other => Some(other.to_string()),
        }
    }

    /// A switch, as Go's `strconv.ParseBool` reads one.
    pub fn switch(self) -> Option<bool> {
        match self.text()?.as_str() {
            "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
            "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
            _ => None,
        }
    }

    /// A duration: `2s`, or a number of seconds.
    pub fn duration(self) -> Option<Duration> {
        duration::of_traefik(&self.text()?)
    }

    /// A list: a sequence, or text with commas.
    pub fn list(self) -> Vec<String> {
        match self.0 {
            Value::Array(values) => values.iter().flat_map(|value| Node(value).list()).collect(),
            _ => {
                let text = self.text().unwrap_or_default();
                let parts = text.split(',').map(|part| part.trim().to_owned());
                parts.filter(|part| !part.is_empty()).collect()
            }
        }
    }
}
