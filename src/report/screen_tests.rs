//! The exact text of whole rollouts.

use super::*;
use crate::{event::Batch, model::Drained};

/// A scripted run: what is shown of each event, and of what goes on between them.
struct Run {
    screen: Screen,
    scope: Scope,
    now: SystemTime,
    shown: String,
}

impl Run {
    fn of(service: &str, look: Look) -> Self {
        let scope = Scope {
            service: Some(service.to_owned()),
            ..Scope::default()
        };
        Self {
            screen: Screen::new(look, false),
            scope,
            now: SystemTime::UNIX_EPOCH,
            shown: String::new(),
        }
    }

    fn event(&mut self, event: Event) -> &mut Self {
        for line in self.screen.lines(self.now, &self.scope, &event) {
            self.shown += &format!("{line}\n");
        }
        self
    }

    /// Time passes; what goes on by then is in brackets.
    fn after(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        let activity = self.screen.activity(self.now).unwrap_or_default();
        self.shown += &format!("[{activity}]\n");
        self
    }

    fn opening(&mut self) -> &mut Self {
        let services = vec![self.scope.service().to_owned()];
        self.event(Event::Opening { services })
    }

    fn started(&mut self, replicas: u32) -> &mut Self {
        self.event(Event::Started {
            revision: 2,
            replicas,
            proxy: "Traefik (edge-traefik-1) through the socket proxy".to_owned(),
            image: "app:v2".to_owned(),
            replaces: Some("app:v1".to_owned()),
            undo_to: None,
            restart_of: None,
        })
    }

    fn begin(&mut self, step: &'static str, replicas: &[&str], limit: Option<u64>) -> &mut Self {
        let replicas = replicas.iter().map(|name| (*name).to_owned()).collect();
        let limit_ms = limit.map(|seconds| seconds * 1000);
        self.event(Event::StepStarted {
            step,
            replicas,
            limit_ms,
            batch: None,
        })
    }

    fn end(&mut self, step: &'static str, ms: u64) -> &mut Self {
        self.event(Event::StepFinished { step, ms })
    }

    fn step(&mut self, step: &'static str, ms: u64) -> &mut Self {
        self.begin(step, &["shop-web-1"], None).end(step, ms)
    }

    fn ready(&mut self, replica: &str) -> &mut Self {
        let (replica, by) = (replica.to_owned(), "health check passed".to_owned());
        self.event(Event::Ready { replica, by })
    }

    fn finished(&mut self) -> &mut Self {
        self.event(Event::Finished {
            revision: 2,
            replicas: 1,
            image: "app:v2".to_owned(),
            replaces: Some("app:v1".to_owned()),
            cutover_ms: Some(184),
            live_ms: Some(4120),
            gap_ms: None,
            total_ms: 6230,
            phases: BTreeMap::from([("create", 400), ("other", 5830)]),
        })
    }

    #[track_caller]
    fn shows(&self, expected: &str) {
        assert_eq!(self.shown, expected.trim_start_matches('\n'));
    }
}

#[test]
fn a_step_of_a_rolling_update_names_its_batch() {
    let mut run = Run::of("web", Look::default());
    for (batch, ms) in [(1, 400), (2, 300)] {
        run.event(Event::StepStarted {
            step: "create",
            replicas: Vec::new(),
            limit_ms: None,
            batch: Some(Batch { batch, batches: 4 }),
        });
        run.after(1).end("create", ms);
    }
    run.event(Event::StepFailed {
        step: "ready",
        reason: "timed out".to_owned(),
    });
    run.step("release", 12).shows(
        "
[creating the new replicas, batch 1 of 4 (1 s)]
  ✓ create            0.4 s, batch 1 of 4
[creating the new replicas, batch 2 of 4 (1 s)]
  ✓ create            0.3 s, batch 2 of 4
  ✗ wait until ready  timed out, batch 2 of 4
  ✓ release           12 ms
",
    );
}

#[test]
fn a_rollout_that_works_names_the_images_first_and_last() {
    let mut run = Run::of("web", Look::default());
    run.opening().after(1).begin("pull", &[], None).after(3);
    run.end("pull", 3012).started(1);
    run.step("hold", 41).step("create", 400);
    run.begin("ready", &[], Some(60)).after(2);
    run.ready("shop-web-2")
        .end("ready", 3004)
        .step("cutover", 12);
    run.begin("confirm", &[], Some(30)).after(2);
    run.end("confirm", 184)
        .begin("bake", &[], Some(14))
        .after(2);
    run.end("bake", 14_000);
    run.begin("drain", &["shop-web-1"], Some(30)).after(1);
    let replica = "shop-web-1".to_owned();
    run.event(Event::Draining {
        replica: replica.clone(),
        unanswered: 1,
        streaming: 0,
    });
    run.after(2).event(Event::Drained {
        replica,
        how: Drained::Answered,
    });
    run.end("drain", 3000).step("stop", 300).step("remove", 99);
    run.step("rename", 5).step("release", 8).finished();
    assert_eq!(run.screen.activity(run.now), None);
    run.shows(
        "
web: reading the Compose files and the engine
[web: reading the Compose files and the engine (1 s)]
[pulling the image (3 s)]
  ✓ pull              3.0 s
web: app:v1 → app:v2, revision 2, 1 replica, Traefik (edge-traefik-1) through the socket proxy
  ✓ prepare           41 ms
  ✓ create            0.4 s
[waiting until the new replicas are ready (0 of 1 ready, 58 s left)]
    new replica shop-web-2 is ready: health check passed
  ✓ wait until ready  3.0 s
  ✓ switch            12 ms
[waiting for Traefik to pick up the change (28 s left)]
  ✓ confirm           0.2 s
[baking: old replicas kept for rollback (12 s left)]
  ✓ bake              14.0 s
[draining shop-web-1 (29 s left)]
[draining shop-web-1: 1 request in flight (27 s left)]
  ✓ drain             3.0 s
  ✓ stop              0.3 s
  ✓ remove            99 ms
  ✓ rename            5 ms
  ✓ release           8 ms
web: app:v1 → app:v2 live after 4.1 s (cutover 0.2 s), done after 6.2 s
",
    );
}

