//! Pin: the router that moves traffic by a file of Traefik's file provider, where Traefik reads the engine's socket itself.

mod balancer;
mod content;
mod default_rule;
mod definition;
mod directory;
mod naming;
mod priority;
mod record;
mod release;
mod server;
mod setup;
mod sides;
mod tree;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;

pub use self::setup::watched_directory;
pub(super) use self::setup::{is_left, pin};
use self::{
    content::{Content, Pinned, content},
    default_rule::DefaultRules,
    directory::Directory,
    record::{PinFile, Record},
    server::Reach,
    sides::Sides,
};
use super::{
    api::{PinnedName, Prefix, Servers, observation},
    config::TraefikContainer,
    discover::{Instance, Instances, Wanted},
    labels::{Protocol, TraefikLabels, all_names},
};
use crate::{
    docker::{engine::Engine, watch::Role},
    error::{Error, Result},
    model::{Claim, Phase, Replica, RolloutId, ServiceKey, Share},
    proxy::{Capabilities, LabelRules, Observation, Router, combine},
    settings::Settings,
    state::Lock,
};

/// Every Traefik that routes to one service, and the directories that their file providers watch.
pub struct Pin {
    engine: Engine,
    key: ServiceKey,
    settings: Settings,
    epoch: u64,
    /// The version that is wanted, and the replicas before it: which Traefiks have to do with them.
    wanted: Wanted,
    /// Each with the index of its directory; `None` where its API was named, and may be that of any.
    pub(super) instances: Instances<Option<usize>>,
    places: Vec<Watched>,
}

struct Watched {
    directory: Directory,
    reach: Reach,
    rules: DefaultRules,
    /// The pin file as it was last read or written.
    file: Option<PinFile>,
}

impl Watched {
    fn pins(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.record.pins)
    }

    fn content(&self, key: &ServiceKey, sides: &Sides<'_>) -> Result<Content> {
        let rules = |labels: &BTreeMap<String, String>, router: &str| self.rules.of(labels, router);
        content(&Pinned {
            key,
            live: &sides.live,
            shown: &sides.shown(&rules),
            other: &sides.other(&rules),
            other_is_there: sides.other_is_there,
            reach: &self.reach,
        })
    }
}

impl Pin {
    fn prefix(&self) -> Prefix {
        Prefix::of(&self.key)
    }

    fn file_name(&self) -> String {
        self.prefix().file()
    }

    /// Reads the pin file of every directory.
    async fn read(&mut self) -> Result<()> {
        let name = self.file_name();
        for place in &mut self.places {
            let text = place.directory.read(&name).await?;
            place.file = text.as_deref().map(PinFile::read).transpose()?;
        }
        Ok(())
    }

    /// Whether what a file shows is not where it was: a replica has come back with another address, or has fallen ill.
    fn is_stale(&self, place: &Watched, replicas: &[Replica]) -> bool {
        let Some(file) = place.file.as_ref().filter(|file| file.record.pins) else {
            return false;
        };
        let (news, olds): (Vec<&Replica>, Vec<&Replica>) = replicas
            .iter()
            .partition(|own| own.rollout.as_ref() == Some(&file.record.rollout));
        let sides = Sides::of(file.record.phase, (&news, &olds), &self.wanted.labels);
        match place.content(&self.key, &sides) {
            Ok(now) => now.shows != file.record.shows && !sides.live.is_empty(),
            Err(_) => false,
        }
    }

    /// Finds the Traefiks again, and the directory of each new one.
    async fn refresh(&mut self) -> Result<()> {
        let (engine, places) = (&self.engine, &mut self.places);
        let join = async |traefik: &TraefikContainer| match setup::is_concerned(traefik) {
            true => setup::place(engine, places, traefik)
                .await
                .map(|at| Some(Some(at))),
            false => Ok(None),
        };
        self.instances.refresh(join).await
    }

    /// What a Traefik says of the service: by the pin where there is one, else by its Docker provider.
    async fn ask(&self, own: &Instance<Option<usize>>, replicas: &[Replica]) -> Result<Servers> {
        match self.pin_of(own) {
            Some(file) => {
                let (services, routers) = pinned_names(&self.prefix(), file);
                own.api.pinned(&services, &routers).await
            }
            None => own.api.servers(&all_names(replicas)).await,
        }
    }

    fn pin_of(&self, own: &Instance<Option<usize>>) -> Option<&PinFile> {
        let place = match own.note {
            Some(at) => self.places.get(at),
            None => self.places.iter().find(|place| place.pins()),
        };
        place?.file.as_ref().filter(|file| file.record.pins)
    }

