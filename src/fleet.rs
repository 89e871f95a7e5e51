//! The hosts that one command rolls: how they are written, and their waves. Pure.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde_json::{Map, Value};

use crate::{
    error::{Error, Result, did_you_mean},
    event::{ServiceResult, ServiceRow, host_name},
    settings::{HOSTS, Partial},
    stack::{graph::Order, schedule::Ends},
};

const WAVE_BAKE: &str = "wave-bake";
const KEYS: [&str; 3] = ["host", "context", "wave"];

/// An engine, as Docker's options name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Address(String),
    Context(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub place: Place,
    pub wave: u32,
}

impl FromStr for Host {
    type Err = String;

    /// Reads `PLACE` or `WAVE=PLACE`.
    fn from_str(text: &str) -> Result<Self, String> {
        let is_number = |own: &str| !own.is_empty() && own.bytes().all(|own| own.is_ascii_digit());
        let (wave, place) = match text.split_once('=') {
            Some((wave, place)) if is_number(wave) => (wave.parse().unwrap_or(0), place),
            _ => (1, text),
        };
        Self::of(Place::read(place)?, wave)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Address(text) | Self::Context(text)) = self;
        f.write_str(text)
    }
}

impl fmt::Display for Host {
    /// Writes what is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.wave, self.place)
    }
}

impl Place {
    /// An address has a scheme or begins with a slash; anything else is a context.
    fn read(text: &str) -> Result<Self, String> {
        match text.trim() {
            "" => Err("a host is empty; write ssh://USER@HOST, or a Docker context".to_owned()),
            text if text.contains("://") || text.starts_with('/') => {
                Ok(Self::Address(text.to_owned()))
            }
            text => Ok(Self::Context(text.to_owned())),
        }
    }
}

impl Host {
    fn of(place: Place, wave: u32) -> Result<Self, String> {
        match wave {
            0 => Err("a wave is a number from 1 on".to_owned()),
            wave => Ok(Self { place, wave }),
        }
    }

    fn in_file(value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => text.parse(),
            Value::Object(map) => Self::of_mapping(map),
            other => Err(format!("{other} is neither a host nor a mapping")),
        }
    }

    fn of_mapping(map: &Map<String, Value>) -> Result<Self, String> {
        if let Some(key) = map.keys().find(|key| !KEYS.contains(&key.as_str())) {
            let near = did_you_mean(key, KEYS);
            let near = near.map_or_else(
                || format!("known are {}", KEYS.join(", ")),
                |near| format!("did you mean {near}?"),
            );
            return Err(format!("unknown key {key}; {near}"));
        }
        let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::trim);
        let place = match (text("host"), text("context")) {
            (Some(""), None) => return Err("its host is empty; write ssh://USER@HOST".to_owned()),
            (None, Some("")) => {
                return Err("its context is empty; write the name of a Docker context".to_owned());
            }
            (Some(address), None) => Place::Address(address.to_owned()),
            (None, Some(name)) => Place::Context(name.to_owned()),
            _ => {
                return Err(
                    "a host has an address in host, or the name of a context in context".to_owned(),
                );
            }
        };
        let wave = match map.get("wave") {
            None => Some(1),
            // A variable gives text.
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(wave) => wave.as_u64().and_then(|wave| wave.try_into().ok()),
        };
        Self::of(place, wave.unwrap_or(0))
    }
}

/// The hosts in `x-rollout` at the top level of the Compose file; none where it has none.
pub fn of_file(x_rollout: Option<&Value>) -> Result<Vec<Host>> {
    let hosts = match x_rollout.and_then(|own| own.get(HOSTS)) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(all)) => {
            let each = all.iter().zip(1..).map(|(own, number)| {
                Host::in_file(own).map_err(|why| format!("entry {number}: {why}"))
            });
            each.collect()
        }
        Some(_) => Err("it is no list".to_owned()),
    };
    hosts.map_err(|why| {
        let message = format!("{HOSTS} in x-rollout at the top level: {why}");
        Error::refused(message).hint("see rollout help hosts")
    })
}

