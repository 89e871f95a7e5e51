//! A plan as people read it: at most 80 columns, however wide the terminal is.

use std::time::Duration;

use super::{
    look::Look,
    rows::cut,
    screen::{change, count, done_step},
};
use crate::event::{Change, How, Plan, PlannedStep};

const WIDTH: usize = 80;

pub fn human(service: &str, plan: &Plan) -> String {
    let replicas = count(plan.replicas);
    let image = &plan.image;
    let lines = match plan.steps.is_empty() {
        true => vec![format!(
            "{service}: nothing to do, {replicas} up to date ({image})"
        )],
        false => {
            let image = change(image, plan.replaces.as_deref());
            let facts = [image, replicas].into_iter().chain(plan.proxy.clone());
            let facts: Vec<String> = facts.collect();
            let header = format!("{service}: {}", facts.join(", "));
            let unfinished = plan.unfinished.iter().map(|own| format!("  {own}"));
            let steps = plan.steps.iter().map(|own| step(own, plan));
            let lines = [header].into_iter().chain(unfinished);
            lines.chain(changes(&plan.changes)).chain(steps).collect()
        }
    };
    let look = Look {
        width: Some(WIDTH),
        ..Look::default()
    };
    let folded = lines.iter().flat_map(|line| look.lines(line));
    // A long word, such as the rule of a router, is cut.
    let lines = folded.map(|line| format!("{}\n", cut(&line, WIDTH)));
    lines.collect()
}

/// Like a diff; values are shown for labels alone.
fn changes(all: &[Change]) -> Vec<String> {
    let line = |own: &Change| {
        let name = own
            .name
            .as_deref()
            .map_or(String::new(), |name| format!(" {name}"));
        let what = match (own.part, &own.name) {
            ("config", None) => "other settings".to_owned(),
            ("contents", _) => "contents of a config or secret".to_owned(),
            (part, _) => format!("{part}{name}"),
        };
        match (own.how, &own.from, &own.to) {
            (How::Changed, Some(from), Some(to)) if own.name.is_none() => {
                vec![format!("  ~ {what} {from} → {to}")]
            }
            (How::Changed, None, _) | (How::Changed, _, None) => vec![format!("  ~ {what}")],
            (How::Changed, Some(from), Some(to)) => {
                vec![format!("  - {what}={from}"), format!("  + {what}={to}")]
            }
            (How::Added, _, to) => vec![format!("  + {what}{}", value(to))],
            (How::Removed, from, _) => vec![format!("  - {what}{}", value(from))],
        }
    };
    all.iter().flat_map(line).collect()
}

fn value(of: &Option<String>) -> String {
    of.as_ref()
        .map_or(String::new(), |value| format!("={value}"))
}

fn step(own: &PlannedStep, plan: &Plan) -> String {
    let names = own.replicas.join(", ");
    let detail = match own.step {
        "pull" | "build" if plan.fetches => plan.image.clone(),
        "pull" | "build" => format!("nothing, the engine has {}", plan.image),
        "create" => format!("new {names}"),
        "rename" => format!("to {names}"),
        "ready" => String::new(),
        "shift" if own.percent == Some(0) => own.preview.clone().unwrap_or_default(),
        "shift" if own.percent.is_some() => {
            format!(
                "{} % of the traffic to the new replicas",
                own.percent.unwrap_or_default()
            )
        }
        "hold" | "shift" | "cutover" | "cut_back" => hides(own),
        "pause" if own.limit_ms.is_none() => "until rollout promote".to_owned(),
        _ => match own.limit_ms {
            Some(limit) => humantime::format_duration(Duration::from_millis(limit)).to_string(),
            None => names,
        },
    };
    let name = match own.percent {
        Some(0) => "preview",
        _ => done_step(own.step),
    };
    let line = format!("    {name:<16}  {detail}");
    line.trim_end().to_owned()
}