    /// Whether a Traefik that reads from there routes to the service now.
    async fn is_known_at(&self, at: usize, replicas: &[Replica]) -> Result<bool> {
        let names = all_names(replicas);
        for own in &self.instances.all {
            if own.note.is_some_and(|own| own != at) {
                continue;
            }
            let servers = own.api.servers(&names).await?;
            if servers.services.values().any(|hosts| !hosts.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn refuse_newer(&self) -> Result<()> {
        let records = self
            .places
            .iter()
            .filter_map(|place| Some(&place.file.as_ref()?.record));
        let newer = |record: &&Record| record.epoch > self.epoch;
        match records.into_iter().find(newer) {
            None => Ok(()),
            Some(record) => Err(Error::failed(format!(
                "the rollout {} of {} has been taken over by a later run",
                record.rollout, self.key
            ))),
        }
    }
}

#[async_trait(?Send)]
impl Router for Pin {
    fn name(&self) -> &'static str {
        "Traefik"
    }

    fn describe(&self) -> String {
        format!("Traefik ({}) by a pin file", self.instances.names())
    }

    fn routes(&self) -> bool {
        true
    }

    fn labels(&self) -> &'static dyn LabelRules {
        &TraefikLabels
    }

    fn containers(&self) -> Vec<(String, Role)> {
        self.instances.containers().collect()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            hold_reroutes: true,
            ..Capabilities::default()
        }
    }

    async fn claim(&mut self, replicas: &[Replica]) -> Result<Option<Claim>> {
        self.read().await?;
        let places = self.places.iter();
        let mut claims = Vec::new();
        for place in places {
            let stale = self.is_stale(place, replicas);
            claims.push(place.file.as_ref().map(|file| file.record.claim(stale)));
        }
        Ok(combine(claims))
    }

    fn held_back(&self) -> Duration {
        self.instances.held_back()
    }

    async fn fence(&mut self, _: &Lock) -> Result<()> {
        self.read().await?;
        self.refuse_newer()?;
        let name = self.file_name();
        for place in &mut self.places {
            if let Some(file) = &mut place.file {
                file.record.epoch = self.epoch;
                place.directory.write(&name, &file.text()?).await?;
            }
        }
        Ok(())
    }

    async fn apply(&mut self, claim: &Claim, replicas: &[Replica]) -> Result<Option<String>> {
        self.read().await?;
        self.refuse_newer()?;
        // A pin does not hide the new replicas' labels from Docker's provider: what they take away goes as they start.
        let notice = self.instances.note_others(&claim.rollout).await;
        // Before the write: one that reports a failure may have taken effect.
        self.instances.expire();
        let is_new = |own: &&Replica| own.rollout.as_ref() == Some(&claim.rollout);
        let (news, olds): (Vec<&Replica>, Vec<&Replica>) = replicas.iter().partition(is_new);
        let name = self.file_name();
        let sides = Sides::of(claim.phase, (&news, &olds), &self.wanted.labels);
        for at in 0..self.places.len() {
            let own = self.places[at].file.as_ref().map(|file| &file.record);
            let own = own.filter(|record| record.rollout == claim.rollout);
            let pins = match own {
                Some(record) => record.pins,
                None => self.is_known_at(at, replicas).await?,
            };
            let place = &mut self.places[at];
            let made = match pins {
                true => place.content(&self.key, &sides)?,
                false => Content::default(),
            };
            let mut record = Record::new(claim.rollout.clone(), claim.phase, self.epoch, pins);
            record.shows = made.shows;
            if claim.phase == Phase::Committed {
                record.hides = olds.iter().map(|old| old.id.clone()).collect();
            }
            let file = PinFile {
                record,
                sections: made.sections,
            };
            place.directory.write(&name, &file.text()?).await?;
            place.file = Some(file);
        }
        Ok(notice)
    }

    async fn release(&mut self, _: &RolloutId, replicas: &[Replica]) -> Result<()> {
        self.give_up(replicas).await
    }

    async fn switch_delay(&mut self, replicas: &[Replica]) -> Duration {
        self.instances.switch_delay(replicas).await
    }

    async fn observed(&mut self, replicas: &[Replica]) -> Option<Observation> {
        self.refresh().await.ok()?;
        let ask = async |own: &Instance<Option<usize>>| self.ask(own, replicas).await;
        let answers = self.instances.answers(ask).await?;
        let mut seen = observation(replicas, answers);
        self.treat_starting_as_live(replicas, &mut seen);
        self.instances.with_lost(seen, replicas, &[]).await
    }
}

impl Pin {
    /// An old replica that Docker still waits for was not routed to before either: a hold does not begin with it.
    fn treat_starting_as_live(&self, replicas: &[Replica], observation: &mut Observation) {
        let held = self.places.iter().filter_map(|place| {
            let record = &place.file.as_ref()?.record;
            let holds = record.phase.keeps_old();
            (holds && record.pins).then_some(record)
        });
        for record in held {
            let old = |own: &&Replica| own.rollout.as_ref() != Some(&record.rollout);
            let left_out = |own: &&Replica| !record.shows.contains_key(&own.id) && own.serves();
            for own in replicas.iter().filter(old).filter(left_out) {
                observation.routing.insert(own.id.clone(), Share::Live);
            }
        }
    }
}

/// The services and routers of a pin file, with what the labels call them.
fn pinned_names(prefix: &Prefix, file: &PinFile) -> (Vec<PinnedName>, Vec<PinnedName>) {
    let names = |kind: &str| {
        let of = |protocol: Protocol| {
            let names = file.names(protocol.word(), kind);
            names.into_iter().map(move |full| (protocol, full))
        };
        let all = [Protocol::Http, Protocol::Tcp, Protocol::Udp]
            .into_iter()
            .flat_map(of);
        all.map(|(protocol, full)| PinnedName {
            protocol,
            label: prefix.label(protocol, &full).to_owned(),
            full,
        })
        .collect()
    };
    (names("services"), names("routers"))
}
