//! The image with this version of the program, from which helpers run.

use super::{socket_proxies::SocketProxy, traefik::config::advice};
use crate::{
    docker::engine::{Engine, PROGRAM},
    error::Result,
    image,
    model::label,
    namespace,
};

/// The image of a socket proxy, `rollout:latest`, or one that [`load`] has made.
pub async fn found(engine: &Engine, socket_proxies: &[SocketProxy]) -> Result<Option<String>> {
    let fits = |speaks: Option<&String>| speaks.is_some_and(|own| own == namespace::PROTOCOL);
    let mut proxies = socket_proxies.iter();
    let fitting = proxies.find(|own| own.program == PROGRAM && fits(own.helper.as_ref()));
    if let Some(fitting) = fitting {
        return Ok(Some(fitting.image.clone()));
    }
    for reference in [
        advice::IMAGE.to_owned(),
        format!("rollout-helper:{}", tag()),
    ] {
        if let Some(image) = engine.image(&reference).await?
            && fits(image.labels.get(label::HELPER))
        {
            return Ok(Some(image.id));
        }
    }
    Ok(None)
}

/// Makes one of this binary. The image holds nothing else, so only a static binary works as a helper.
pub async fn load(engine: &Engine) -> Result<String> {
    let archive = image::archive(&[("rollout", 0o755, &image::program()?)])?;
    engine
        .import_image(archive, "rollout-helper", &tag())
        .await?;
    Ok(format!("rollout-helper:{}", tag()))
}

fn tag() -> String {
    format!("{}-{}", env!("CARGO_PKG_VERSION"), namespace::PROTOCOL)
}
