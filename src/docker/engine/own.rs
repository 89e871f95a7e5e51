//! Our own containers that are never started, and the files in them and in the volume that they mount.

use std::{collections::HashMap, time::Duration};

use bollard::{
    errors::Error as Bollard,
    models::{ContainerCreateBody, HostConfig, Mount, MountType, MountVolumeOptions},
    query_parameters as query,
};
use futures_util::StreamExt;
use tokio::time::sleep;

use super::{
    Engine, failed,
    files::{ContainerFile, files, unreadable},
    found, is_status, own_labels,
    shared::is_one_off,
};
use crate::{
    error::Result,
    model::{Replica, RolloutId, ServiceKey, label},
};

/// In bytes. Our own files are small.
const LARGEST: usize = 256 * 1024 * 1024;

/// Between calls to an engine that does not answer.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// A volume that a container of our own mounts.
#[derive(Clone, Copy, Debug)]
pub struct Mounted<'a> {
    /// The engine creates it if it does not exist.
    pub volume: &'a str,
    /// The path in the container.
    pub at: &'a str,
}

impl Mounted<'_> {
    pub(super) fn mount(self) -> Mount {
        Mount {
            target: Some(self.at.to_owned()),
            source: Some(self.volume.to_owned()),
            typ: Some(MountType::VOLUME),
            volume_options: Some(MountVolumeOptions {
                no_copy: Some(true),
                labels: Some(own_labels("state")),
                ..Default::default()
            }),
            ..Default::default()
        }
    }
}

impl Engine {
    /// Creates a container that is never started. Returns its id, or `None` where the name is in use.
    pub async fn create_marker(
        &self,
        name: &str,
        image: &str,
        labels: HashMap<String, String>,
    ) -> Result<Option<String>> {
        self.create_shelf(Some(name), image, labels, None).await
    }

    /// As [`Self::create_marker`], with a volume whose files are then read and written. Without a name it is always new.
    pub async fn create_shelf(
        &self,
        name: Option<&str>,
        image: &str,
        labels: HashMap<String, String>,
        mounted: Option<Mounted<'_>>,
    ) -> Result<Option<String>> {
        let mount = mounted.map(Mounted::mount);
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            entrypoint: Some(vec!["/rollout".into()]),
            cmd: Some(vec!["--version".into()]),
            labels: Some(labels),
            host_config: mount.map(|mount| HostConfig {
                mounts: Some(vec![mount]),
                ..Default::default()
            }),
            ..Default::default()
        };
        let options = query::CreateContainerOptionsBuilder::default();
        let options = match name {
            Some(name) => options.name(name),
            None => options,
        };
        match self
            .docker
            .create_container(Some(options.build()), body)
            .await
        {
            Ok(created) => Ok(Some(created.id)),
            Err(error) if is_taken(&error) => Ok(None),
            Err(error) => Err(failed("create a container of our own", &error)),
        }
    }

    pub async fn has_volume(&self, name: &str) -> Result<bool> {
        let inspected = self.reader().inspect_volume(name).await;
        Ok(found(inspected, "inspect a volume")?.is_some())
    }

    /// Unpacks an archive into a directory of a container in any state.
    pub async fn unpack_into(&self, container: &str, directory: &str, tar: Vec<u8>) -> Result<()> {
        let options = query::UploadToContainerOptionsBuilder::default()
            .path(directory)
            .build();
        self.docker
            .upload_to_container(container, Some(options), bollard::body_full(tar.into()))
            .await
            .map_err(|error| failed("write a file", &error))
    }

    /// Every file below a path of a container, with names relative to it; `None` where the path does not exist.
    pub async fn files_under(
        &self,
        container: &str,
        path: &str,
    ) -> Result<Option<Vec<(String, Vec<u8>)>>> {
        let Some(archive) = self.archive(container, path, LARGEST).await? else {
            return Ok(None);
        };
        let files = files(&archive).map_err(|error| unreadable(path, &error))?;
        Ok(Some(files.into_iter().map(named).collect()))
    }

    /// Removes our own containers with this role that are older than `older`.
    pub async fn sweep_role(&self, role: &str, older: Duration) -> Result<()> {
        let label = format!("{}={role}", label::ROLE);
        let list = self.matching(vec![label], true).await?;
        if list.is_empty() {
            return Ok(());
        }
        let before = (self.clock_ms().await / 1000).saturating_sub(older.as_secs());
        for summary in list {
            let created = summary.created.and_then(|at| u64::try_from(at).ok());
            if let (Some(id), Some(created)) = (summary.id, created)
                && created < before
            {
                self.discard(&id).await?;
            }
        }
        Ok(())
    }

    /// The containers in which hooks of a service ran for a rollout, or for any: Compose's own hooks, and those of
    /// `x-rollout`.
    pub async fn one_offs(&self, key: &ServiceKey, of: Option<&RolloutId>) -> Result<Vec<Replica>> {
        let labels = vec![
            format!("{}={}", label::COMPOSE_PROJECT, key.project),
            format!("{}={}", label::COMPOSE_SERVICE, key.service),
            match of {
                Some(rollout) => format!("{}={rollout}", label::ROLLOUT),
                None => label::ROLLOUT.to_owned(),
            },
        ];
        let listed = self.matching(labels, true).await?;
        self.inspected(listed.iter().filter(|own| is_one_off(own)))
            .await
    }

    /// Ends and removes these containers. One that runs gets its signal and its grace period.
    pub async fn sweep_one_offs(&self, key: &ServiceKey, of: Option<&RolloutId>) -> Result<()> {
        for hook in self.one_offs(key, of).await? {
            if hook.may_run() {
                self.stop(&hook.id).await?;
            }
            self.discard(&hook.id.0).await?;
        }
        Ok(())
    }

    /// Waits until the engine confirms that a container does not exist.
    pub async fn wait_until_removed(&self, id: &str) {
        while !matches!(self.inspect(id).await, Ok(None)) {
            if !self.was_removed(id).await {
                sleep(RETRY_DELAY).await;
            }
        }
    }

    /// Waits for the removal; false where the engine's answer fails.
    pub(super) async fn was_removed(&self, id: &str) -> bool {
        let options = query::WaitContainerOptionsBuilder::default()
            .condition("removed")
            .build();
        let mut removal = self.docker.wait_container(id, Some(options));
        matches!(removal.next().await, Some(Ok(_)))
    }
}

/// Drops the first component of a path in an archive, the name of the directory that was read.
fn named(file: ContainerFile) -> (String, Vec<u8>) {
    let name = match file.path.split_once('/') {
        Some((_, rest)) => rest.to_owned(),
        None => file.path,
    };
    (name, file.bytes)
}

/// True for an error about a name in use; Podman answers it with status 500.
fn is_taken(error: &Bollard) -> bool {
    let podman = matches!(
        error,
        Bollard::DockerResponseServerError { status_code: 500, message } if message.contains("name is already in use")
    );
    podman || is_status(error, 409)
}
