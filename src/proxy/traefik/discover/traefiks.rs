//! Finds every Traefik container that shares a network with a service, however it reads Docker.

use std::{collections::BTreeSet, time::Duration};

use bollard::models::ContainerSummary;
use tokio::time::{Instant, sleep};

use super::readers::readers;
use crate::{
    docker::engine::summary::reaches,
    error::Result,
    overlay::control::Reader,
    proxy::{
        landscape::Landscape,
        socket_proxies::{SocketProxy, showing},
        traefik::config::{Sighting, TraefikContainer, looks_like_traefik},
    },
};

/// How long a Traefik may take to connect to a socket proxy that has been restarted: some of the tries of its
/// provider, whose pauses begin with half a second and grow (`pkg/job`).
const RECONNECT: Duration = Duration::from_secs(5);

/// Every Traefik container that runs and shares a network with the service, or is in the host's. One that is about to
/// connect to a socket proxy, because either of them has been restarted, is given the time.
pub async fn traefiks(
    landscape: &mut Landscape,
    networks: &BTreeSet<String>,
) -> Result<Vec<TraefikContainer>> {
    let began = Instant::now();
    loop {
        let (engine, found) = (&landscape.engine, &landscape.socket_proxies);
        let mut all = Vec::new();
        let answers = landscape.ask_all(showing(found)).await;
        for sighting in sightings(&landscape.running, answers, networks)? {
            all.extend(landscape.traefiks.examine(engine, &sighting).await?);
        }
        // What reads through a socket proxy of other projects never learns of the service.
        let elsewhere = || found.iter().filter(|own| !own.shows_project);
        all.retain(|own: &TraefikContainer| !own.is_meant_for(elsewhere()));
        let comes = |own: &TraefikContainer| own.is_meant_for(showing(found));
        if !all.iter().any(comes) || began.elapsed() >= RECONNECT {
            return Ok(all);
        }
        sleep(Duration::from_millis(250)).await;
        landscape.refresh().await?;
    }
}

/// The same at a glance, from what the socket proxies have answered.
pub fn sightings(
    running: &[ContainerSummary],
    answers: Vec<(&SocketProxy, Result<Vec<Reader>>)>,
    networks: &BTreeSet<String>,
) -> Result<Vec<Sighting>> {
    let readers = readers(answers, running, networks)?;
    let own = running.iter().filter(|own| reaches(own, networks));
    let sightings = own.filter_map(|summary| {
        let through = through(summary, &readers);
        (through.is_some() || looks_like_traefik(summary)).then(|| Sighting {
            summary: summary.clone(),
            through,
        })
    });
    Ok(sightings.collect())
}

fn through(
    summary: &ContainerSummary,
    readers: &[(&SocketProxy, Reader)],
) -> Option<(Box<SocketProxy>, Reader)> {
    let is = |reader: &Reader| {
        let container = reader.container.as_ref();
        container.is_some_and(|own| Some(&own.id) == summary.id.as_ref())
    };
    let (found, reader) = readers.iter().find(|(_, reader)| is(reader))?;
    Some((Box::new((*found).clone()), reader.clone()))
}
