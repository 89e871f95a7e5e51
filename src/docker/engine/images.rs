//! Tags, untags, pulls and builds images, and asks registries for their digests.

use std::collections::HashMap;

use bollard::{auth::DockerCredentials, query_parameters as query};
use futures_util::TryStreamExt;

use super::{Engine, failed, tolerate};
use crate::error::{Error, Result};

/// A stage of a Dockerfile that is to be built.
pub struct Stage<'a> {
    pub name: &'a str,
    /// The name of the image.
    pub tag: &'a str,
    pub labels: HashMap<&'a str, &'a str>,
    /// The values of `ARG`.
    pub arguments: HashMap<&'a str, &'a str>,
}

impl Engine {
    /// Adds a tag to an image; an image that had the tag loses it.
    pub async fn tag(&self, id: &str, reference: &str) -> Result<()> {
        let (repo, tag) = split(reference);
        let options = query::TagImageOptionsBuilder::default()
            .repo(repo)
            .tag(tag)
            .build();
        self.docker
            .tag_image(id, Some(options))
            .await
            .map_err(|error| failed("tag an image", &error))
    }

    /// Removes a tag, and the image itself if it has no other tag and no container uses it.
    pub async fn untag(&self, reference: &str) -> Result<()> {
        let options = query::RemoveImageOptionsBuilder::default()
            .force(false)
            .build();
        let removed = self.docker.remove_image(reference, Some(options), None);
        tolerate(removed.await.map(drop), &[404, 409], "untag an image")
    }

    /// Every tag of a repository, with the id of its image.
    pub async fn tags(&self, repository: &str) -> Result<HashMap<String, String>> {
        let filters = HashMap::from([("reference".to_owned(), vec![repository.to_owned()])]);
        let options = query::ListImagesOptionsBuilder::default()
            .filters(&filters)
            .build();
        let images = self.reader().list_images(Some(options)).await;
        let images = images.map_err(|error| failed("list images", &error))?;
        let own = format!("{repository}:");
        let named = images.into_iter().flat_map(|image| {
            let id = image.id;
            image
                .repo_tags
                .into_iter()
                // Podman writes the registry in front.
                .map(move |tag| (tag.trim_start_matches("docker.io/").to_owned(), id.clone()))
        });
        Ok(named.filter(|(tag, _)| tag.starts_with(&own)).collect())
    }

    /// Pulls an image without credentials.
    pub async fn pull(&self, reference: &str) -> Result<()> {
        let options = query::CreateImageOptionsBuilder::default()
            .from_image(reference)
            .build();
        self.docker
            .create_image(Some(options), None, None)
            .try_for_each(async |_| Ok(()))
            .await
            .map_err(|error| failed(&format!("pull {reference}"), &error))
    }

    /// Builds an image from a tar archive with a Dockerfile, by the engine's own builder.
    pub async fn build(&self, archive: Vec<u8>, stage: Stage<'_>) -> Result<()> {
        let options = query::BuildImageOptionsBuilder::default()
            .dockerfile("Dockerfile")
            .target(stage.name)
            .t(stage.tag)
            .labels(&stage.labels)
            .buildargs(&stage.arguments)
            .rm(true)
            .forcerm(true)
            .build();
        let archive = bollard::body_full(archive.into());
        self.docker
            .build_image(options, None, Some(archive))
            .try_for_each(async |_| Ok(()))
            .await
            .map_err(|error| failed(&format!("build {}", stage.tag), &error))
    }

    /// The digest that the registry of an image has for it now.
    pub async fn registry_digest(
        &self,
        reference: &str,
        login: Option<DockerCredentials>,
    ) -> Result<String> {
        let what = format!("ask the registry for {reference}");
        let asked = self.reader();
        let asked = asked.inspect_registry_image(reference, login).await;
        let found = asked.map_err(|error| failed(&what, &error))?;
        let digest = found.descriptor.digest;
        digest.ok_or_else(|| Error::failed(format!("failed to {what}: it has no digest")))
    }
}

/// Repository and tag of a reference without a digest. A registry's port is not a tag.
fn split(reference: &str) -> (&str, &str) {
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (reference, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::{docker::http::json as answer, event::Events, fake_engine::FakeEngine};

    #[tokio::test]
    async fn a_build_names_its_stage_and_fails_with_the_words_of_the_engine() {
        let fake = FakeEngine::start(|_, path, _| match path {
            "/version" => answer(StatusCode::OK, &json!({"ApiVersion": "1.41"})),
            _ => answer(
                StatusCode::OK,
                &json!({"errorDetail": {"message": "no such base"}}),
            ),
        });
        let engine = Engine::connect(fake.endpoint(), &Events::new(Vec::new())).await;
        let stage = Stage {
            name: "cli",
            tag: "rollout:cli",
            labels: HashMap::from([("a", "b")]),
            arguments: HashMap::from([("BASE", "x")]),
        };
        let error = engine.unwrap().build(Vec::new(), stage).await.unwrap_err();
        assert_eq!(error.message, "failed to build rollout:cli: no such base");
        let (method, uri, _) = fake.changes().remove(0);
        assert_eq!(method, "POST");
        for part in [
            "/build?",
            "target=cli",
            "t=rollout%3Acli",
            "BASE",
            "labels=",
        ] {
            assert!(uri.contains(part), "{part}: {uri}");
        }
    }

    #[test]
    fn a_registrys_port_is_not_a_tag() {
        assert_eq!(split("web"), ("web", "latest"));
        assert_eq!(split("a/web:v1"), ("a/web", "v1"));
        assert_eq!(split("host:5000/web"), ("host:5000/web", "latest"));
        assert_eq!(split("host:5000/web:v1"), ("host:5000/web", "v1"));
    }
}
