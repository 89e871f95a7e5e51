//! Hooks on the host, with an engine that keeps their records.

use std::{
    future::pending,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::{
    compose::{self, Compose},
    docker::{
        engine::Engine,
        http::{Body, json as answer, refusal},
    },
    event::{Scope, Sink},
    fake_engine::FakeEngine,
    hooks,
    plan::simulator::old,
    state::{self, store::File},
};

fn table(method: &str, path: &str) -> Response<Body> {
    match (method, path) {
        ("GET", "/version") => answer(StatusCode::OK, &json!({"ApiVersion": "1.41"})),
        ("GET", "/containers/json") => answer(StatusCode::OK, &json!([])),
        ("GET", _) => refusal(StatusCode::NOT_FOUND, "No such thing"),
        (_, "/containers/create") => {
            answer(StatusCode::CREATED, &json!({"Id": "lock", "Warnings": []}))
        }
        _ => answer(StatusCode::OK, &json!({})),
    }
}

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Value>>>);

impl Sink for Recorder {
    fn event(&mut self, _: SystemTime, _: &Scope, event: &Event) {
        self.0.lock().unwrap().push(json!(event));
    }
}

/// What came of a hook in `post-deploy`.
struct Outcome {
    ended: Ended,
    lines: Vec<String>,
    notices: Vec<String>,
    /// How many records were written.
    records: usize,
}

async fn run(hooks: Value, records: &Records, cut_short: bool) -> Outcome {
    let fake = FakeEngine::start(|method, path, _| table(method, path));
    let recorder = Recorder::default();
    let events = Events::new(vec![Box::new(recorder.clone())]);
    let engine = Engine::connect(fake.endpoint(), &events).await.unwrap();
    let compose = Compose::scripted(fake.endpoint(), "").await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("here"), "").unwrap();
    let mut project = compose::resolved("name: shop\nservices: {web: {image: a}}\n").unwrap();
    project.directory = folder.path().to_owned();
    let mut context = ServiceContext::of(project.service("web").unwrap());
    let x_rollout = json!({"hooks": {"pre-deploy": {"run": "x"}, "post-deploy": hooks}});
    context.hooks = hooks::read("web", Some(&x_rollout)).unwrap();
    let wait = std::time::Duration::ZERO;
    let lock = state::lock(&engine, &context.key, "a", wait, &events);
    let lock = lock.await.unwrap();
    let about = About::of(&context, &revision(), &[old("old-1")], records);
    let runner = Runner {
        run: RunContext::new(&engine, (&compose, &project), &events),
        context: &context,
        lock: &lock,
        events: &events,
        about: &about,
    };
    let cut_short = async {
        match cut_short {
            true => "was interrupted".to_owned(),
            false => pending().await,
        }
    };
    let given = (None, Some("web-1 is unhealthy"));
    let before = fake.changes().len();
    let ended = runner.run(HookPhase::PostDeploy, given, cut_short).await;
    let texts = |kind: &str, field: &str| -> Vec<String> {
        let all = recorder.0.lock().unwrap();
        let all = all.iter().filter(|event| event["event"] == kind);
        all.map(|event| event[field].as_str().unwrap().to_owned())
            .collect()
    };
    Outcome {
        ended,
        lines: texts("hook", "line"),
        notices: texts("notice", "text"),
        records: fake.changes().len() - before,
    }
}

fn revision() -> Revision {
    let mut revision = Revision {
        number: 7,
        rollout: "r7".to_owned(),
        ..Revision::default()
    };
    revision.image.reference = "app:v2".to_owned();
    revision
}

fn why(outcome: &Outcome) -> &str {
    match &outcome.ended.end {
        HookEnd::Failed(why) => why,
        HookEnd::Passed => panic!("it passed"),
    }
}

