//! Pin: routed by a file of Traefik's file provider, for Traefiks that read the engine's socket themselves.

pub mod balancer;
pub mod content;
pub mod default_rule;
pub mod definition;
pub mod directory;
pub mod naming;
pub mod priority;
pub mod record;
mod release;
pub mod server;
pub mod setup;
pub mod sides;
pub mod tree;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;

use self::{
    content::{Content, Pinned, content},
    default_rule::DefaultRules,
    directory::Directory,
    naming::Prefix,
    record::{PinFile, Record},
    server::Reach,
    sides::Sides,
};
use super::{
    all_names,
    api::{Api, Servers, pinned::PinnedName},
    checks,
    discover::{Lookout, Wanted},
    names::{self, Protocol},
    observation,
    others::Others,
    ports, refuse, switch_delay,
};
use crate::{
    context::ServiceContext,
    engine::{Engine, Image},
    error::{Error, Result},
    model::{Claim, Phase, Replica, RolloutId, ServiceKey, Share},
    namespace::traffic::Protocol as Spoken,
    overlay::Labels,
    proxy::{Capabilities, Observation, Router, ServiceCheck, combine},
    settings::Settings,
    state::Lock,
    watch::Role,
};

/// Every Traefik that routes to one service, and the directories that their file providers watch.
pub struct Pin {
    engine: Engine,
    key: ServiceKey,
    settings: Settings,
    epoch: u64,
    /// The version that is wanted, and the replicas before it: which Traefiks have to do with them.
    wanted: Wanted,
    fronts: Vec<Front>,
    places: Vec<Watched>,
    /// `None` where the operator has named the APIs.
    lookout: Option<Lookout>,
    others: Others,
}

/// One Traefik.
struct Front {
    api: Arc<Api>,
    /// Its directory; `None` where its API was named, and may be that of any.
    place: Option<usize>,
    /// It did not know the service when the rollout began: it may belong to somebody else.
    stranger: bool,
}

/// One directory.
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

    /// Adds Traefiks that have come or moved, and removes those that do not run any more.
    async fn look_around(&mut self) -> Result<()> {
        let Some(lookout) = &self.lookout else {
            return Ok(());
        };
        let known = self.fronts.iter().map(|own| own.api.identity.clone());
        let Some(view) = lookout.look(&known.flatten().collect()).await? else {
            return Ok(());
        };
        self.fronts
            .retain(|front| view.running.contains(&front.api.name));
        for traefik in &view.fresh {
            let mut fronts = self.fronts.iter();
            match fronts.position(|front| front.api.name == traefik.name) {
                Some(at) => {
                    self.fronts[at].api = traefik.api(&self.engine, &self.settings).await?;
                }
                // What it lists shows whether it is in front of this service at all.
                None if setup::is_concerned(traefik) => self.take_in(traefik, true).await?,
                None => {}
            }
        }
        if let Some(lookout) = &mut self.lookout {
            lookout.keep(&view);
        }
        Ok(())
    }

    /// Finds the Traefiks anew at the next look.
    fn expire(&mut self) {
        if let Some(lookout) = &mut self.lookout {
            lookout.expire();
        }
    }

    /// What a Traefik says of the service: by the pin where there is one, else by its Docker provider.
    async fn ask(&self, front: &Front, replicas: &[Replica]) -> Result<Servers> {
        match self.pin_of(front) {
            Some(file) => {
                let (services, routers) = pinned_names(&self.prefix(), file);
                front.api.pinned(&services, &routers).await
            }
            None => front.api.servers(&all_names(replicas)).await,
        }
    }

    fn pin_of(&self, front: &Front) -> Option<&PinFile> {
        let place = match front.place {
            Some(at) => self.places.get(at),
            None => self.places.iter().find(|place| place.pins()),
        };
        place?.file.as_ref().filter(|file| file.record.pins)
    }

    /// Whether a Traefik that reads from there routes to the service now.
    async fn is_known_at(&self, at: usize, replicas: &[Replica]) -> Result<bool> {
        let names = all_names(replicas);
        for front in &self.fronts {
            if front.place.is_some_and(|own| own != at) {
                continue;
            }
            let servers = front.api.servers(&names).await?;
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
        let names: Vec<&str> = self
            .fronts
            .iter()
            .map(|own| own.api.name.as_str())
            .collect();
        format!("Traefik ({}) by a pin file", names.join(", "))
    }

    fn routes(&self) -> bool {
        true
    }

    fn routed_ports(&self, replica: &Replica) -> BTreeMap<u16, Spoken> {
        ports::routed(&replica.labels, &replica.ports)
    }

    fn only_datagrams(&self, replica: &Replica) -> bool {
        names::only_datagrams(&replica.labels)
    }

    fn refuse_version(&self, context: &ServiceContext<'_>, image: &Image) -> Result<()> {
        refuse::ports(context, image)
    }

    fn checks(&self, labels: &Labels, ports: &[u16]) -> Vec<ServiceCheck> {
        checks::checks(labels, ports)
    }

    fn containers(&self) -> Vec<(String, Role)> {
        let fronts = self.fronts.iter();
        fronts.flat_map(|front| front.api.containers()).collect()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            hold_reroutes: true,
            weights: false,
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
        Api::held_back(self.fronts.iter().map(|own| &*own.api))
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
        let apis: Vec<&Api> = self.fronts.iter().map(|front| front.api.as_ref()).collect();
        let notice = self.others.note(&apis, &claim.rollout).await;
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
        self.expire();
        Ok(notice)
    }

    async fn release(&mut self, _: &RolloutId, replicas: &[Replica]) -> Result<()> {
        self.give_up(replicas).await
    }

    async fn switch_delay(&mut self, replicas: &[Replica]) -> Duration {
        let names = all_names(replicas);
        switch_delay(self.fronts.iter().map(|front| &*front.api), &names).await
    }

    async fn observed(&mut self, replicas: &[Replica]) -> Option<Observation> {
        self.look_around().await.ok()?;
        let mut answers = Vec::new();
        for front in &self.fronts {
            match self.ask(front, replicas).await {
                Ok(servers) => answers.push((front.stranger, servers)),
                Err(error) => {
                    tracing::debug!(%error, "cannot tell");
                    self.expire();
                    return None;
                }
            }
        }
        // A stranger that still does not know the service has no say, as long as somebody else does.
        let known = |servers: &Servers| !servers.services.is_empty();
        if answers.iter().any(|(_, servers)| known(servers)) {
            answers.retain(|(stranger, servers)| !stranger || known(servers));
        }
        let answers = answers.into_iter().map(|(_, servers)| servers).collect();
        let mut observation = observation(replicas, answers);
        self.excuse_the_starting(replicas, &mut observation);
        if observation.is_decided(replicas) {
            let apis: Vec<&Api> = self.fronts.iter().map(|front| front.api.as_ref()).collect();
            observation.lost = self.others.lost(&apis, &[]).await.ok()?;
        }
        Some(observation)
    }
}

impl Pin {
    /// An old replica that Docker still waits for was not routed to before either: a hold does not begin with it.
    fn excuse_the_starting(&self, replicas: &[Replica], observation: &mut Observation) {
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
