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
mod together;
mod tree;

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use async_trait::async_trait;

pub use self::setup::watched_directory;
pub(super) use self::setup::{is_left, pin};
use self::{
    content::{Content, Pinned, content},
    default_rule::DefaultRules,
    directory::Directory,
    record::{PinFile, Record, refuse_newer},
    server::Reach,
    sides::{Sides, is_forward},
    together::Placed,
};
use super::{
    api::{PinnedName, Prefix, Servers, observation},
    config::TraefikContainer,
    discover::{Instance, Instances, Wanted},
    labels::{Protocol, TraefikLabels, all_names, previewed},
    preview::Preview,
};
use crate::{
    docker::{engine::Engine, watch::Role},
    error::{Error, Result},
    model::{Claim, ContainerId, Phase, Replica, RolloutId, ServiceKey, Share},
    overlay::Labels,
    proxy::{Capabilities, LabelRules, NewFile, Observation, Router, Staged, Write, combine},
    settings::{PreviewRule, Settings},
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
    /// Where the files of services that move together go, in each directory.
    shared: Option<String>,
    /// Whether the new version has every router of the old one. A router that it gives up may be taken over by a service
    /// that moves with it, and the copy that covers it would compete for the same requests.
    keeps_routers: bool,
    preview: Preview,
    /// Whether any of them verifies the certificates of servers.
    verifies_servers: bool,
}

struct Watched {
    directory: Rc<Directory>,
    reach: Reach,
    rules: DefaultRules,
    /// The pin file as it was last read or written.
    placed: Option<Placed>,
}

impl Watched {
    fn file(&self) -> Option<&PinFile> {
        self.placed.as_ref().map(|placed| &placed.file)
    }

    fn record(&self) -> Option<&Record> {
        self.file().map(|file| &file.record)
    }

    fn pins(&self) -> bool {
        self.record().is_some_and(|record| record.pins)
    }

    async fn put(&mut self, name: &str, file: PinFile) -> Result<()> {
        let placed = self.directory.put(name, self.placed.as_ref(), file).await?;
        self.placed = Some(placed);
        Ok(())
    }

    fn content(&self, key: &ServiceKey, sides: &Sides<'_>) -> Result<Content> {
        let rules = |labels: &BTreeMap<String, String>, router: &str| self.rules.of(labels, router);
        content(&Pinned {
            key,
            live: &sides.live,
            shown: &sides.shown(&rules),
            other: &sides.other(&rules),
            other_is_there: sides.other_is_there,
            previewed: &sides.previewed,
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
            place.placed = Placed::read(&place.directory, &name).await?;
        }
        Ok(())
    }

    /// Whether what a file shows is not where it was: a replica has come back with another address, or has fallen ill.
    fn is_stale(&self, place: &Watched, replicas: &[Replica]) -> bool {
        let Some(file) = place.file().filter(|file| file.record.pins) else {
            return false;
        };
        let (news, olds): (Vec<&Replica>, Vec<&Replica>) = replicas
            .iter()
            .partition(|own| own.rollout.as_ref() == Some(&file.record.rollout));
        let sides = Sides::of(file.record.phase, (&news, &olds), &self.wanted.labels);
        let sides = sides.with_preview(&news, file.record.preview.as_ref());
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
        place?.file().filter(|file| file.record.pins)
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
        let mut records = self.places.iter().filter_map(Watched::record);
        let of = self.key.to_string();
        records.try_for_each(|record| refuse_newer(record, self.epoch, &of))
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
            joint_cutover: self.keeps_routers
                && self.places.iter().all(|own| own.directory.takes_several()),
            preview: true,
            ..Capabilities::default()
        }
    }

    fn verifies_servers(&self) -> bool {
        self.verifies_servers
    }

    async fn claim(&mut self, replicas: &[Replica]) -> Result<Option<Claim>> {
        self.read().await?;
        let places = self.places.iter();
        let mut claims = Vec::new();
        for place in places {
            let stale = self.is_stale(place, replicas);
            claims.push(place.record().map(|record| record.claim(stale)));
        }
        Ok(combine(claims))
    }

    fn held_back(&self) -> Duration {
        self.instances.held_back()
    }

    fn took(&mut self, span: Duration) {
        self.instances.took(span);
    }

    fn stand(&self) -> Duration {
        self.instances.stand()
    }

    async fn fence(&mut self, _: &Lock) -> Result<()> {
        self.read().await?;
        self.refuse_newer()?;
        let name = self.file_name();
        for place in &mut self.places {
            if let Some(mut file) = place.file().cloned() {
                file.record.epoch = self.epoch;
                place.put(&name, file).await?;
            }
        }
        Ok(())
    }

    async fn apply(&mut self, claim: &Claim, replicas: &[Replica]) -> Result<Option<String>> {
        let (notice, files) = self.files(claim, replicas).await?;
        let name = self.file_name();
        for (place, file) in self.places.iter_mut().zip(files) {
            place.put(&name, file).await?;
        }
        Ok(notice)
    }

