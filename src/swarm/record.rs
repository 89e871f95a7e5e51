//! The records of a Swarm service: its revisions, which of them runs, and the rollouts that have failed.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{live::Live, reduce::KEPT, run::READING, tasks::hash};
use crate::{
    docker::engine::swarm::{ServiceSpec, Swarm},
    error::{Error, Result},
    model::ServiceKey,
    retry,
    settings::Strategy,
    state::{
        journal::Intent,
        owner,
        revisions::{ImageRecord, Revision, Revisions},
        store,
    },
    yaml,
};

/// The way of a version that has no twin.
pub const BY_SWARM: &str = "Swarm's own update";
/// The author shown for a version that `docker stack deploy` has started.
const FOUND: &str = "docker stack deploy";

/// The newest revision of what runs.
pub fn recorded<'a>(revisions: &'a Revisions, spec: &ServiceSpec) -> Option<&'a Revision> {
    let hash = hash(spec);
    let mut newest_first = revisions.list.iter().rev();
    newest_first.find(|own| own.hash == hash)
}

/// The configs and secrets that a service has: `configs/NAME=ID secrets/NAME=ID`.
fn contents(spec: &ServiceSpec) -> String {
    let container = &spec.task_template["ContainerSpec"];
    let of = |part: &str, kind: &str| -> Vec<String> {
        let all = container[format!("{kind}s")].as_array();
        let field = |own: &Value, name: &str| {
            let value = own[format!("{kind}{name}")].as_str();
            value.map(str::to_owned)
        };
        let entry = |own| {
            Some(format!(
                "{part}/{}={}",
                field(own, "Name")?,
                field(own, "ID")?
            ))
        };
        all.into_iter().flatten().filter_map(entry).collect()
    };
    let [configs, secrets] = KEPT;
    [of(configs, "Config"), of(secrets, "Secret")]
        .concat()
        .join(" ")
}

/// The image by its name, and `name@sha256:…` where Swarm has found its digest.
fn image_record(image: &str) -> ImageRecord {
    let (reference, digest) = image.split_once('@').unwrap_or((image, ""));
    let (repository, _) = match reference.rsplit_once(':') {
        Some(parts) if !parts.1.contains('/') => parts,
        _ => (reference, ""),
    };
    let digest = (!digest.is_empty()).then(|| format!("{repository}@{digest}"));
    ImageRecord {
        reference: reference.to_owned(),
        digests: digest.into_iter().collect(),
        ..ImageRecord::default()
    }
}

/// Refuses a revision that needs a config or a secret which the Swarm no longer has: it would not be the same version.
pub async fn refuse_gone(swarm: &Swarm, key: &ServiceKey, back: &Revision) -> Result<()> {
    let mut there = BTreeMap::new();
    for kind in KEPT {
        let ids = swarm.ids(kind).await.map_err(Error::untouched)?.into_iter();
        there.extend(ids.map(|(name, id)| (format!("{kind}/{name}"), id)));
    }
    let Some(gone) = gone(&read(back)?, &back.digest, &there) else {
        return Ok(());
    };
    let ServiceKey { project, service } = key;
    let (kind, name) = gone.split_once("s/").unwrap_or(("", &gone));
    Err(Error::refused(format!(
        "revision {} of {service} has the {kind} {name}, which the Swarm does not have any more as it was",
        back.number
    ))
    .hint(format!(
        "choose another revision: rollout history {service} -p {project}; or roll a stack file that has the earlier content under a new name"
    )))
}

/// What is uncertain about a revision whose image has no digest.
pub fn uncertain(back: &Revision) -> Option<String> {
    let (number, image) = (back.number, &back.image);
    image.digests.is_empty().then(|| {
        format!(
            "revision {number} has no digest: each node takes what {} is there now",
            image.reference
        )
    })
}

/// The stack file of a revision.
pub fn read(back: &Revision) -> Result<Value> {
    yaml::parse(&back.config).map_err(|error| {
        Error::refused(format!("revision {} cannot be read: {error}", back.number))
    })
}

