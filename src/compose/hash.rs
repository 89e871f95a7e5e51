//! The config hash that Compose would write on a container now, asked of Compose itself.

use super::Compose;
use crate::error::{Error, Result};

impl Compose {
    /// The `com.docker.compose.config-hash` that Compose would write on a container of the service now.
    ///
    /// `config --hash` alone leaves `env_file` unresolved (it runs without environment resolution), so it is asked
    /// about the resolved project.
    pub async fn config_hash(&self, service: &str) -> Result<String> {
        let text = self.resolved(service).await?;
        let mut command = super::find::command(&self.program, &self.endpoint.to_string());
        command.args(["--file", "-", "--profile", "*", "config", "--hash", service]);
        let output = self.ask(command, Some(text.as_bytes())).await?;
        hash_of(service, &output).ok_or_else(|| {
            Error::refused(format!("docker compose has no config hash for {service}"))
        })
    }
}

/// Finds the hash in lines of `SERVICE HASH`.
fn hash_of(service: &str, output: &str) -> Option<String> {
    output
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == service)
        .map(|(_, hash)| hash.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_stands_behind_the_name() {
        assert_eq!(hash_of("web", "db 1\nweb 2f\n").as_deref(), Some("2f"));
        assert_eq!(hash_of("web", "webb 1\n"), None);
    }
}
