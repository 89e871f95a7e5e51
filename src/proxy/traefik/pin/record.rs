//! The commit record in the pin file, and the file as text. Pure.
//!
//! Traefik skips what it does not know at the top of a file (paerser `file.DecodeContent` filters by the names of its
//! sections), so the record travels with the routing that it is about, in one rename.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tree::Object;
use crate::{
    error::{Error, Result},
    model::{Claim, ContainerId, Phase, RolloutId, RoutePlan, Share},
    settings::PreviewRule,
};

/// The version of the record's format; a newer one is refused.
const FORMAT: u32 = 2;
/// That of a file which counts where it is, without a preview.
const FIRST: u32 = 1;

/// What the file says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// For a person that finds the file.
    note: String,
    /// The rollout that owns it.
    pub rollout: RolloutId,
    #[serde(rename = "stage")]
    pub phase: Phase,
    /// Grows with each rollout of the service; a run refuses a file with a higher one.
    pub epoch: u64,
    /// Whether it moves traffic at all; where Traefik did not know the service, there was nothing to hold.
    pub pins: bool,
    /// The directory, in the watched one, where the file that counts is or is to come; it takes effect together with those
    /// of other services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<String>,
    /// Which requests the new replicas get before the cutover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<PreviewRule>,
    /// The replicas that were old at the cutover.
    pub hides: BTreeSet<ContainerId>,
    /// Replica → its servers.
    pub shows: BTreeMap<ContainerId, BTreeSet<String>>,
}

impl Record {
    /// A record of this version's format.
    pub fn new(rollout: RolloutId, phase: Phase, epoch: u64, pins: bool) -> Self {
        Self {
            format: FIRST,
            note:
                "written by rollout, which removes it at the end; if no rollout runs, run it again"
                    .to_owned(),
            rollout,
            phase,
            epoch,
            pins,
            shared: None,
            preview: None,
            hides: BTreeSet::new(),
            shows: BTreeMap::new(),
        }
    }

    /// Names the directory where the file comes that counts. Version 0.1.0 would not look there, so it must refuse.
    pub fn share(&mut self, directory: String) {
        self.shared = Some(directory);
        self.format = FORMAT;
    }

    /// Notes which requests the new replicas get. Version 0.1.0 has no previews, so it must refuse.
    pub fn preview_by(&mut self, rule: PreviewRule) {
        self.preview = Some(rule);
        self.format = FORMAT;
    }

    /// As the planner reads it. `stale`: the routing is not what it would be if it were written now.
    pub fn claim(&self, stale: bool) -> Claim {
        let new = match self.phase {
            Phase::Prepared | Phase::RolledBack => Share::Hidden,
            Phase::Shifted { .. } => Share::Preview,
            Phase::Committed | Phase::ForceShown | Phase::Settled => Share::Live,
        };
        Claim {
            rollout: self.rollout.clone(),
            phase: self.phase,
            plan: RoutePlan::of(&self.rollout, new, self.hides.iter().cloned()),
            stale,
        }
    }
}

/// Refuses to write over a file of a later run.
pub fn refuse_newer(record: &Record, epoch: u64, of: &str) -> Result<()> {
    if record.epoch <= epoch {
        return Ok(());
    }
    Err(Error::failed(format!(
        "the rollout {} of {of} has been taken over by a later run",
        record.rollout
    )))
}

/// A pin file: the record, and the sections that Traefik reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinFile {
    /// What it says of itself.
    #[serde(rename = "rollout")]
    pub record: Record,
    /// `http`, `tcp`, `udp`.
    #[serde(flatten)]
    pub sections: Object,
}

impl PinFile {
    /// Reads a file that this program has written.
    pub fn read(text: &str) -> Result<Self> {
        let file: Self = serde_json::from_str(text).map_err(|error| {
            Error::failed(format!("the pin file cannot be read: {error}")).hint("remove it")
        })?;
        match file.record.format <= FORMAT {
            true => Ok(file),
            false => Err(Error::refused("the pin file is from a newer rollout")
                .hint("finish with the newer version of rollout")),
        }
    }

