//! The setting `notify`: an address, and the ends of a rollout that it is notified of.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

const HOW: &str = "write https://HOST/PATH, or ntfys://HOST/TOPIC";

/// How the rollout of a service has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Success,
    /// The old version serves, and no traffic was moved.
    Failure,
    /// The traffic was moved, and is back at the old version.
    Rollback,
    NeedsAPerson,
    Paused,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Success,
        Self::Failure,
        Self::Rollback,
        Self::NeedsAPerson,
        Self::Paused,
    ];
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Fields")]
pub struct Notify {
    pub place: Place,
    /// A file whose first line is sent as a bearer token.
    pub token_file: Option<PathBuf>,
    pub on: Vec<Kind>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    Address(Address),
    /// The address is the first line of this file.
    File(PathBuf),
}

/// Its path and its user are secrets, and are never shown.
#[derive(Clone, PartialEq)]
pub struct Address {
    pub url: Url,
    pub is_ntfy: bool,
}

/// As it is written in a file.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Fields {
    url: Option<String>,
    url_file: Option<PathBuf>,
    token_file: Option<PathBuf>,
    on: Option<Value>,
}

/// An address, or a mapping as JSON.
impl FromStr for Notify {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with('{') {
            return Ok(Self {
                place: Place::Address(text.parse()?),
                token_file: None,
                on: Kind::ALL.into(),
            });
        }
        let plain = |why: serde_json::Error| why.to_string().replace('`', "\"");
        let value: Value = serde_json::from_str(text).map_err(plain)?;
        Self::deserialize(value).map_err(plain)
    }
}

impl TryFrom<Fields> for Notify {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        Ok(Self {
            place: match (fields.url, fields.url_file) {
                (Some(url), None) => Place::Address(url.parse()?),
                (None, Some(file)) => Place::File(file),
                _ => return Err("it has one of url and url-file".to_owned()),
            },
            token_file: fields.token_file,
            on: match fields.on {
                None | Some(Value::Null) => Kind::ALL.into(),
                Some(Value::Array(all)) => all.iter().map(kind).collect::<Result<_, _>>()?,
                Some(one) => vec![kind(&one)?],
            },
        })
    }
}

fn kind(value: &Value) -> Result<Kind, String> {
    Kind::deserialize(value).map_err(|_| {
        let known = Kind::ALL.map(|kind| serde_json::json!(kind).to_string());
        format!("on: {value} is unknown; known are {}", known.join(", "))
    })
}

impl FromStr for Address {
    type Err = String;

    // A bad address may hold a secret, so it is not repeated.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |what: &str| format!("{what}; {HOW}");
        let (scheme, rest) = text
            .trim()
            .split_once("://")
            .ok_or_else(|| bad("it is an address without a scheme"))?;
        let (http, is_ntfy) = match scheme.to_ascii_lowercase().as_str() {
            "http" => ("http", false),
            "https" => ("https", false),
            "ntfy" => ("http", true),
            "ntfys" => ("https", true),
            _ => return Err(bad("the scheme of its address is unknown")),
        };
        let url = Url::parse(&format!("{http}://{rest}"))
            .map_err(|why| bad(&format!("it is no address: {why}")))?;
        match is_ntfy && url.path() == "/" {
            true => Err(bad("its address has no topic")),
            false => Ok(Self { url, is_ntfy }),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url.origin().ascii_serialization())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert, proptest};

    use super::*;
    use crate::arbitrary::mutated_text;

    #[test]
    fn an_address_alone_is_notified_of_every_end_and_is_shown_without_its_path() {
        for (text, is_ntfy, shown) in [
            (
                "https://u:p@h.example/s3cret?k=s3cret",
                false,
                "https://h.example",
            ),
            ("http://h:8080", false, "http://h:8080"),
            ("ntfys://h/s3cret", true, "https://h"),
            ("ntfy://h:81/s3cret", true, "http://h:81"),
        ] {
            let read: Notify = text.parse().unwrap();
            assert_eq!(read.on, Kind::ALL);
            let shows = format!("{read:?}");
            assert!(
                !shows.contains("s3cret") && !shows.contains("p@"),
                "{shows}"
            );
            let Place::Address(address) = read.place else {
                panic!("{text}")
            };
            assert_eq!(
                (address.is_ntfy, address.to_string().as_str()),
                (is_ntfy, shown)
            );
        }
    }

    #[test]
    fn a_mapping_chooses_the_ends_and_has_its_secrets_in_files() {
        let text = r#"{"url-file": "./url", "token-file": "/run/token", "on": ["failure", "needs-a-person"]}"#;
        let wanted = Notify {
            place: Place::File("./url".into()),
            token_file: Some("/run/token".into()),
            on: vec![Kind::Failure, Kind::NeedsAPerson],
        };
        assert_eq!(text.parse(), Ok(wanted));
        let one: Notify = r#"{"url": "http://h", "on": "paused"}"#.parse().unwrap();
        assert_eq!(one.on, [Kind::Paused]);
    }

    #[test]
    fn a_mistake_is_one_line_without_the_address() {
        for (text, said) in [
            (
                "s3cret",
                "it is an address without a scheme; write https://HOST/PATH",
            ),
            ("ftp://h/s3cret", "the scheme of its address is unknown"),
            ("https:///", "it is no address: empty host"),
            ("ntfy://h", "its address has no topic"),
            ("ntfy://h/", "its address has no topic"),
            ("{", "EOF while parsing"),
            ("{}", "it has one of url and url-file"),
            (
                r#"{"url": "https://h/s3cret", "url-file": "x"}"#,
                "it has one of url and url-file",
            ),
            (r#"{"ulr": "https://h/s3cret"}"#, "unknown field \"ulr\""),
            (
                r#"{"url": "https://h/s3cret", "on": ["sucess"]}"#,
                "on: \"sucess\" is unknown; known are \"success\", \"failure\"",
            ),
        ] {
            let why = text.parse::<Notify>().unwrap_err();
            assert!(
                why.contains(said) && !why.contains("s3cret"),
                "{text}: {why}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_one_line(text in mutated_text("ntfys://user:pass@host:80/topic?x=y")) {
            match text.parse::<Notify>() {
                Ok(read) => {
                    let shown = format!("{read:?}");
                    prop_assert!(!shown.contains(['@', '?']), "{}", shown);
                }
                Err(why) => prop_assert!(!why.contains('\n')),
            }
        }
    }
}
