//! The services whose records a command reads: of a project of Compose, or of a stack of a Swarm.

use std::collections::{BTreeMap, BTreeSet};

use super::opened::{Found, Opened, Unread};
use crate::{
    cli::TargetArgs,
    docker::engine::Engine,
    error::Result,
    event::Events,
    model::ServiceKey,
    proxy::landscape::Landscape,
    state::{
        keep,
        revisions::Revisions,
        store::{self, File},
    },
    swarm::Stack,
};

pub enum Owner {
    Project(Box<Opened>),
    Stack(Box<Stack>),
}

pub struct Records {
    pub owner: Owner,
    pub landscape: Landscape,
    /// One that the engine has, for a container that is never started.
    image: String,
}

impl Records {
    pub async fn of(target: &TargetArgs, names: &[&str], events: &Events) -> Result<Self> {
        let found = Opened::find_alone(target, names, events, Unread::AskContainers).await?;
        if let Found::Stack(stack) = found {
            let landscape = Landscape::read(&stack.engine, &stack.name).await?;
            return Ok(Self {
                image: landscape.any_image().unwrap_or_default(),
                landscape,
                owner: Owner::Stack(stack),
            });
        }
        let (opened, ()) = found.one()?;
        let run = opened.run(events);
        let landscape = run.landscape().await?;
        Ok(Self {
            image: run.image_in(&landscape).await?,
            landscape,
            owner: Owner::Project(opened.into()),
        })
    }

    pub fn engine(&self) -> &Engine {
        match &self.owner {
            Owner::Project(opened) => &opened.engine,
            Owner::Stack(stack) => &stack.engine,
        }
    }

    pub fn project(&self) -> &str {
        match &self.owner {
            Owner::Project(opened) => &opened.project.name,
            Owner::Stack(stack) => &stack.name,
        }
    }

    /// The name of a stack.
    pub fn stack(&self) -> Option<&str> {
        match &self.owner {
            Owner::Project(_) => None,
            Owner::Stack(stack) => Some(&stack.name),
        }
    }

    pub fn key(&self, service: &str) -> ServiceKey {
        ServiceKey {
            project: self.project().to_owned(),
            service: service.to_owned(),
        }
    }

    /// The events of one service.
    pub fn events(&self, all: &Events, service: &str) -> Events {
        let host = self.engine().endpoint().to_string();
        all.of_service(&host, &self.key(service))
    }

    pub fn refuse_unknown(&self, service: &str) -> Result<()> {
        match &self.owner {
            Owner::Project(opened) => opened.project.service(service).map(drop),
            Owner::Stack(stack) => stack.refuse_unknown(service),
        }
    }

    pub async fn files(&self, key: &ServiceKey) -> Result<Vec<File>> {
        store::look(self.engine(), &self.image, key).await
    }

    /// Of every service that has records, by its name.
    pub async fn all_files(&self) -> Result<BTreeMap<String, Vec<File>>> {
        store::look_project(self.engine(), &self.image, self.project()).await
    }

    /// The revision that runs.
    pub async fn running(&self, key: &ServiceKey, revisions: &Revisions) -> Result<Option<u64>> {
        match &self.owner {
            Owner::Project(opened) => {
                let listed = &self.landscape.containers;
                let replicas = opened.engine.replicas_among(listed, key).await?;
                Ok(revisions.running(&replicas))
            }
            Owner::Stack(stack) => Ok(stack.running(key, revisions)),
        }
    }

    /// Ids of the images that are kept for an undo.
    pub async fn kept(&self, key: &ServiceKey) -> Result<BTreeSet<String>> {
        match &self.owner {
            Owner::Project(opened) => {
                let tags = opened.engine.tags(&keep::repository(key)).await?;
                Ok(tags.into_values().collect())
            }
            // Its records have no ids: each node pulls the image by its digest.
            Owner::Stack(_) => Ok(BTreeSet::from([String::new()])),
        }
    }
}