/// The first of its configs and secrets that is not there, or is another one than `recorded`.
fn gone(config: &Value, recorded: &str, there: &BTreeMap<String, String>) -> Option<String> {
    let mut names = KEPT.iter().flat_map(|kind| {
        let all = config[*kind].as_object().into_iter().flatten();
        all.filter_map(move |(_, own)| Some(format!("{kind}/{}", own["name"].as_str()?)))
    });
    let recorded: BTreeMap<&str, &str> = recorded
        .split(' ')
        .filter_map(|own| own.split_once('='))
        .collect();
    names.find(
        |name| match (there.get(name), recorded.get(name.as_str())) {
            (None, _) => true,
            (Some(id), Some(then)) => id != then,
            // Which one it was is not recorded of what ran before the first rollout.
            (Some(_), None) => false,
        },
    )
}

impl Live<'_> {
    /// Every record of the service.
    pub async fn revisions(&self) -> Result<Revisions> {
        let read = || store::read(self.engine, &self.lock.id, self.key);
        let files = retry::for_a_while(READING, read).await;
        let revisions = Revisions::read(&files.map_err(Error::untouched)?);
        for trouble in &revisions.trouble {
            self.events.notice(trouble.clone());
        }
        Ok(revisions)
    }

    /// A revision of this run. What Swarm makes of it is known at the end.
    pub fn begun(&self, number: u64, proxy: String) -> Revision {
        Revision {
            number,
            rollout: self.rollout.0.clone(),
            at: self.lock.epoch,
            who: owner::who(),
            image: image_record(self.wanted.image()),
            replicas: self.replicas,
            proxy,
            strategy: Strategy::BlueGreen.name().to_owned(),
            undo_to: self.back.map(|back| back.number),
            ..Revision::default()
        }
    }

    /// Records what runs before the rollout, unless it is recorded already. No file describes it.
    pub async fn adopt(&self, revisions: &mut Revisions, runs: &ServiceSpec) {
        if recorded(revisions, runs).is_some() {
            return;
        }
        let found = Revision {
            rollout: "found".to_owned(),
            who: FOUND.to_owned(),
            found: true,
            undo_to: None,
            ..self.begun(revisions.next(&[]), BY_SWARM.to_owned())
        };
        let found = self.described(found, runs);
        self.record(revisions, found).await;
    }

    /// The revision as Swarm has it.
    fn described(&self, revision: Revision, spec: &ServiceSpec) -> Revision {
        let stack = &self.key.project;
        let config = match revision.found {
            true => self.wanted.found(stack, spec),
            false => self.wanted.recorded(stack, spec.image()),
        };
        Revision {
            image: image_record(spec.image()),
            hash: hash(spec),
            digest: match revision.found {
                // Those of the file may be other ones than those that ran.
                true => String::new(),
                false => contents(spec),
            },
            config: yaml::write(&config).unwrap_or_default(),
            ..revision
        }
    }

    /// Records what was deployed. Swarm has it too, so a record that cannot be written is a notice.
    async fn record(&self, revisions: &mut Revisions, revision: Revision) {
        let path = revision.path(revisions, self.lock.epoch);
        let written = store::write(self.engine, &self.lock.id, self.key, &path, &revision);
        if let Err(error) = written.await {
            self.not_recorded(revision.number, &error);
        }
        revisions.add(revision);
    }

    /// Records the revision that this run has made, as the service runs now.
    pub async fn note_success(
        &self,
        revisions: &mut Revisions,
        begun: Revision,
        runs: Result<ServiceSpec>,
    ) {
        match runs {
            Ok(spec) => {
                let at = self.engine.clock_ms().await;
                let revision = self.described(Revision { at, ..begun }, &spec);
                self.record(revisions, revision).await;
            }
            Err(error) => self.not_recorded(begun.number, &error),
        }
    }

    fn not_recorded(&self, number: u64, error: &Error) {
        self.events.notice(format!(
            "revision {number} is not recorded, so undo will not find it: {}",
            error.message
        ));
    }

    /// Records that this run has made no revision.
    pub async fn note_failure(&self, begun: Revision, error: &Error) {
        let intent = Intent {
            revision: begun,
            ..Intent::default()
        };
        let intent = intent.ended(error);
        let path = intent.end_path();
        let written = store::write(self.engine, &self.lock.id, self.key, &path, &intent);
        if let Err(error) = written.await {
            tracing::info!(%error, "the end of the rollout is not noted down");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::tasks::FILE_IMAGE, *};

    fn spec(image: &str, label: &str, replicas: u64) -> ServiceSpec {
        let value = json!({
            "Name": "shop_web", "Labels": {"traefik.enable": label, FILE_IMAGE: label},
            "Mode": {"Replicated": {"Replicas": replicas}},
            "TaskTemplate": {"ForceUpdate": replicas, "ContainerSpec": {
                "Image": image,
                "Configs": [{"ConfigName": "shop_a", "ConfigID": "1"}],
                "Secrets": [{"SecretName": "shop_b", "SecretID": "2"}],
            }},
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn versions_differ_by_tasks_and_labels_and_neither_by_the_number_of_tasks_nor_by_the_name_in_the_file()
     {
        let own = hash(&spec("app:v1", "true", 1));
        assert_eq!(hash(&spec("app:v1", "true", 2)), own);
        let mut undone = spec("app:v1", "true", 1);
        let name = "app:v1@sha256:1".to_owned();
        undone.labels.insert(FILE_IMAGE.to_owned(), name);
        assert_eq!(hash(&undone), own);
        assert_ne!(hash(&spec("app:v2", "true", 1)), own);
        assert_ne!(hash(&spec("app:v1", "false", 1)), own);
    }

    #[test]
    fn a_version_is_recorded_if_a_revision_has_its_hash() {
        let own = spec("app:v1", "true", 1);
        let mut revisions = Revisions::default();
        revisions.add(Revision {
            number: 1,
            hash: hash(&own),
            ..Revision::default()
        });
        assert!(recorded(&revisions, &own).is_some());
        assert!(recorded(&revisions, &spec("app:v2", "true", 1)).is_none());
    }

    #[test]
    fn an_image_is_recorded_by_its_name_and_by_its_digest() {
        let of = |image: &str| {
            let own = image_record(image);
            (own.reference, own.digests.join(" "))
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(of("app:v1"), pair("app:v1", ""));
        let digest = of("r:5000/app:v1@sha256:1");
        assert_eq!(digest, pair("r:5000/app:v1", "r:5000/app@sha256:1"));
        let untagged = of("r:5000/app@sha256:1");
        assert_eq!(untagged, pair("r:5000/app", "r:5000/app@sha256:1"));
    }

    #[test]
    fn a_revision_without_a_digest_may_be_another_image_on_each_node() {
        let of = |image: &str| {
            uncertain(&Revision {
                number: 3,
                image: image_record(image),
                ..Revision::default()
            })
        };
        assert_eq!(of("app:v1@sha256:1"), None);
        let said = "revision 3 has no digest: each node takes what app:v1 is there now";
        assert_eq!(of("app:v1").as_deref(), Some(said));
    }

    #[test]
    fn a_config_or_secret_that_is_not_there_or_is_another_one_is_named() {
        let digest = contents(&spec("app:v1", "true", 1));
        assert_eq!(digest, "configs/shop_a=1 secrets/shop_b=2");
        let named = |name: &str| json!({"k": {"external": true, "name": name}});
        let config = json!({"configs": named("shop_a"), "secrets": named("shop_b")});
        let there = |config: &str, secret: &str| -> BTreeMap<String, String> {
            let all = [("configs/shop_a", config), ("secrets/shop_b", secret)];
            let all = all.iter().filter(|(_, id)| !id.is_empty());
            all.map(|(name, id)| ((*name).to_owned(), (*id).to_owned()))
                .collect()
        };
        let judge = |recorded: &str, there| gone(&config, recorded, &there);
        assert_eq!(judge(&digest, there("1", "2")), None);
        let secret = Some("secrets/shop_b".to_owned());
        assert_eq!(judge(&digest, there("1", "3")), secret);
        assert_eq!(judge(&digest, there("1", "")), secret);
        assert_eq!(judge("", there("1", "3")), None);
        assert_eq!(judge("", there("1", "")), secret);
    }
}