/// A replica that fails, the way back, and how the command ends.
fn fails(run: &mut Run) {
    run.opening()
        .started(1)
        .step("hold", 41)
        .step("create", 400);
    run.begin("ready", &[], Some(60));
    let reason = "a new replica has failed".to_owned();
    run.event(Event::StepFailed {
        step: "ready",
        reason,
    });
    let ill = "new replica shop-web-2 is unhealthy (health check: connection refused)";
    run.event(Event::Undoing {
        reason: ill.to_owned(),
    });
    run.step("stop", 300).step("remove", 99).step("release", 8);
    run.event(Event::Failed {
        message: format!("{ill}; the old version serves"),
        code: 1,
        gap_ms: None,
        is_open: false,
        hint: Some("fix the problem and run `rollout web` again".to_owned()),
        logs: vec![
            "\u{1b}[31mcannot connect\u{1b}[0m".to_owned(),
            "exit\r".to_owned(),
        ],
    });
}

#[test]
fn a_rollout_that_fails_ends_with_the_last_log_lines_and_the_next_command() {
    let mut run = Run::of("web", Look::default());
    fails(&mut run);
    run.shows(
        "
web: reading the Compose files and the engine
web: app:v1 → app:v2, revision 2, 1 replica, Traefik (edge-traefik-1) through the socket proxy
  ✓ prepare           41 ms
  ✓ create            0.4 s
  ✗ wait until ready  a new replica has failed
  ✗ new replica shop-web-2 is unhealthy (health check: connection refused); rolling back
  ✓ stop              0.3 s
  ✓ remove            99 ms
  ✓ release           8 ms
last lines of what failed:
  | cannot connect
  | exit 
error: new replica shop-web-2 is unhealthy (health check: connection refused); the old version serves
next: fix the problem and run `rollout web` again
",
    );
}

#[test]
fn the_lines_of_a_hook_are_shown_as_they_come_and_its_end_as_a_step() {
    let mut run = Run::of("web", Look::default());
    run.started(1).begin("pre-deploy", &[], Some(600)).after(5);
    for line in ["adding notes", "\u{1b}[31mno such column\u{1b}[0m"] {
        let line = line.to_owned();
        let hook = "pre-deploy";
        run.event(Event::Hook { hook, line });
    }
    let reason = "the pre-deploy hook ended with exit code 3".to_owned();
    run.event(Event::StepFailed {
        step: "pre-deploy",
        reason: reason.clone(),
    });
    run.event(Event::Undoing { reason });
    run.shows(
        "
web: app:v1 → app:v2, revision 2, 1 replica, Traefik (edge-traefik-1) through the socket proxy
[running the pre-deploy hook (595 s left)]
    pre-deploy: adding notes
    pre-deploy: no such column
  ✗ pre-deploy        the pre-deploy hook ended with exit code 3
  ✗ the pre-deploy hook ended with exit code 3; rolling back
",
    );
}

#[test]
fn a_dumb_terminal_of_80_columns_gets_ascii_and_no_control_sequence() {
    let look = Look {
        width: Some(80),
        ascii: true,
        ..Look::default()
    };
    let mut run = Run::of("web", look);
    fails(&mut run);
    assert!(
        run.shown
            .chars()
            .all(|own| own == '\n' || (' '..='~').contains(&own))
    );
    run.shows(
        "
web: reading the Compose files and the engine
web: app:v1 -> app:v2, revision 2, 1 replica, Traefik (edge-traefik-1) through
    the socket proxy
  + prepare           41 ms
  + create            0.4 s
  x wait until ready  a new replica has failed
  x new replica shop-web-2 is unhealthy (health check: connection refused);
      rolling back
  + stop              0.3 s
  + remove            99 ms
  + release           8 ms
last lines of what failed:
  | cannot connect
  | exit 
error: new replica shop-web-2 is unhealthy (health check: connection refused);
    the old version serves
next: fix the problem and run `rollout web` again
",
    );
}

