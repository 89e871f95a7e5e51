//! Reads the engine's name and versions.

use super::{Engine, failed};
use crate::error::Result;

/// Fields are empty where the engine does not report them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Such as `Podman Engine`; Docker reports `Engine`.
    pub name: String,
    /// Such as `28.5.2`.
    pub version: String,
    /// The newest version of its API, such as `1.51`.
    pub api: String,
    /// The oldest supported version of its API.
    pub least_api: String,
}

impl Engine {
    pub async fn about(&self) -> Result<About> {
        let version = self.docker.version().await;
        let version = version.map_err(|error| failed("ask the engine for its version", &error))?;
        let components = version.components.unwrap_or_default();
        let engine = components.into_iter().next();
        Ok(About {
            name: engine.map(|engine| engine.name).unwrap_or_default(),
            version: version.version.unwrap_or_default(),
            api: version.api_version.unwrap_or_default(),
            least_api: version.min_api_version.unwrap_or_default(),
        })
    }
}
