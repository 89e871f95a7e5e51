//! Tags, untags and pulls images, and asks registries for their digests.

use std::collections::HashMap;

use bollard::{auth::DockerCredentials, query_parameters as query};
use futures_util::TryStreamExt;

use super::{Engine, failed, is_status};
use crate::error::{Error, Result};

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
        match self
            .docker
            .remove_image(reference, Some(options), None)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if is_status(&error, 404) || is_status(&error, 409) => Ok(()),
            Err(error) => Err(failed("untag an image", &error)),
        }
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
    use super::*;

    #[test]
    fn a_registrys_port_is_not_a_tag() {
        assert_eq!(split("web"), ("web", "latest"));
        assert_eq!(split("a/web:v1"), ("a/web", "v1"));
        assert_eq!(split("host:5000/web"), ("host:5000/web", "latest"));
        assert_eq!(split("host:5000/web:v1"), ("host:5000/web", "v1"));
    }
}
