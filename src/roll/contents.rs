//! Whether the configs and secrets in a container are those that the Compose file gives it now.

use std::{path::Path, time::SystemTime};

use sha2::{Digest, Sha256};

use crate::{
    compose::{Content, Service},
    context::RunContext,
    error::Result,
    model::Replica,
};

impl RunContext<'_> {
    /// Whether a config or secret differs in any of these replicas.
    pub(super) async fn have_other_contents(
        &self,
        service: &Service,
        replicas: &[Replica],
    ) -> Result<bool> {
        for replica in replicas {
            if self.has_other_contents(service, replica).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A replica of a rollout has a digest of them; in a replica of Compose the files are read.
    async fn has_other_contents(&self, service: &Service, replica: &Replica) -> Result<bool> {
        if let Some(own) = &replica.digest {
            return Ok(*own != service.inline_digest);
        }
        for content in &service.contents {
            if is_newer(content, replica) || self.differs(content, replica).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn differs(&self, content: &Content, replica: &Replica) -> Result<bool> {
        let found = self
            .engine
            .read_file(&replica.id.0, &content.target)
            .await?;
        let found = found.map(|bytes| Sha256::digest(bytes).to_vec());
        Ok(found.as_ref() != Some(&content.digest))
    }
}

/// Whether its file was changed after the start of the container, which reads it at its start.
fn is_newer(content: &Content, replica: &Replica) -> bool {
    let started = humantime::parse_rfc3339(&replica.started_at).ok();
    let changed = content.file.as_deref().and_then(changed);
    matches!((started, changed), (Some(started), Some(changed)) if changed > started)
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::simulator;

    #[test]
    fn a_file_that_was_changed_after_the_start_is_newer_and_inline_content_never_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let content = |file: Option<&Path>| Content {
            target: "/c".to_owned(),
            digest: Vec::new(),
            file: file.map(Path::to_owned),
        };
        let started = |at: &str| Replica {
            started_at: at.to_owned(),
            ..simulator::old("a")
        };
        let before = started("2020-01-01T00:00:00.5Z");
        let after = started("2999-01-01T00:00:00Z");
        assert!(is_newer(&content(Some(file.path())), &before));
        assert!(!is_newer(&content(Some(file.path())), &after));
        assert!(!is_newer(&content(None), &before));
        assert!(!is_newer(&content(Some(Path::new("/none"))), &before));
    }
}
