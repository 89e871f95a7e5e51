//! The revisions that have served: one record each, from which the revision can be created again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::store::File;
use crate::{figures::Spans, model::Replica, variables::Variables};

/// The folder of these records below a service's.
pub const FOLDER: &str = "revisions";

/// One version of a service, as it was rolled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// From 1 on, in the order of their rollouts.
    pub number: u64,
    /// The rollout that made it.
    pub rollout: String,
    /// When, in milliseconds since 1970 by the engine's clock.
    pub at: u64,
    /// `user@host`.
    pub who: String,
    pub image: ImageRecord,
    /// The version of Compose that made it.
    pub compose: String,
    pub hash: String,
    /// Our digest of the contents of its configs and secrets; empty where it has none.
    pub digest: String,
    pub replicas: u32,
    /// The output of `docker compose config SERVICE`: a Compose file of its own.
    pub config: String,
    pub proxy: String,
    pub strategy: String,
    /// The revision that an undo restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo_to: Option<u64>,
    /// The revision that a restart rolled again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_of: Option<u64>,
    /// It ran before the first rollout and was recorded as found.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub found: bool,
    /// Its configuration was read from its containers, so Compose would hash it differently.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_containers: bool,
    /// Properties of its containers that no Compose file can express; it cannot be created again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
    /// How the old and the new replicas answered during its rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub figures: Option<Spans>,
    /// What its rollout has changed in an environment file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variables: Option<Variables>,
}

/// The image of a revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// As the Compose file names it.
    pub reference: String,
    /// `sha256:…`, as the engine names it.
    pub id: String,
    /// `repository@sha256:…`, as registries name it; none for what was only built.
    pub digests: Vec<String>,
    /// The name under which it is kept.
    pub kept: String,
    /// Of its layers and its config; empty where that is unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub content: String,
}

/// Every revision of a service that could be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Revisions {
    /// In the order of their numbers.
    pub list: Vec<Revision>,
    /// What could not be read and is recorded nowhere else, a few words each.
    pub trouble: Vec<String>,
    paths: BTreeSet<String>,
    /// The highest number in use, also by what cannot be read.
    highest: u64,
}

impl Revision {
    /// The path of its file, new each time. `epoch` distinguishes a second record if the first cannot be read.
    pub fn path(&self, taken: &Revisions, epoch: u64) -> String {
        let path = format!("{FOLDER}/{}-{}.json", self.number, self.rollout);
        match taken.paths.contains(&path) {
            true => self.new_path(epoch),
            false => path,
        }
    }

    /// A path that does not exist yet.
    pub fn new_path(&self, epoch: u64) -> String {
        format!("{FOLDER}/{}-{}-{epoch:x}.json", self.number, self.rollout)
    }

    /// Whether a replica runs this content.
    pub fn is_run_by(&self, replica: &Replica) -> bool {
        let digest = replica.digest.as_deref();
        self.image.id == replica.image
            && self.hash == replica.hash
            && digest.is_none_or(|digest| digest == self.digest)
    }

    pub fn note(&self) -> String {
        match (self.undo_to, self.restart_of, self.found) {
            (Some(to), _, _) => format!("undo to {to}"),
            (None, Some(of), _) => format!("restart of {of}"),
            (None, None, true) => "as it was found".to_owned(),
            (None, None, false) => String::new(),
        }
    }

    /// The revision whose content it has, by an undo or a restart.
    pub fn copies(&self) -> Option<u64> {
        self.undo_to.or(self.restart_of)
    }
}

impl Revisions {
    /// Reads the records among a service's files; of several for one number the newest counts.
    pub fn read(files: &[File]) -> Self {
        let mut all = BTreeMap::<u64, Revision>::new();
        let mut read = Self::default();
        let mut trouble = Vec::new();
        for file in files.iter().filter(|file| is_revision(file)) {
            let number = number_in(&file.path).unwrap_or(0);
            read.highest = read.highest.max(number);
            read.paths.insert(file.path.clone());
            match file.entry::<Revision>() {
                Ok(revision) => {
                    let known = all.get(&revision.number);
                    if known.is_none_or(|known| known.at <= revision.at) {
                        all.insert(revision.number, revision);
                    }
                }
                Err(why) => trouble.push((number, why)),
            }
        }
        trouble.retain(|(number, _)| !all.contains_key(number));
        read.trouble = trouble.into_iter().map(|(_, why)| why).collect();
        read.list = all.into_values().collect();
        read
    }

    /// The revision of this number.
    pub fn get(&self, number: u64) -> Option<&Revision> {
        self.list.iter().find(|own| own.number == number)
    }

    pub fn last(&self) -> Option<&Revision> {
        self.list.last()
    }

    /// The newest one before the one that runs, with another content than what runs.
    pub fn earlier(
        &self,
        running: Option<u64>,
        is_run: impl Fn(&Revision) -> bool,
    ) -> Option<&Revision> {
        let running = running.unwrap_or(u64::MAX);
        let mut newest_first = self.list.iter().rev();
        newest_first.find(|own| own.number < running && !is_run(own))
    }

    /// What a return from one revision to an earlier one changes in an environment file.
    pub fn variables_back(&self, from: u64, to: u64) -> Option<Variables> {
        let left = self.list.iter();
        let left = left.filter(|own| own.number > to && own.number <= from);
        let left: Vec<&Variables> = left.filter_map(|own| own.variables.as_ref()).collect();
        Variables::back(&left)
    }

    pub fn add(&mut self, revision: Revision) {
        self.highest = self.highest.max(revision.number);
        self.list.retain(|own| own.number != revision.number);
        self.list.push(revision);
        self.list.sort_by_key(|own| own.number);
    }

    /// The number of the next: Compose's own replicas count as revision 1.
    pub fn next(&self, replicas: &[Replica]) -> u64 {
        let labelled = replicas.iter().filter_map(|replica| replica.revision);
        let highest = self.highest.max(labelled.max().unwrap_or(0));
        highest
            .max(u64::from(!replicas.is_empty()))
            .saturating_add(1)
    }

    /// What runs: by the label of the replicas, else by what they run.
    pub fn running(&self, replicas: &[Replica]) -> Option<u64> {
        let labelled = replicas.iter().filter_map(|replica| replica.revision).max();
        labelled.or_else(|| {
            let replica = replicas.first()?;
            let same = self.list.iter().rev();
            same.into_iter()
                .find(|own| own.is_run_by(replica))
                .map(|own| own.number)
        })
    }

    /// The revisions whose image tag is removed if `keep` images are kept; each image keeps one tag.
    pub fn beyond(&self, keep: usize) -> Vec<&Revision> {
        let mut images = BTreeSet::new();
        let newest_first = self.list.iter().rev();
        let goes = newest_first.filter(|own| {
            let is_new = images.insert(&own.image.id);
            !is_new || images.len() > keep
        });
        goes.collect()
    }
}

fn is_revision(file: &File) -> bool {
    file.path
        .strip_prefix(FOLDER)
        .is_some_and(|rest| rest.starts_with('/') && rest.ends_with(".json"))
}

/// The number in the name of a file, which counts even where the file cannot be read.
fn number_in(path: &str) -> Option<u64> {
    let (_, name) = path.rsplit_once('/')?;
    name.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
#[path = "revisions_tests.rs"]
mod tests;