    async fn stage(&mut self, claim: &Claim, replicas: &[Replica]) -> Result<Option<Staged>> {
        let (notice, files) = self.files(claim, replicas).await?;
        let name = self.file_name();
        let mut writes = Vec::new();
        for (place, mut file) in self.places.iter().zip(files) {
            if let Some(beside) = place.file().filter(|_| claim.phase == Phase::Committed) {
                file.cover(&beside.sections);
            }
            let (name, text) = (name.clone(), file.text()?);
            writes.push(Write::File {
                directory: place.directory.clone(),
                file: NewFile { name, text },
            });
        }
        Ok(Some(Staged { notice, writes }))
    }

    fn join(&mut self, group: &str) {
        self.shared = Some(together::shared_directory(group));
    }

    fn ways_to_preview(&self) -> Vec<String> {
        let mut ways = self.preview.ways();
        if !ways.is_empty() {
            ways.push(format!(
                "the pin file holds addresses: if a replica or the machine restarts while no rollout runs, run rollout resume {}",
                self.key.service
            ));
        }
        ways
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
        self.preview.labels = self.previewed(replicas);
        let mut seen = observation(replicas, &self.preview.labels, answers);
        self.treat_starting_as_live(replicas, &mut seen);
        self.instances.with_lost(seen, replicas, &[]).await
    }
}

impl Pin {
    /// What the operator has to know of a claim, and its pin file for each directory.
    async fn files(
        &mut self,
        claim: &Claim,
        replicas: &[Replica],
    ) -> Result<(Option<String>, Vec<PinFile>)> {
        self.read().await?;
        self.refuse_newer()?;
        // A pin does not hide the new replicas' labels from Docker's provider: what they take away goes as they start.
        let notice = self.instances.note_others(&claim.rollout).await;
        // Before the write: one that reports a failure may have taken effect.
        self.instances.expire();
        let is_new = |own: &&Replica| own.rollout.as_ref() == Some(&claim.rollout);
        let (news, olds): (Vec<&Replica>, Vec<&Replica>) = replicas.iter().partition(is_new);
        let rule = self.rule_of(claim);
        let sides = Sides::of(claim.phase, (&news, &olds), &self.wanted.labels);
        let sides = sides.with_preview(&news, rule.as_ref());
        let mut files = Vec::new();
        for at in 0..self.places.len() {
            let own = self.places[at].record();
            let own = own.filter(|record| record.rollout == claim.rollout);
            let pins = match own {
                Some(record) => record.pins,
                None => self.is_known_at(at, replicas).await?,
            };
            // Nothing would hide the new replicas.
            if !pins && self.preview.rule.is_some() {
                let service = &self.key.service;
                return Err(Error::failed(format!(
                    "cannot preview {service} by a pin file: Traefik does not route to {service} now"
                ))
                .hint("wait until it answers, then run the same command again"));
            }
            let made = match pins {
                true => self.places[at].content(&self.key, &sides)?,
                false => Content::default(),
            };
            let mut record = Record::new(claim.rollout.clone(), claim.phase, self.epoch, pins);
            record.shows = made.shows;
            if let Some(shared) = self.shared.clone() {
                record.share(shared);
            }
            if let Some(rule) = rule.clone() {
                record.preview_by(rule);
            }
            if claim.phase == Phase::Committed {
                record.hides = olds.iter().map(|old| old.id.clone()).collect();
            }
            files.push(PinFile {
                record,
                sections: made.sections,
            });
        }
        Ok((notice, files))
    }

    /// Which requests a claim previews: as in the earlier files of its rollout, or as the settings of this run say.
    fn rule_of(&self, claim: &Claim) -> Option<PreviewRule> {
        let records = self.places.iter().filter_map(Watched::record);
        let mut own = records.filter(|record| record.rollout == claim.rollout);
        let known = own.find_map(|record| record.preview.clone());
        let rule = known.or_else(|| self.preview.rule.clone());
        rule.filter(|_| claim.plan.is_preview())
    }

    /// The labels by which Traefik sees the replicas that the files preview.
    fn previewed(&self, replicas: &[Replica]) -> BTreeMap<ContainerId, Labels> {
        let records = self.places.iter().filter_map(Watched::record);
        let mut seen = BTreeMap::new();
        for record in records {
            let Some(rule) = &record.preview else {
                continue;
            };
            let own = |own: &&Replica| own.rollout.as_ref() == Some(&record.rollout);
            let labels = |own: &Replica| (own.id.clone(), previewed(&own.labels, rule));
            seen.extend(replicas.iter().filter(own).map(labels));
        }
        seen
    }

    /// An old replica that Docker still waits for was not routed to before either: a hold does not begin with it.
    fn treat_starting_as_live(&self, replicas: &[Replica], observation: &mut Observation) {
        let held = self.places.iter().filter_map(|place| {
            let record = place.record()?;
            let holds = !is_forward(record.phase);
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