#[tokio::test]
async fn a_hook_of_the_host_runs_in_the_projects_directory_with_what_it_is_about() {
    let script = "ls; echo $ROLLOUT_PROJECT $ROLLOUT_SERVICE $ROLLOUT_ROLLOUT $ROLLOUT_REVISION >&2; \
                  echo $ROLLOUT_IMAGE [$ROLLOUT_OLD_IMAGE] $ROLLOUT_HOOK $ROLLOUT_ERROR";
    let list = json!([{ "host": script }, {"host": ["echo", "a  b"]}]);
    let outcome = run(list, &Records::default(), false).await;
    assert_eq!(outcome.ended.end, HookEnd::Passed);
    let wanted = [
        "here",
        "shop web r7 7",
        "app:v2 [] post-deploy web-1 is unhealthy",
        "a  b",
    ];
    assert_eq!(outcome.lines, wanted);
    assert_eq!(outcome.ended.lines, wanted);
    assert_eq!((outcome.records, outcome.notices), (2, vec![]));
}

#[tokio::test]
async fn a_hook_that_fails_ends_its_phase_and_shows_its_last_lines() {
    let list = json!([{"host": "seq 100; exit 3"}, {"host": "echo never"}]);
    let outcome = run(list, &Records::default(), false).await;
    assert_eq!(why(&outcome), "the post-deploy hook ended with exit code 3");
    assert_eq!(outcome.lines.len(), 100);
    let last: Vec<String> = (86..=100).map(|number| number.to_string()).collect();
    assert_eq!((outcome.ended.lines, outcome.records), (last, 2));
}

#[tokio::test]
async fn a_hook_that_hangs_or_is_cut_short_is_ended() {
    let hangs = json!({"host": "sleep 600", "timeout": "100ms"});
    let outcome = run(hangs.clone(), &Records::default(), false).await;
    assert_eq!(
        why(&outcome),
        "the post-deploy hook did not end within 100ms"
    );
    let outcome = run(hangs, &Records::default(), true).await;
    assert_eq!(why(&outcome), "the post-deploy hook was interrupted");
    assert_eq!(outcome.records, 2);
}

fn begun(phase: HookPhase, end: Option<HookEnd>) -> Records {
    let entry = Entry {
        epoch: 1,
        rollout: RolloutId("r7".to_owned()),
        phase,
        end,
    };
    Records::read(&[File::of(&entry.path(), &entry)])
}

#[tokio::test]
async fn hooks_that_run_a_second_time_say_so() {
    let records = begun(HookPhase::PostDeploy, None);
    let outcome = run(json!({"host": "echo again"}), &records, false).await;
    let notice = "the post-deploy hook of rollout r7 began and did not end: it runs again";
    assert_eq!(outcome.notices, [notice]);
    assert_eq!(outcome.lines, ["again"]);
}

#[test]
fn hooks_that_have_ended_do_not_run_again_and_a_recorded_revision_has_no_migration() {
    let project = compose::resolved("name: shop\nservices: {web: {image: a}}\n").unwrap();
    let mut context = ServiceContext::of(project.service("web").unwrap());
    let hook = json!({"host": "x"});
    let all = json!({"hooks": {"pre-deploy": hook, "pre-cutover": hook, "post-cutover": hook}});
    context.hooks = hooks::read("web", Some(&all)).unwrap();
    let of = |revision: &Revision, records: &Records| About::of(&context, revision, &[], records);
    use HookPhase::{PostCutover, PreCutover, PreDeploy};
    let about = of(&revision(), &begun(PostCutover, None));
    assert_eq!(about.phases, [PreDeploy, PreCutover, PostCutover].into());
    let left = |about: &About, goal| (about.left(&goal), about.ends());
    assert_eq!(
        left(&about, Goal::Finish),
        ([PostCutover].into(), [].into())
    );
    // In a preview those before the cutover may not have run.
    assert_eq!(about.left(&Goal::Roll), [PreCutover, PostCutover].into());
    let failed = HookEnd::Failed("why".to_owned());
    let about = of(&revision(), &begun(PostCutover, Some(failed.clone())));
    assert_eq!(about.phases, [PreDeploy, PreCutover].into());
    assert_eq!(
        left(&about, Goal::Finish),
        ([].into(), [(PostCutover, failed)].into())
    );
    let undo = Revision {
        undo_to: Some(1),
        ..revision()
    };
    let restart = Revision {
        restart_of: Some(7),
        ..revision()
    };
    for recorded in [undo, restart] {
        let about = of(&recorded, &Records::default());
        assert_eq!(about.phases, [PreCutover, PostCutover].into());
    }
}