#[test]
fn a_terminal_draws_the_opening_in_place_and_styles_its_lines() {
    let look = Look {
        colours: true,
        redraws: true,
        ..Look::default()
    };
    let mut run = Run::of("web", look);
    run.opening().after(0).step("pull", 300).finished();
    run.shows(
        "
[web: reading the Compose files and the engine (0 s)]
  \u{1b}[32m✓\u{1b}[0m pull              0.3 s
\u{1b}[1mweb\u{1b}[0m: app:v1 → app:v2 live after 4.1 s (cutover 0.2 s), done after 6.2 s
",
    );
}

#[test]
fn long_names_fit_80_columns_as_far_as_they_have_spaces() {
    let look = Look {
        width: Some(80),
        ..Look::default()
    };
    let image = |version| format!("registry.example.com/team/very-long-service-name:{version}");
    let mut run = Run::of("very-long-service-name", look);
    run.event(Event::Started {
        revision: 12,
        replicas: 3,
        proxy: "Traefik (infrastructure-traefik-1) through the socket proxy".to_owned(),
        image: image("2026-11-29"),
        replaces: Some(image("2026-11-28")),
        undo_to: Some(7),
        restart_of: None,
    });
    let replica = "a-project-with-a-long-name-very-long-service-name-4".to_owned();
    let by = "health check passed".to_owned();
    run.event(Event::Ready { replica, by });
    run.event(Event::Finished {
        revision: 12,
        replicas: 3,
        image: image("2026-11-29"),
        replaces: Some(image("2026-11-28")),
        cutover_ms: None,
        live_ms: None,
        gap_ms: Some(2100),
        total_ms: 75_000,
        phases: BTreeMap::new(),
    });
    run.shows(
        "
very-long-service-name:
    registry.example.com/team/very-long-service-name:2026-11-28 →
    registry.example.com/team/very-long-service-name:2026-11-29, revision 12
    (undo to 7), 3 replicas, Traefik (infrastructure-traefik-1) through the
    socket proxy
    new replica a-project-with-a-long-name-very-long-service-name-4 is ready (1
        of 3): health check passed
very-long-service-name:
    registry.example.com/team/very-long-service-name:2026-11-28 →
    registry.example.com/team/very-long-service-name:2026-11-29 runs, without a
    proxy, not served for 2.1 s, done after 75.0 s
",
    );
    assert!(run.shown.lines().all(|line| line.chars().count() <= 80));
}

#[test]
fn what_a_new_replica_logs_has_its_name_before_it() {
    let mut run = Run::of("web", Look::default());
    run.event(Event::Log {
        replica: "shop-web-2".to_owned(),
        line: "\u{1b}[32mlistening\u{1b}[0m on 80".to_owned(),
    });
    run.shows("    shop-web-2 | listening on 80\n");
}

#[test]
fn two_replicas_that_get_ready_one_after_the_other_are_counted() {
    let mut run = Run::of("web", Look::default());
    run.started(2).begin("ready", &[], Some(60)).after(3);
    run.ready("shop-web-3")
        .after(4)
        .ready("shop-web-4")
        .after(1);
    run.end("ready", 8004);
    run.shows(
        "
web: app:v1 → app:v2, revision 2, 2 replicas, Traefik (edge-traefik-1) through the socket proxy
[waiting until the new replicas are ready (0 of 2 ready, 57 s left)]
    new replica shop-web-3 is ready (1 of 2): health check passed
[waiting until the new replicas are ready (1 of 2 ready, 53 s left)]
    new replica shop-web-4 is ready (2 of 2): health check passed
[waiting until the new replicas are ready (2 of 2 ready, 52 s left)]
  ✓ wait until ready  8.0 s
",
    );
}

#[test]
fn two_replicas_that_drain_are_named_with_what_each_still_answers() {
    let mut run = Run::of("web", Look::default());
    run.begin("drain", &["web-1", "web-2"], Some(30));
    for (replica, unanswered, streaming) in [("web-1", 0, 1), ("web-2", 2, 1)] {
        run.event(Event::Draining {
            replica: replica.to_owned(),
            unanswered,
            streaming,
        });
    }
    run.after(2);
    run.shows(
        "
[draining web-1: 1 stream in flight, web-2: 2 requests and 1 stream in flight (28 s left)]
",
    );
}

#[test]
fn what_is_waited_for_outside_of_a_step_is_not_called_reading() {
    let mut run = Run::of("web", Look::default());
    let text = "shop/web is being rolled by ada@vm; waiting".to_owned();
    run.opening().event(Event::Notice { text }).after(2);
    run.shows(
        "
web: reading the Compose files and the engine
  ! shop/web is being rolled by ada@vm; waiting
[waiting (2 s)]
",
    );
}

#[test]
fn only_the_cause_that_was_shown_is_left_out_of_a_message() {
    for (message, shown, left) in [
        ("no pull: no host", "no pull: no host", "no pull"),
        (
            "no pull: no host; db was not touched",
            "no pull: no host",
            "no pull; db was not touched",
        ),
        (
            "it died; the old version serves",
            "it died",
            "it died; the old version serves",
        ),
        ("no pull: no host", "", "no pull: no host"),
        ("another: cause", "no pull: no host", "another: cause"),
    ] {
        assert_eq!(without_cause(message, shown), left);
    }
}
