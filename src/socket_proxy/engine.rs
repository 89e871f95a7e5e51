//! Sends requests to the engine: built only from parsed parts, in an API version that the engine supports.

use std::{error::Error, sync::Mutex, time::Duration};

use bytes::Bytes;
use hyper::{Request, Response, StatusCode, body::Incoming};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Semaphore;

use super::{
    rebuild::Version,
    request::{ApiVersion, parse_version},
};
use crate::docker::http::{BoxError, Endpoint, Upstream, empty};

/// The longest time for one answer; a list of thousands of containers on a busy machine takes seconds.
const ANSWER: Duration = Duration::from_secs(30);
/// The requests that run at once; further ones wait.
const AT_ONCE: usize = 64;

/// One engine, and the API versions that it reports.
pub struct Engine {
    upstream: Upstream,
    versions: Mutex<Option<Version>>,
    turns: Semaphore,
}

/// Why there is no answer for the reader.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The engine has no such object.
    #[error("no such {0}")]
    Missing(&'static str),
    /// The engine refused or failed.
    #[error("the engine answered {0}")]
    Refused(StatusCode),
    /// The engine cannot be reached, or does not answer in time, or not in JSON.
    #[error("cannot reach the Docker engine: {0}")]
    Unreachable(String),
    #[error("the socket proxy is ending")]
    Ending,
}

impl Unanswered {
    fn unreachable(error: impl Into<BoxError>) -> Self {
        Self::Unreachable(with_causes(&*error.into()))
    }
}

/// An error with all its causes, in one line.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let all = std::iter::successors(Some(error), |&error| error.source());
    let texts: Vec<String> = all.map(ToString::to_string).collect();
    texts.join(": ")
}

/// A request to the engine. `kind` is what the message calls a missing object.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The API version that the reader uses.
    pub version: Option<ApiVersion>,
    /// The path after the version, with the query.
    pub path: &'a str,
    /// `container`, `network`.
    pub kind: &'static str,
}

impl<'a> Ask<'a> {
    /// A request in the engine's newest version.
    pub fn plain(path: &'a str) -> Self {
        Self {
            version: None,
            path,
            kind: "object",
        }
    }
}

impl Engine {
    /// Connects on first use.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            upstream: Upstream::new(endpoint),
            versions: Mutex::default(),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// GETs JSON; fields that `T` does not name are dropped.
    pub async fn get<T: DeserializeOwned>(&self, ask: Ask<'_>) -> Result<T, Unanswered> {
        let path = self.path(ask).await?;
        decode(self.raw(&path).await?, ask.kind)
    }

    pub async fn events(&self, ask: Ask<'_>) -> Result<Response<Incoming>, Unanswered> {
        let path = self.path(ask).await?;
        let request = Request::get(path)
            .body(empty())
            .map_err(Unanswered::unreachable)?;
        let response = in_time(self.upstream.send(request)).await?;
        match response.status() {
            StatusCode::OK => Ok(response),
            status => Err(Unanswered::Refused(status)),
        }
    }

    pub async fn ping(&self) -> Result<(), Unanswered> {
        match self.raw("/_ping").await? {
            (StatusCode::OK, _) => Ok(()),
            (status, _) => Err(Unanswered::Refused(status)),
        }
    }

    /// The engine's versions, read once and again after [`Engine::forget_versions`].
    pub async fn versions(&self) -> Result<Version, Unanswered> {
        let known = self.versions.lock().unwrap().clone();
        if let Some(version) = known {
            return Ok(version);
        }
        let version: Version = decode(self.raw("/version").await?, "version")?;
        *self.versions.lock().unwrap() = Some(version.clone());
        Ok(version)
    }

    /// To be called when another engine may answer from now on.
    pub fn forget_versions(&self) {
        *self.versions.lock().unwrap() = None;
    }

    async fn path(&self, ask: Ask<'_>) -> Result<String, Unanswered> {
        let Some(version) = ask.version else {
            return Ok(ask.path.to_owned());
        };
        let (major, minor) = clamp(version, &self.versions().await?);
        Ok(format!("/v{major}.{minor}{}", ask.path))
    }

    async fn raw(&self, path: &str) -> Result<(StatusCode, Bytes), Unanswered> {
        let asked = async {
            let _turn = self.turns.acquire().await;
            self.upstream.get(path).await
        };
        in_time(asked).await
    }
}

async fn in_time<T>(asked: impl Future<Output = Result<T, BoxError>>) -> Result<T, Unanswered> {
    let answer = tokio::time::timeout(ANSWER, asked).await;
    answer
        .map_err(Unanswered::unreachable)?
        .map_err(Unanswered::unreachable)
}

fn decode<T: DeserializeOwned>(
    (status, body): (StatusCode, Bytes),
    kind: &'static str,
) -> Result<T, Unanswered> {
    match status {
        StatusCode::OK => serde_json::from_slice(&body).map_err(Unanswered::unreachable),
        StatusCode::NOT_FOUND => Err(Unanswered::Missing(kind)),
        status => Err(Unanswered::Refused(status)),
    }
}

/// The nearest version that the engine supports. Traefik 3.0 to 3.6.0 uses 1.24, which Engine 29 refuses.
fn clamp(asked: ApiVersion, engine: &Version) -> ApiVersion {
    let newest = parse_version(&engine.api_version).unwrap_or(asked);
    let oldest = parse_version(&engine.min_api_version).unwrap_or((1, 12));
    asked.min(newest).max(oldest.min(newest))
}

/// Serialises a rebuilt answer; this cannot fail for our own types.
pub fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(oldest: &str, newest: &str) -> Version {
        Version {
            api_version: newest.to_owned(),
            min_api_version: oldest.to_owned(),
            ..Version::default()
        }
    }

    #[test]
    fn a_version_is_moved_to_the_nearest_one_that_the_engine_speaks() {
        let engine = engine("1.44", "1.52");
        assert_eq!(clamp((1, 24), &engine), (1, 44));
        assert_eq!(clamp((1, 45), &engine), (1, 45));
        assert_eq!(clamp((1, 56), &engine), (1, 52));
        assert_eq!(clamp((2, 0), &engine), (1, 52));
    }

    #[test]
    fn an_engine_that_names_no_minimum_is_taken_to_know_all_old_versions() {
        assert_eq!(clamp((1, 24), &engine("", "1.41")), (1, 24));
    }
}
