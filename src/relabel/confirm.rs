//! Waits until every Traefik has read a change by hand, and until it routes as it should.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    check::Check,
    compose::Service,
    context::{Beside, Purpose, ServiceContext},
    docker::engine::{Engine, Image},
    error::{Error, Result},
    event::Events,
    hooks::Hooks,
    model::{Replica, RoutePlan, ServiceKey, Share, Target},
    proxy::{
        Router,
        agree::{Limits, Question, agree},
        landscape::Landscape,
        socket_proxies::SocketProxy,
        traefik::{
            discover::{self, Wanted, is_traefik},
            relabel::{Relabel, relabel},
        },
    },
    retry,
    settings::Settings,
};

/// Traefik reads at once; one that has lost its event stream comes back within this time: its backoff ends at about 19 s.
const LONGEST: Duration = Duration::from_secs(30);
/// The API may answer before the last entrypoint has switched: the default of `--settle`.
const SETTLE: Duration = Duration::from_millis(250);

/// What Traefik says that it does with the container; `None` where nothing was expected, or it cannot be asked.
pub async fn confirm(
    engine: &Engine,
    events: &Events,
    found: &[SocketProxy],
    generations: &[u64],
    expected: Option<Share>,
    target: &Replica,
    key: &ServiceKey,
) -> Result<Option<Share>> {
    for (found, generation) in found.iter().zip(generations) {
        let reading = retry::for_a_while(LONGEST, || has_read(found, *generation)).await;
        if let Err(remark) = reading {
            events.notice(remark);
        }
    }
    let Some(expected) = expected else {
        return Ok(None);
    };
    let settings = Settings {
        // A Traefik that reads the engine itself is not asked, and is no reason to refuse.
        ignore: [Check::Switch].into(),
        ..Settings::resolve(Default::default())
    };
    let replicas = [target.clone()];
    let asked = traefik(engine, settings, target, key).await;
    let mut traefik = match asked {
        Ok(traefik) => traefik,
        Err(error) => {
            events.notice(format!("Traefik was not asked: {}", error.message));
            return Ok(None);
        }
    };
    let limit = LONGEST.max(traefik.held_back());
    let plan = RoutePlan {
        shares: [(Target::Replica(target.id.clone()), expected)].into(),
    };
    let question = Question {
        plan: &plan,
        replicas: &replicas,
        awaited: &[target],
        known: None,
    };
    let limits = Limits {
        total: limit,
        stand: Duration::ZERO,
        held_back: traefik.held_back(),
        way_back: false,
    };
    match agree(&mut traefik, &question, &limits).await.has_stood {
        true => {
            sleep(SETTLE).await;
            Ok(Some(expected))
        }
        false => Err(Error::failed(format!(
            "Traefik does not show within {}s that it {} {}",
            limit.as_secs(),
            match expected {
                Share::Live | Share::Weight(_) | Share::Preview => "routes to",
                Share::Hidden => "routes nothing to",
            },
            target.name
        ))
        .hint("the labels are set; rollout relabel --list shows them, docker logs of Traefik why it does not take them")),
    }
}

async fn traefik(
    engine: &Engine,
    settings: Settings,
    target: &Replica,
    key: &ServiceKey,
) -> Result<Relabel> {
    let mut landscape = Landscape::read(engine, &key.project).await?;
    let service = Service {
        name: key.service.clone(),
        labels: target.labels.clone(),
        ..Service::default()
    };
    let context = ServiceContext {
        service: &service,
        key: key.clone(),
        settings,
        hooks: Hooks::new(),
        steps: Vec::new(),
        metrics: Vec::new(),
        purpose: Purpose::Settle,
        of_several: false,
        replicas: 1,
        beside: Beside::default(),
        runs_once: false,
        declared_networks: target.networks.iter().cloned().collect(),
        epoch: 0,
        dependencies: Vec::new(),
        olds: vec![target.clone()],
        // A container has its image's labels already.
        image: Some(Image::default()),
        joined: Vec::new(),
    };
    let wanted = Wanted::of(&context);
    let mut all = discover::traefiks(&mut landscape, &context.networks()).await?;
    all.retain(|own| discover::concerns(own, &wanted, &context.olds));
    relabel(&context, &landscape, &all).await
}

/// Whether every Traefik that counts has listed the generation; if not, which have not.
async fn has_read(found: &SocketProxy, generation: u64) -> Result<(), String> {
    let readers = found.control.readers().await;
    let readers = readers.map_err(|error| error.message)?;
    let late: Vec<&str> = readers
        .iter()
        .filter(|reader| reader.counts() && is_traefik(reader))
        .filter(|reader| reader.generation < Some(generation))
        .filter_map(|reader| Some(reader.container.as_ref()?.name.as_str()))
        .collect();
    match late.is_empty() {
        true => Ok(()),
        false => Err(format!("{} has not read it yet", late.join(", "))),
    }
}