/// The refusal of a command that works on one engine.
pub fn one_at_a_time(hosts: &[Host]) -> Error {
    let each = hosts.iter().map(|own| format!("--on {}", own.place));
    let each: Vec<String> = each.collect();
    let count = hosts.len();
    let message = format!("this command works on one host at a time, and there are {count}");
    Error::refused(message).hint(format!("give it one of {}", each.join(", ")))
}

/// Refuses hosts that are the same engine, by their addresses.
pub fn refuse_twice(addresses: &[String]) -> Result<()> {
    let mut all = addresses.iter().enumerate();
    match all.find(|(at, own)| {
        addresses[..*at]
            .iter()
            .any(|other| host_name(other) == host_name(own))
    }) {
        None => Ok(()),
        Some((_, twice)) => {
            let error = Error::refused(format!("the host {twice} is named twice"));
            Err(error.hint("name each host once, in one wave"))
        }
    }
}

/// Refuses a time between two waves on a command line that has fewer of them.
pub fn refuse_bake(flags: &Partial, waves: usize) -> Result<()> {
    match waves < 2 && flags.has(WAVE_BAKE) {
        false => Ok(()),
        true => Err(Error::refused(format!(
            "--{WAVE_BAKE} is a time between two waves, and this command has {waves}"
        ))
        .hint("put a host into a second wave: --on 2=HOST; or leave it out")),
    }
}

/// The places of the hosts of each wave in the list of all, the first wave first.
pub fn waves(hosts: &[Host]) -> Vec<Vec<usize>> {
    let mut waves: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (at, host) in hosts.iter().enumerate() {
        waves.entry(host.wave).or_default().push(at);
    }
    waves.into_values().collect()
}

/// Whether every service of a host has ended well, so that the next wave may begin.
pub fn has_succeeded<T>(order: &Order<'_>, ends: &Ends<'_, T>) -> bool {
    ends.len() == order.services.len() && ends.iter().all(|(_, end)| end.is_ok())
}

/// Says of the services of a host that was not begun what has kept it back; after a signal their reason stays.
pub fn keep_back(rows: &mut [ServiceRow], stopped: Option<&ServiceRow>) {
    let Some(stopped) = stopped else { return };
    let how = match stopped.result {
        ServiceResult::Paused => "is paused",
        _ => "failed before it began",
    };
    for row in rows
        .iter_mut()
        .filter(|own| own.result == ServiceResult::NotBegun)
    {
        row.reason = Some(format!("{} {how}", stopped.title()));
    }
}

