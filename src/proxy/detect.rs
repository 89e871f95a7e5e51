//! Which driver is asked what is in front of a service.

use clap::ValueEnum;

use super::{
    driver::{Detection, Driver},
    landscape::Landscape,
    traefik::TraefikDriver,
};
use crate::{
    context::{RunContext, ServiceContext},
    error::Result,
    model::Replica,
    settings::ProxyKind,
};

/// The driver of a kind of proxy; `None` where no proxy is wanted.
fn driver(kind: ProxyKind) -> Option<&'static dyn Driver> {
    match kind {
        ProxyKind::Auto | ProxyKind::Traefik => Some(&TraefikDriver),
        ProxyKind::None => None,
    }
}

/// Every driver once.
fn drivers() -> impl Iterator<Item = &'static dyn Driver> {
    let kinds = ProxyKind::value_variants().iter();
    let named = kinds.filter(|own| **own != ProxyKind::Auto);
    named.filter_map(|own| driver(*own))
}

/// Finds what is in front of a service, with the driver that its settings choose.
pub async fn detect(
    run: &RunContext<'_>,
    context: &ServiceContext<'_>,
    landscape: &mut Landscape,
) -> Result<Detection> {
    if let Some(driver) = driver(context.settings.proxy) {
        return driver.detect(run, context, landscape).await;
    }
    for driver in drivers() {
        driver.refuse_left(context, landscape).await?;
    }
    Ok(Detection::without_proxy(context, landscape))
}

/// Refuses replicas that carry the traffic of rollouts themselves, whichever proxy they are part of.
pub async fn refuse_own_parts(landscape: &Landscape, replicas: &[Replica]) -> Result<()> {
    for driver in drivers() {
        driver.refuse_own_parts(landscape, replicas).await?;
    }
    Ok(())
}
