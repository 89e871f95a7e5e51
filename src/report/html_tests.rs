//! The page of runs that end well, that fail, and of several services.

use futures_util::FutureExt;

use super::*;
use crate::{
    event::{ServiceResult, ServiceRow},
    figures::Sides,
};

/// A run whose events come at these milliseconds.
#[derive(Default)]
struct Run(Vec<Record>);

impl Run {
    fn add(&mut self, service: &str, ms: u64, event: Event) {
        self.0.push(Record {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(ms),
            scope: Scope {
                service: (!service.is_empty()).then(|| service.to_owned()),
                ..Scope::default()
            },
            event,
        });
    }

    fn opens(services: &[&str]) -> Self {
        let mut run = Self::default();
        let services = services.iter().map(|&own| own.to_owned()).collect();
        run.add("", 0, Event::Opening { services });
        run
    }

    fn starts(&mut self, service: &str) {
        let event = Event::Started {
            revision: 2,
            replicas: 3,
            proxy: "Traefik, by relabelling".to_owned(),
            image: "app:v2".to_owned(),
            replaces: Some("app:v1".to_owned()),
            undo_to: None,
            restart_of: None,
        };
        self.add(service, 500, event);
    }

    fn steps(&mut self, service: &str, steps: &[(&'static str, u64, u64)]) {
        for &(step, from, to) in steps {
            let started = Event::StepStarted {
                step,
                replicas: Vec::new(),
                limit_ms: None,
                batch: None,
            };
            self.add(service, from, started);
            self.add(
                service,
                to,
                Event::StepFinished {
                    step,
                    ms: to - from,
                },
            );
        }
    }

    fn moves(&mut self, service: &str, at: u64, percent: u32) {
        self.add(service, at, Event::Traffic { percent });
    }

    fn finishes(&mut self, service: &str, total_ms: u64) {
        let event = Event::Finished {
            revision: 2,
            replicas: 3,
            image: "app:v2".to_owned(),
            replaces: Some("app:v1".to_owned()),
            cutover_ms: Some(200),
            live_ms: Some(3000),
            gap_ms: None,
            total_ms,
            phases: BTreeMap::new(),
        };
        self.add(service, total_ms, event);
    }

    fn fails(&mut self, service: &str, at: u64) {
        let event = Event::Failed {
            message: "new replica web-2 <exited> with code 1".to_owned(),
            code: 1,
            gap_ms: None,
            is_open: false,
            hint: Some("docker logs web-2 && rollout web".to_owned()),
            logs: vec![
                "\u{1b}[31m<script>alert(1)</script>\u{1b}[0m".to_owned(),
                "</pre>\"it\" & 'more' {body}".to_owned(),
            ],
        };
        self.add(service, at, event);
    }

    fn page(&self, command: &str) -> String {
        let page = page(command, &self.0);
        assert_balanced(&page);
        for elsewhere in ["http:", "https:", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(elsewhere), "{elsewhere}: {page}");
        }
        page
    }
}

/// Every tag is closed in its order, and no `<` or `&` stands for itself.
fn assert_balanced(page: &str) {
    let body = page.strip_prefix("<!DOCTYPE html>").unwrap();
    let mut open: Vec<&str> = Vec::new();
    for piece in body.split('<').skip(1) {
        let (tag, content) = piece.split_once('>').unwrap();
        let name = tag.split([' ', '/']).find(|own| !own.is_empty()).unwrap();
        assert!(name.bytes().all(|own| own.is_ascii_alphanumeric()), "{tag}");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) => assert_eq!(open.pop(), Some(name), "{page}"),
            (false, true) => {}
            (false, false) => open.push(name),
        }
        for entity in content.split('&').skip(1) {
            let (name, _) = entity.split_once(';').unwrap();
            assert!(["amp", "lt", "gt", "quot"].contains(&name), "{content}");
        }
    }
    assert_eq!(open, [""; 0]);
}

#[track_caller]
fn has(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "{part}: {page}");
    }
}

fn figures(requests: u64) -> Option<Figures> {
    Some(Figures {
        requests: Some(requests),
        failed: Some(2),
        success_rate: Some(99.5),
        p50_ms: Some(2.01),
        p95_ms: Some(7.5),
        p99_ms: Some(12.25),
        cpu: Some(0.25),
        memory: Some(64 << 20),
        ..Figures::default()
    })
}

fn spans() -> Event {
    let side = |old, new| Sides { old, new };
    Event::Figures(Box::new(Spans {
        before: side(figures(400), None),
        during: side(figures(30), figures(31)),
        after: side(
            None,
            Some(Figures {
                blind: true,
                ..Figures::default()
            }),
        ),
    }))
}