    /// The text: JSON that is YAML as well, and that Go's templates leave alone.
    pub fn text(&self) -> Result<String> {
        let json = serde_json::to_string_pretty(self)
            .map_err(|error| Error::failed(format!("the pin file cannot be written: {error}")))?;
        // Within texts alone: neither of these occurs between them.
        let mut text = String::with_capacity(json.len());
        let mut last = ' ';
        for letter in json.chars() {
            match letter {
                '{' if last == '{' => {
                    text.push_str("\\u007b");
                    last = ' ';
                    continue;
                }
                '\u{7f}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                    text.push_str(&format!("\\u{:04x}", u32::from(letter)));
                }
                _ => text.push(letter),
            }
            last = letter;
        }
        text.push('\n');
        Ok(text)
    }

    /// Takes over the routers that only the file beside it has: Traefik reads that one too, and the first definition of a
    /// name counts.
    pub fn cover(&mut self, beside: &Object) {
        for protocol in beside.keys() {
            let routers = self.sections.get_mut(protocol);
            let routers = routers.and_then(|own| own.get_mut("routers"));
            let Some(routers) = routers.and_then(Value::as_object_mut) else {
                continue;
            };
            // A second router of the same rule changes nothing.
            let Some(same) = routers.values().next().cloned() else {
                continue;
            };
            for name in names(beside, protocol, "routers") {
                routers.entry(name).or_insert_with(|| same.clone());
            }
        }
    }

    /// The names of one kind in one protocol's section.
    pub fn names(&self, protocol: &str, kind: &str) -> Vec<String> {
        names(&self.sections, protocol, kind)
    }
}

fn names(sections: &Object, protocol: &str, kind: &str) -> Vec<String> {
    let section = |object: &Value| object.get(kind).and_then(Value::as_object).cloned();
    let all = sections.get(protocol).and_then(section);
    all.into_iter().flatten().map(|(name, _)| name).collect()
}

/// A router of the labels that these sections have, and the next ones do not.
pub fn lost_router(sections: &Object, next: &Object) -> Option<String> {
    sections.keys().find_map(|protocol| {
        let kept = names(next, protocol, "routers");
        let mut before = names(sections, protocol, "routers").into_iter();
        before.find(|name| !kept.contains(name) && !is_of_two(name))
    })
}

