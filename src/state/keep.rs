//! The tags that keep the images of revisions from pruning and moved tags, for `undo`.

use super::revisions::Revision;
use crate::{
    docker::engine::Engine,
    error::{Error, Result},
    model::ServiceKey,
};

/// The prefix of every repository of these tags.
const OURS: &str = "rollout/";

/// `rollout/<project>-<service>`, in what a repository may be called (distribution/reference, `path-component`).
pub fn repository(key: &ServiceKey) -> String {
    let wanted = format!("{}-{}", key.project, key.service).to_lowercase();
    let mut name = String::new();
    let mut separator = String::new();
    for character in wanted.chars() {
        if !character.is_ascii_alphanumeric() {
            separator.push(character);
            continue;
        }
        if !name.is_empty() {
            name += allowed(&separator);
        }
        separator.clear();
        name.push(character);
    }
    format!("{OURS}{name}")
}

/// One separator as it is where it is allowed: a dot, one or two underscores, any number of dashes.
fn allowed(separator: &str) -> &str {
    let dashes = separator.bytes().all(|byte| byte == b'-');
    match separator {
        "." | "_" | "__" => separator,
        _ if dashes => separator,
        _ => "-",
    }
}

/// Tags the image of a revision and records the tag.
pub async fn keep(engine: &Engine, key: &ServiceKey, revision: &mut Revision) -> Result<()> {
    let name = format!("{}:{}", repository(key), revision.number);
    let taken = engine.image(&name).await?;
    // Two services may get the same repository, such as b-c of a, and c of a-b.
    let name = match taken {
        Some(other) if other.id != revision.image.id => format!("{name}-{}", revision.rollout),
        _ => name,
    };
    engine.tag(&revision.image.id, &name).await?;
    revision.image.kept = name;
    Ok(())
}

/// Removes the tags of these revisions, as far as they still name the recorded images.
pub async fn forget(engine: &Engine, key: &ServiceKey, revisions: Vec<&Revision>) -> Result<()> {
    if revisions.is_empty() {
        return Ok(());
    }
    let tags = engine.tags(&repository(key)).await?;
    let mut failed: Option<Error> = None;
    for revision in revisions {
        let kept = &revision.image.kept;
        if tags.get(kept) == Some(&revision.image.id) {
            failed = engine.untag(kept).await.err().or(failed);
        }
    }
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_named_as_registries_allow() {
        for (project, service, name) in [
            ("shop", "web", "rollout/shop-web"),
            ("my_shop", "web.v2", "rollout/my_shop-web.v2"),
            ("shop", "Web__Api", "rollout/shop-web__api"),
            ("_shop-", "-._web_", "rollout/shop-web"),
        ] {
            let key = ServiceKey {
                project: project.into(),
                service: service.into(),
            };
            assert_eq!(repository(&key), name);
        }
    }
}