fn blue_green() -> Run {
    let mut run = Run::opens(&["web"]);
    run.starts("web");
    run.moves("web", 600, 0);
    run.steps("web", &[("create", 700, 1700), ("ready", 1700, 2700)]);
    run.steps("web", &[("cutover", 2700, 2800), ("confirm", 2800, 3000)]);
    run.moves("web", 3000, 100);
    let text = "requests by name bypass the proxy".to_owned();
    run.add("web", 3100, Event::Notice { text });
    run.steps("web", &[("drain", 3000, 3500), ("stop", 3500, 4000)]);
    run.add("web", 3900, spans());
    run.finishes("web", 4000);
    run
}

fn canary() -> Run {
    let mut run = Run::opens(&["web"]);
    run.starts("web");
    for (at, percent) in [(2000, 10), (62_000, 50), (122_000, 100)] {
        run.steps(
            "web",
            &[("shift", at - 300, at - 100), ("confirm", at - 100, at)],
        );
        run.moves("web", at, percent);
        run.steps("web", &[("pause", at, at + 59_000)]);
    }
    run.add("web", 181_000, spans());
    run.finishes("web", 182_000);
    run
}

fn failed() -> Run {
    let mut run = Run::opens(&["web"]);
    run.starts("web");
    run.steps("web", &[("create", 700, 1700)]);
    let step = "ready";
    let started = Event::StepStarted {
        step,
        replicas: Vec::new(),
        limit_ms: Some(60_000),
        batch: None,
    };
    run.add("web", 1700, started);
    let reason = "web-2 <exited>".to_owned();
    run.add("web", 3700, Event::StepFailed { step, reason });
    run.fails("web", 4000);
    run
}

#[test]
fn a_cutover_has_both_versions_its_steps_its_traffic_and_its_figures() {
    let page = blue_green().page("rollout --report run.html web");
    let whole = [
        "<title>web: done</title>",
        "1970-01-01T00:00:00Z, 4.0 s · <code>rollout --report run.html web</code>",
        "app:v1 → app:v2",
        "revision 2, 3 replicas, Traefik, by relabelling",
        "live after 3.0 s (cutover 0.2 s), done after 4.0 s",
        "<li>requests by name bypass the proxy <span class=\"quiet\">3.1 s</span></li>",
    ];
    has(&page, &whole);
    // A quarter of the run long, after 17.5 % of it.
    let bar = "<th>create</th><td class=\"track\"><div class=\"bar \" \
               style=\"margin-left:min(17.50%, 100% - 3px);width:25.00%\"></div></td><td>1.0 s</td>";
    has(
        &page,
        &[bar, "<th>switch</th>", "<th>wait until ready</th>"],
    );
    // From 0 % to 100 % at the confirmed cutover, three quarters into the run.
    has(&page, &["H524.0 V20.0 H684.0", ">100 %</text>"]);
    let row = "<tr><th>old before</th><td>400</td><td>2</td><td>99.5 %</td><td>2.01 ms</td><td>7.5 ms</td>\
               <td>12.25 ms</td><td>0.25</td><td>64 MiB</td>";
    has(&page, &[row, "<th>new during</th><td>31</td>"]);
    has(
        &page,
        &["<th>new after</th><td>TLS or no HTTP</td><td>n/a</td>"],
    );
    assert!(!page.contains("Last lines"), "{page}");
}

#[test]
fn a_canary_has_a_mark_for_each_share() {
    let page = canary().page("rollout web");
    has(
        &page,
        &[
            ">10 %</text>",
            ">50 %</text>",
            ">100 %</text>",
            "<th>pause</th>",
        ],
    );
    assert_eq!(page.matches("class=\"mark\"").count(), 3);
}

#[test]
fn a_canary_that_goes_on_begins_its_line_with_the_first_share_that_is_seen() {
    let mut run = Run::opens(&["web"]);
    run.moves("web", 1000, 50);
    run.finishes("web", 4000);
    let page = run.page("rollout promote web");
    has(&page, &["d=\"M204.0 130.0 H204.0 V75.0 H684.0"]);
}

#[test]
fn a_first_start_has_no_old_version_in_its_chart() {
    let mut run = blue_green();
    for own in &mut run.0 {
        if let Event::Started { replaces, .. } = &mut own.event {
            *replaces = None;
        }
    }
    run.0
        .retain(|own| own.event != Event::Traffic { percent: 0 });
    let page = run.page("rollout web");
    has(&page, &["class=\"old\" x=\"524.0\"", "d=\"M524.0 "]);
}

