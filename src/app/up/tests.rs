//! What a plan of several services checks, and what it leaves alone.

use std::{
    sync::{Arc, Mutex},
    time::SystemTime,
};

use super::*;
use crate::{
    check::Check,
    cli::TargetArgs,
    compose,
    event::{Scope, Sink},
    report::Output,
    roll::tests::Bench,
    settings::Partial,
};

/// `job` publishes a fixed port, so two of it cannot run side by side.
const PROJECT: &str = "name: shop
services:
  web: {image: web, x-rollout: {proxy: none}}
  job: {image: job, ports: [{target: 80, published: '80'}], x-rollout: {proxy: none}}
";

/// The services that are planned, and the notices.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<(Vec<String>, Vec<String>)>>);

impl Sink for Seen {
    fn event(&mut self, _: SystemTime, scope: &Scope, event: &Event) {
        let mut seen = self.0.lock().unwrap();
        match event {
            Event::Plan(_) => seen.0.push(scope.service().to_owned()),
            Event::Notice { text } => seen.1.push(text.clone()),
            _ => {}
        }
    }
}

/// How `rollout --all --dry-run` of these services ends, and what it reports.
async fn planned(services: &[&str]) -> (Result<Outcome>, Seen) {
    let Bench {
        fake,
        engine,
        compose,
        ..
    } = Bench::with(0).await;
    let opened = Opened {
        engine,
        compose,
        project: compose::resolved(PROJECT).unwrap(),
    };
    let up = UpArgs {
        services: services.iter().map(|&name| name.to_owned()).collect(),
        all: true,
        remove_orphans: false,
        set: Vec::new(),
        decided: Vec::new(),
        settings: Partial::default(),
        dry_run: true,
        target: TargetArgs {
            output: Some(Output::Json),
            ..TargetArgs::default()
        },
    };
    let seen = Seen::default();
    let events = Events::new(vec![Box::new(seen.clone())]);
    let (_sender, interrupted) = watch::channel(false);
    let listed = Listed::read(&opened.engine).await;
    let outcome = roll_or_plan(&up, (&opened, listed), (false, interrupted), &events).await;
    assert_eq!(fake.changes(), []);
    (outcome, seen)
}

#[tokio::test]
async fn a_plan_leaves_alone_what_all_leaves_alone() {
    let (outcome, seen) = planned(&[]).await;
    assert_eq!(outcome.unwrap(), Outcome::Changes);
    let (plans, notices) = seen.0.lock().unwrap().clone();
    assert_eq!(plans, ["web"]);
    let left = |text: &String| text.starts_with("left alone: job (");
    assert!(notices.iter().any(left), "{notices:?}");
}

#[tokio::test]
async fn a_named_service_that_cannot_run_twice_is_refused_before_any_is_planned() {
    let (outcome, seen) = planned(&["job"]).await;
    assert_eq!(outcome.unwrap_err().check, Some(Check::HostPorts));
    assert_eq!(seen.0.lock().unwrap().0, [""; 0]);
}
