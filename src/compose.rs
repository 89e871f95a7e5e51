//! The `docker compose` command: what it says about a project, and what it is told to do.

pub mod check;
mod duration;
mod parse;
mod project;
pub mod view;

use std::{collections::BTreeMap, path::PathBuf};

pub use project::*;

use crate::{docker_http::Endpoint, error::Result};

/// How `docker compose` is called: everything that Compose's own discovery needs, nothing interpreted by us.
#[derive(Clone, Debug, Default)]
pub struct Invocation {
    /// `-f`, in order; `-` is standard input, which is read once.
    pub files: Vec<String>,
    /// `-p`.
    pub project_name: Option<String>,
    /// `--project-directory`.
    pub project_directory: Option<PathBuf>,
    /// `--profile`.
    pub profiles: Vec<String>,
    /// `--env-file`.
    pub env_files: Vec<String>,
}

/// Which image a pull leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// As the service's `pull_policy` says.
    #[default]
    Policy,
    /// The newest of its name.
    Always,
    /// Pulled only where the engine has none.
    Missing,
    /// Nothing is pulled.
    Never,
}

/// What [`Compose::create`] makes.
pub struct CreateRequest<'a> {
    /// The project, as [`Compose::project`] gave it.
    pub project: &'a Project,
    /// The service whose new set is made.
    pub service: &'a str,
    /// Containers of the new set.
    pub replicas: u32,
    /// Every service that it depends on, directly or not, with the number of its containers as observed.
    pub dependencies: Vec<(String, u32)>,
    /// The rollout id; part of the temporary names, so only letters, digits, `_`, `.` and `-`.
    pub rollout: &'a str,
    /// Our labels; `io.rollout.id` and `io.rollout.name` are added.
    pub labels: BTreeMap<String, String>,
    /// Whether new containers may start with empty anonymous volumes.
    pub renew_anon_volumes: bool,
}

/// A `docker compose` that was found and answers.
pub struct Compose {
    version: String,
}

impl Compose {
    /// Finds `docker compose` v2, else `docker-compose` v2; refused where there is none.
    pub async fn find(invocation: Invocation, endpoint: Endpoint) -> Result<Self> {
        let _ = (invocation, endpoint);
        todo!()
    }

    /// The version, without a leading `v`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The project with the services that are enabled now.
    pub async fn project(&self) -> Result<Project> {
        self.project_for(&[]).await
    }

    /// The project as `up SERVICE…` sees it: a named service behind a profile is enabled, and what shares its profile.
    pub async fn project_for(&self, services: &[&str]) -> Result<Project> {
        let _ = services;
        todo!()
    }

    /// Pulls the image of one service.
    pub async fn pull(
        &self,
        service: &str,
        policy: Pull,
        on_line: impl FnMut(String),
    ) -> Result<()> {
        let _ = (service, policy, on_line);
        todo!()
    }

    /// Builds the image of one service.
    pub async fn build(&self, service: &str, on_line: impl FnMut(String)) -> Result<()> {
        let _ = (service, on_line);
        todo!()
    }

    /// The `com.docker.compose.config-hash` that Compose would write on a container of the service now.
    pub async fn config_hash(&self, service: &str) -> Result<String> {
        let _ = service;
        todo!()
    }

    /// Creates and starts the new set beside the old one, which is left untouched.
    pub async fn create(
        &self,
        request: &CreateRequest<'_>,
        on_line: impl FnMut(String),
    ) -> Result<()> {
        let _ = (request, on_line);
        todo!()
    }

    /// Replaces the service's containers in place, as `docker compose up` does.
    pub async fn recreate(
        &self,
        service: &str,
        replicas: u32,
        on_line: impl FnMut(String),
    ) -> Result<()> {
        let _ = (service, replicas, on_line);
        todo!()
    }
}