#[test]
fn a_failure_has_the_step_the_last_lines_and_the_next_command_as_plain_text() {
    let page = failed().page("rollout web");
    has(
        &page,
        &[
            "<title>web: failed</title>",
            "<div class=\"bad\">web-2 &lt;exited&gt;</div></td><td>2.0 s</td>",
            "<p class=\"bad\">new replica web-2 &lt;exited&gt; with code 1</p>",
            "<pre>&lt;script&gt;alert(1)&lt;/script&gt;\n&lt;/pre&gt;&quot;it&quot; &amp; 'more' {body}</pre>",
            "<pre>docker logs web-2 &amp;&amp; rollout web</pre>",
        ],
    );
    assert!(!page.contains("<svg"), "no traffic was moved: {page}");
    assert!(
        !page.contains("Old against new"),
        "nothing was counted: {page}"
    );
}

#[test]
fn several_services_have_a_section_each_and_the_table_of_all() {
    let mut run = Run::opens(&["web", "api"]);
    run.starts("web");
    run.starts("api");
    run.steps("web", &[("create", 700, 1700)]);
    run.moves("web", 3000, 100);
    run.finishes("web", 4000);
    run.fails("api", 8000);
    let row = |service: &str, result| ServiceRow {
        host: None,
        service: service.to_owned(),
        result,
        revision: Some(2),
        image: None,
        reason: None,
    };
    let services = vec![
        row("web", ServiceResult::Rolled),
        row("api", ServiceResult::Failed),
        row("mailer", ServiceResult::NotBegun),
    ];
    let total_ms = 8000;
    run.add("", 8000, Event::StackFinished { services, total_ms });
    let page = run.page("rollout --all");
    let (before, api) = page.split_once("<h2>api").unwrap();
    let (head, web) = before.split_once("<h2>web").unwrap();
    has(
        head,
        &["<title>web, api: failed</title>", "mailer", "not begun"],
    );
    has(web, &[">done</span>", "<svg", "<th>create</th>"]);
    has(api, &[">failed</span>", "&lt;script&gt;"]);
    assert!(!web.contains("script") && !api.contains("<svg"), "{page}");
}

#[test]
fn a_step_that_never_ends_and_a_refusal_before_any_service_are_on_the_page() {
    let mut run = Run::opens(&["web"]);
    let step = "drain";
    let started = Event::StepStarted {
        step,
        replicas: Vec::new(),
        limit_ms: None,
        batch: None,
    };
    run.add("web", 1000, started);
    run.fails("", 3000);
    let page = run.page("rollout web");
    has(&page, &["not finished</div></td><td>2.0 s</td>"]);
    let (head, _) = page.split_once("<h2>web").unwrap();
    has(head, &["<p class=\"bad\">new replica"]);
    let none = Run::default().page("rollout");
    has(&none, &["<title>rollout: ended</title>"]);
}

fn ended(report: &mut Report) -> Vec<String> {
    report.end().now_or_never().unwrap()
}

#[test]
fn a_page_of_a_rollout_that_was_settled_says_which_version_serves() {
    let settled = |forward, live: Option<(u64, &str)>| {
        let mut run = Run::opens(&["web"]);
        let event = Event::Settled {
            forward,
            revision: live.map(|(revision, _)| revision),
            image: live.map(|(_, image)| image.to_owned()),
        };
        run.add("web", 900, event);
        run.page("rollout promote web")
    };
    let page = settled(true, Some((3, "app:v2")));
    let title = "<title>web: the new version serves</title>";
    has(&page, &[title, "<strong>app:v2</strong>", "revision 3"]);
    let page = settled(false, Some((2, "app:v1")));
    let title = "<title>web: the old version serves</title>";
    has(&page, &[title, "<strong>app:v1</strong>", "revision 2"]);
    has(&settled(false, None), &["<title>web: rolled back</title>"]);
}

#[test]
fn the_page_is_written_at_the_end_and_takes_the_place_of_an_earlier_one() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("run.html");
    std::fs::write(&path, "earlier").unwrap();
    let mut report = Report::open(&path, "rollout web".to_owned()).unwrap();
    for own in blue_green().0 {
        report.event(own.at, &own.scope, &own.event);
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "earlier");
    assert!(ended(&mut report).is_empty());
    has(
        &std::fs::read_to_string(&path).unwrap(),
        &["app:v1 → app:v2"],
    );
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
    place.close().unwrap();
    let failed = ended(&mut report).concat();
    let name = path.display().to_string();
    assert!(
        failed.contains(&name) && failed.contains("is not written"),
        "{failed}"
    );
}

#[test]
fn a_place_that_takes_no_file_is_refused_in_a_line_that_names_it() {
    let place = tempfile::tempdir().unwrap();
    let missing = place.path().join("missing/run.html");
    let named = place.path().join("new/");
    for path in [place.path(), &missing, &named, Path::new("/dev/null")] {
        let refused = Report::open(path, String::new()).err().unwrap();
        let name = path.display().to_string();
        assert!(refused.message.contains(&name), "{refused}");
        assert_eq!(refused.outcome, crate::error::Outcome::Refused);
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}
