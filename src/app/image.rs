//! `rollout image`: builds the images of this program on the engine.

use super::opened::endpoint;
use crate::{
    cli::{ImageArgs, TargetArgs},
    docker::engine::Engine,
    error::Result,
    event::Events,
    image::{self, VERSION},
    proxy::traefik::config::advice::IMAGE,
};

const CLI: &str = "rollout:cli";
/// The stages of the Dockerfile.
const PROGRAM_ALONE: &str = "rollout";
const WITH_DOCKER: &str = "cli";

pub async fn image(args: &ImageArgs, events: &Events) -> Result<()> {
    let engine = connect(&args.target, events).await?;
    let (stage, usual) = match args.cli {
        true => (WITH_DOCKER, CLI),
        false => (PROGRAM_ALONE, IMAGE),
    };
    let tag = args.tag.as_deref().unwrap_or(usual);
    image::build(&engine, stage, tag, args.base.as_deref()).await?;
    events.notice(built(tag, &engine));
    Ok(())
}

/// Builds `rollout:latest` unless the engine has it in this version. What goes wrong is a notice.
pub async fn ensure(target: &TargetArgs, events: &Events) {
    match build_unless_current(target, events).await {
        Ok(None) => {}
        Ok(Some(text)) => events.notice(text),
        Err(error) => events.notice(format!("{IMAGE} is not built: {error}; run: rollout image")),
    }
}

async fn build_unless_current(target: &TargetArgs, events: &Events) -> Result<Option<String>> {
    let engine = connect(target, events).await?;
    let found = engine.image(IMAGE).await?;
    let version = found.and_then(|found| found.labels.get(VERSION).cloned());
    if version.as_deref() == Some(env!("CARGO_PKG_VERSION")) {
        return Ok(None);
    }
    image::build(&engine, PROGRAM_ALONE, IMAGE, None).await?;
    Ok(Some(built(IMAGE, &engine)))
}

fn built(tag: &str, engine: &Engine) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "{tag} is built, version {version}, on {}",
        engine.endpoint()
    )
}

async fn connect(target: &TargetArgs, events: &Events) -> Result<Engine> {
    Engine::connect(endpoint(target).await?, events).await
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::{docker::http::json as answer, fake_engine::FakeEngine};

    async fn ensured(version: &'static str) -> Result<Option<String>> {
        let fake = FakeEngine::start(move |_, path, _| match path {
            "/version" => answer(StatusCode::OK, &json!({"ApiVersion": "1.41"})),
            _ => {
                let labels = json!({VERSION: version});
                let image = json!({"Id": "sha256:a", "Config": {"Labels": labels}});
                answer(StatusCode::OK, &image)
            }
        });
        let target = TargetArgs {
            host: Some(fake.endpoint().to_string()),
            ..TargetArgs::default()
        };
        build_unless_current(&target, &Events::new(Vec::new())).await
    }

    #[tokio::test]
    async fn an_image_of_this_version_stays_and_the_program_of_a_test_is_in_none() {
        assert_eq!(ensured(env!("CARGO_PKG_VERSION")).await, Ok(None));
        let error = ensured("0.0.9").await.unwrap_err();
        assert!(error.message.contains("shared libraries"), "{error}");
    }
}