/// The replicas that a change of routes hides; a new one may have the name of an old one.
fn hides(own: &PlannedStep) -> String {
    let (old, new) = own.replicas.split_at(own.old.len());
    match (old.join(", "), new.join(", ")) {
        (old, new) if old.is_empty() && new.is_empty() => String::new(),
        (old, new) if new.is_empty() => format!("hides old {old}"),
        (old, new) if old.is_empty() => format!("hides new {new}"),
        (old, new) => format!("hides old {old}, and new {new}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let step = |step, names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned());
            PlannedStep::new(step, names.collect())
        };
        let named = |part, name: &str, how, from: Option<&str>, to: Option<&str>| Change {
            name: Some(name.to_owned()),
            how,
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
            ..Change::of(part)
        };
        Plan {
            image: "app:v2".to_owned(),
            replaces: Some("app:v1".to_owned()),
            fetches: true,
            proxy: Some("Traefik (shop-traefik-1) through the socket proxy".to_owned()),
            replicas: 2,
            changes: vec![
                Change {
                    from: Some("app:v1".to_owned()),
                    to: Some("app:v2".to_owned()),
                    ..Change::of("image")
                },
                named("environment", "LEVEL", How::Changed, None, None),
                named("label", "tier", How::Changed, Some("silver"), Some("gold")),
                named("label", "gone", How::Removed, Some("1"), None),
                named("config", "command", How::Changed, None, None),
                Change::of("config"),
                Change::of("contents"),
            ],
            steps: vec![
                step("pull", &[]),
                step("hold", &["shop-web-1", "shop-web-2"]),
                step("create", &["shop-web-1", "shop-web-2"]),
                step("ready", &["shop-web-1", "shop-web-2"]),
                PlannedStep {
                    old: vec!["shop-web-1".to_owned()],
                    ..step("cutover", &["shop-web-1"])
                },
                step("confirm", &[]),
                PlannedStep {
                    limit_ms: Some(30_000),
                    ..step("watch", &[])
                },
                step("drain", &["shop-web-1"]),
                step("rename", &["shop-web-1", "shop-web-2"]),
            ],
            ..Plan::default()
        }
    }

    #[test]
    fn a_plan_names_the_images_what_differs_and_the_steps_with_their_replicas() {
        let expected = "\
web: app:v1 → app:v2, 2 replicas, Traefik (shop-traefik-1) through the socket
    proxy
  ~ image app:v1 → app:v2
  ~ environment LEVEL
  - label tier=silver
  + label tier=gold
  - label gone=1
  ~ config command
  ~ other settings
  ~ contents of a config or secret
    pull              app:v2
    prepare           hides new shop-web-1, shop-web-2
    create            new shop-web-1, shop-web-2
    wait until ready
    switch            hides old shop-web-1
    confirm
    watch             30s
    drain             shop-web-1
    rename            to shop-web-1, shop-web-2
";
        assert_eq!(human("web", &plan()), expected);
    }

    #[test]
    fn an_old_replica_that_is_hidden_is_told_from_a_new_one_of_its_name() {
        let names = ["web-1", "web-1", "web-2"].map(str::to_owned);
        let mut plan = plan();
        plan.steps = vec![PlannedStep {
            old: names[..1].to_vec(),
            ..PlannedStep::new("hold", names.to_vec())
        }];
        let text = human("web", &plan);
        let last = text.lines().last();
        let expected = "    prepare           hides old web-1, and new web-1, web-2";
        assert_eq!(last, Some(expected));
    }

    #[test]
    fn no_line_is_wider_than_80_columns_and_without_steps_there_is_one() {
        let long = "x".repeat(200);
        let mut plan = plan();
        plan.changes.push(Change {
            name: Some("rule".to_owned()),
            how: How::Added,
            to: Some(long),
            ..Change::of("label")
        });
        let many = (0..30).map(|number| format!("shop-web-{number}"));
        plan.steps.push(PlannedStep::new("stop", many.collect()));
        let text = human("web", &plan);
        let mut lines = text.lines();
        assert!(lines.all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.contains("xx…\n"), "{text}");
        plan.steps.clear();
        let one = human("web", &plan);
        assert_eq!(one, "web: nothing to do, 2 replicas up to date (app:v2)\n");
    }
}
