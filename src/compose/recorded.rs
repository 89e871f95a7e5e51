//! `docker compose` on a recorded project instead of its current files.

use super::{Compose, Invocation};

impl Compose {
    /// `config` is an earlier result of [`super::Project::alone`], with the same config hash.
    pub fn recorded(&self, config: &str, project: &str) -> Self {
        Self {
            program: self.program.clone(),
            version: self.version.clone(),
            invocation: Invocation {
                files: vec!["-".to_owned()],
                project_name: Some(project.to_owned()),
                project_directory: self.invocation.project_directory.clone(),
                ..Invocation::default()
            },
            engine: self.engine.clone(),
            _forward: self._forward.clone(),
            stdin: Some(config.as_bytes().to_vec()),
        }
    }
}