/// Whether it is the name of a router that stands in for two (see `both`).
fn is_of_two(router: &str) -> bool {
    router.trim_start_matches('~').contains('~')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        arbitrary::{mutated_text, replaced},
        fixtures::{EPOCH, ROLLOUT, meaning, of_0_1_0},
        model::{Goal, Reason},
    };

    fn file(rule: &str) -> PinFile {
        let mut record = Record::new(RolloutId("r1".to_owned()), Phase::Prepared, 7, true);
        record.hides.insert(ContainerId("old".to_owned()));
        let http = json!({"routers": {"web": {"rule": rule}}});
        PinFile {
            record,
            sections: Object::from_iter([("http".to_owned(), http)]),
        }
    }

    #[test]
    fn what_is_written_reads_back_as_it_was() {
        for rule in [
            "Host(`a`)",
            "HostRegexp(`{{{.+}}`)",
            "\u{7f}\u{feff}\"\\\t€",
        ] {
            let text = file(rule).text().unwrap();
            assert_eq!(PinFile::read(&text).unwrap(), file(rule), "{text}");
        }
    }

    #[test]
    fn a_router_of_the_labels_that_the_next_file_lacks_is_named() {
        let (mut one, mut two) = (file("x"), file("y"));
        one.sections["http"]["routers"]["web~admin"] = json!({});
        assert_eq!(lost_router(&one.sections, &two.sections), None);
        two.sections["http"]["routers"] = json!({"other": {}});
        let lost = lost_router(&one.sections, &two.sections);
        assert_eq!(lost.as_deref(), Some("web"));
        assert_eq!(lost_router(&one.sections, &Object::new()), lost);
    }

    #[test]
    fn a_router_that_only_the_file_beside_it_has_is_covered() {
        let mut beside = file("old");
        let sections = &mut beside.sections;
        sections["http"]["routers"]["admin"] = json!({"rule": "admin"});
        sections.insert("tcp".to_owned(), json!({"routers": {"db": {}}}));
        let mut own = file("new");
        own.cover(&beside.sections);
        let new = json!({"rule": "new"});
        let all = json!({"http": {"routers": {"web": new, "admin": new}}});
        assert_eq!(Value::Object(own.sections), all);
    }

    #[test]
    fn a_preview_is_recorded_with_its_rule_and_is_nothing_for_version_0_1_0() {
        let mut own = file("x");
        own.record.phase = Phase::Shifted { step: 1 };
        own.record.preview_by(PreviewRule::Host("a".to_owned()));
        let read = PinFile::read(&own.text().unwrap()).unwrap();
        assert_eq!(read, own);
        assert_eq!(read.record.format, FORMAT);
        assert!(read.record.claim(false).plan.is_preview());
    }

    #[test]
    fn templates_and_yaml_find_nothing_of_theirs_in_it() {
        let text = file("{{{{ env \"SECRET\" }} \u{85}").text().unwrap();
        assert!(!text.contains("{{"), "{text}");
        assert!(text.contains("{\\u007b{\\u007b"), "{text}");
        assert!(text.contains("\\u0085"), "{text}");
    }

    #[test]
    fn a_record_of_a_newer_version_is_refused() {
        let mut newer = file("x");
        newer.record.format = FORMAT + 1;
        assert!(PinFile::read(&newer.text().unwrap()).is_err());
        assert!(PinFile::read("{}").is_err());
    }

    /// The meaning of the claim in a pin file of version 0.1.0, and the replicas that get the traffic.
    fn left_in(phase: &str) -> ((Phase, Vec<String>, Option<Goal>), Vec<String>) {
        let text = of_0_1_0(&format!("pin/{phase}.json"));
        let file = PinFile::read(&text).unwrap();
        assert_eq!(file.text().unwrap(), text);
        let record = &file.record;
        assert_eq!((record.rollout.0.as_str(), record.epoch), (ROLLOUT, EPOCH));
        assert!(record.pins && record.claim(true).stale);
        let services = file.names("http", "services");
        assert_eq!(services, ["rollout.shop.web.web"]);
        let shown = record.shows.keys().map(|id| id.0[..2].to_owned());
        (meaning(record.claim(false)), shown.collect())
    }

    #[test]
    fn each_file_of_version_0_1_0_is_read_and_continued_as_it_was_meant() {
        let names = |names: [&str; 2]| Vec::from(names.map(str::to_owned));
        let undo = || Some(Goal::Undo(Reason::Unfinished));
        let (old, new) = (|| names(["a1", "a2"]), || names(["b1", "b2"]));
        let hold = (Phase::Prepared, new(), undo());
        assert_eq!(left_in("hold"), (hold, old()));
        let cutover = (Phase::Committed, old(), Some(Goal::Finish));
        assert_eq!(left_in("cutover"), (cutover, new()));
        let back = (Phase::RolledBack, new(), undo());
        assert_eq!(left_in("back"), (back, old()));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_reads_back_as_it_was_without_a_template(
            value in replaced(json!(file("Host(`a`) {{{"))), noise in mutated_text("{\"rollout\": {}}"),
        ) {
            for text in [value.to_string(), noise] {
                if let Ok(read) = PinFile::read(&text) {
                    let written = read.text().unwrap();
                    prop_assert!(!written.contains("{{"), "{}", written);
                    prop_assert_eq!(PinFile::read(&written).unwrap(), read);
                }
            }
        }
    }
}