/// The first service that has kept back what comes after it.
pub fn stopped<'a>(rows: impl Iterator<Item = &'a ServiceRow>) -> Option<&'a ServiceRow> {
    let mut rows = rows;
    rows.find(|own| matches!(own.result, ServiceResult::Failed | ServiceResult::Paused))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{compose, stack::outcome::other};

    fn read(hosts: Value) -> Result<Vec<String>, String> {
        let hosts = of_file(Some(&json!({"hosts": hosts})));
        let hosts = hosts.map_err(|error| error.message)?;
        Ok(hosts.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_host_is_an_address_or_a_context_with_a_wave_or_without() {
        let read_back = |text: &str| text.parse::<Host>().map(|own| (own.place, own.wave));
        let address = |text: &str| Place::Address(text.to_owned());
        let context = |text: &str| Place::Context(text.to_owned());
        for (text, place, wave) in [
            ("ssh://me@a", address("ssh://me@a"), 1),
            ("2=ssh://me@a", address("ssh://me@a"), 2),
            ("/run/x=y.sock", address("/run/x=y.sock"), 1),
            ("vm", context("vm"), 1),
            ("12=vm", context("vm"), 12),
        ] {
            assert_eq!(read_back(text), Ok((place, wave)), "{text}");
            let written = text.parse::<Host>().unwrap().to_string();
            assert_eq!(written.parse(), text.parse::<Host>(), "{text}");
        }
        for text in ["", "2=", "0=vm", "99999999999=vm"] {
            assert!(text.parse::<Host>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_hosts_of_a_file_are_texts_and_mappings_and_a_bad_one_is_one_line() {
        let hosts =
            json!([{"host": "ssh://a", "wave": "2"}, {"context": "b"}, "tcp://c:2376", "3=d"]);
        assert_eq!(
            read(hosts).unwrap(),
            ["2=ssh://a", "1=b", "1=tcp://c:2376", "3=d"]
        );
        assert_eq!(of_file(None).unwrap(), []);
        assert_eq!(read(Value::Null).unwrap(), [""; 0]);
        for (hosts, why) in [
            (json!("a"), "it is no list"),
            (json!([7]), "entry 1: 7 is neither"),
            (json!(["a", ""]), "entry 2: a host is empty"),
            (json!([{"host": " "}]), "entry 1: its host is empty"),
            (
                json!(["a", {"context": ""}]),
                "entry 2: its context is empty",
            ),
            (
                json!([{"host": "a", "wvae": 2}]),
                "entry 1: unknown key wvae; did you mean wave?",
            ),
            (
                json!([{"host": "a", "context": "b"}]),
                "entry 1: a host has",
            ),
            (json!([{"wave": 2}]), "entry 1: a host has"),
            (
                json!([{"host": "a", "wave": 0}]),
                "entry 1: a wave is a number from 1 on",
            ),
            (
                json!(["b", {"host": "a", "wave": "two"}]),
                "entry 2: a wave is",
            ),
        ] {
            let message = read(hosts).unwrap_err();
            let place = "hosts in x-rollout at the top level: ";
            assert!(message.starts_with(&format!("{place}{why}")), "{message}");
            assert!(!message.contains('\n'));
        }
    }

    fn hosts(all: &[&str]) -> Vec<Host> {
        all.iter().map(|own| own.parse().unwrap()).collect()
    }

    #[test]
    fn waves_are_in_the_order_of_their_numbers_and_hosts_keep_theirs() {
        let all = hosts(&["7=a", "b", "2=c", "d"]);
        assert_eq!(waves(&all), [vec![1, 3], vec![2], vec![0]]);
    }

    #[test]
    fn a_time_between_waves_on_the_command_line_needs_two_of_them() {
        let flags = Partial::of(WAVE_BAKE, "30s");
        let refused = refuse_bake(&flags, 1).unwrap_err();
        assert!(refused.hint.unwrap().contains("--on 2=HOST"));
        refuse_bake(&flags, 2).unwrap();
        refuse_bake(&Partial::default(), 1).unwrap();
    }

    #[test]
    fn an_engine_is_named_once_and_a_command_for_one_engine_names_the_choice() {
        let addresses = |all: [&str; 2]| all.map(str::to_owned);
        refuse_twice(&addresses(["ssh://me@a", "ssh://you@a"])).unwrap();
        let twice = refuse_twice(&addresses(["tcp://a:2376", "tcp://a:2376"])).unwrap_err();
        assert_eq!(twice.message, "the host tcp://a:2376 is named twice");
        let hint = one_at_a_time(&hosts(&["2=a", "b"])).hint.unwrap();
        assert_eq!(hint, "give it one of --on a, --on b");
    }

    #[test]
    fn the_next_wave_needs_every_service_of_a_host_to_have_ended_well() {
        let project =
            compose::resolved("name: p\nservices: {a: {image: x}, b: {image: x}}").unwrap();
        let order = Order::of(&project, &["a", "b"]).unwrap();
        let failed = || Err(Error::failed("x"));
        assert!(has_succeeded(&order, &vec![("b", Ok(())), ("a", Ok(()))]));
        assert!(!has_succeeded(&order, &vec![("a", Ok(()))]));
        assert!(!has_succeeded(
            &order,
            &vec![("a", Ok(())), ("b", failed())]
        ));
    }

    #[test]
    fn a_host_that_is_not_begun_says_what_has_kept_it_back() {
        let row = |host: &str, result| ServiceRow {
            host: Some(host.to_owned()),
            ..other("web", result, "interrupted before it began")
        };
        let reason = |first: ServiceRow| {
            let mut rows = [row("ssh://b", ServiceResult::NotBegun)];
            keep_back(&mut rows, stopped([first].iter()));
            rows[0].reason.clone().unwrap()
        };
        let failed = row("ssh://me@a", ServiceResult::Failed);
        assert_eq!(reason(failed), "me@a web failed before it began");
        let paused = row("ssh://a", ServiceResult::Paused);
        assert_eq!(reason(paused), "a web is paused");
        let rolled = row("ssh://a", ServiceResult::Rolled);
        assert_eq!(reason(rolled), "interrupted before it began");
    }
}
