//! Notices before the first step: actions of Compose that a rollout omits, bind mounts that would be empty, and memory
//! limits above what is free.

use std::cmp::Reverse;

use serde_json::Value;

use super::prepare::Prepared;
use crate::{compose::Project, docker::engine::Memory, event::Events, here::Here, model::Order};

impl Prepared<'_> {
    pub(super) async fn warn(&self) {
        let here = Here::find(self.run.engine).await;
        for text in self.warnings(&here).await {
            self.run.events.notice(text);
        }
    }

    /// `here` is where this program runs.
    pub(super) async fn warnings(&self, here: &Here) -> Vec<String> {
        let (run, service) = (&self.run, self.context.service);
        let mut all = Vec::from_iter(left_running(run.project, &service.name));
        let lost = here.lost_binds(run.project, service).into_iter();
        all.extend(lost.map(|own| format!("{own}; {}", own.hint())));
        if let Some(limit) = self.memory_limit()
            && let Some(memory) = run.engine.memory().await
        {
            all.extend(short_of_memory(limit, self.context.replicas, memory));
        }
        all
    }

    /// What one new replica may use beside the old ones, in bytes.
    fn memory_limit(&self) -> Option<u64> {
        // Stopped replicas free what they use, and how much that is shows only then.
        let runs_beside = self.context.settings.order() == Order::StartFirst;
        let limit = memory_limit(self.context.service.raw(self.run.project));
        limit.filter(|_| runs_beside)
    }
}

/// A warning where so many of these services at once may use more memory than there is, although each alone does not.
pub async fn warn_of_memory(services: &[Prepared<'_>], at_once: usize, events: &Events) {
    let need = |own: &Prepared<'_>| {
        let replicas = u64::from(own.context.replicas);
        let all = own.memory_limit()?.saturating_mul(replicas);
        Some((own.scope().service().to_owned(), all))
    };
    let needs: Vec<(String, u64)> = services.iter().filter_map(need).collect();
    if let Some(first) = services.first().filter(|_| needs.len() > 1)
        && let Some(memory) = first.run.engine.memory().await
        && let Some(text) = short_together(needs, at_once, memory)
    {
        events.notice(text);
    }
}

fn short_together(mut needs: Vec<(String, u64)>, at_once: usize, memory: Memory) -> Option<String> {
    needs.sort_by_key(|(_, need)| Reverse(*need));
    needs.truncate(at_once);
    let sum = needs.iter().map(|(_, need)| *need);
    let sum = sum.fold(0, u64::saturating_add);
    let fits = |room| needs.iter().all(|(_, need)| *need <= room);
    let names: Vec<&str> = needs.iter().map(|(name, _)| name.as_str()).collect();
    let (room, there_is) = there_is(memory);
    let mut used = 0_u64;
    let fitting = needs.iter().take_while(|(_, need)| {
        used = used.saturating_add(*need);
        used <= room
    });
    let fitting = fitting.count();
    (sum > room && fits(room)).then(|| {
        format!(
            "the new replicas of {} may use {} of memory at the same time, and {there_is}: lower their memory limits, or \
             roll them with --parallel {fitting} and without --together",
            names.join(", "),
            size(sum)
        )
    })
}

/// What one replica of a resolved service may use, in bytes.
fn memory_limit(service: &Value) -> Option<u64> {
    let places = [
        &service["deploy"]["resources"]["limits"]["memory"],
        &service["mem_limit"],
    ];
    let bytes = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let mut limits = places.into_iter().filter_map(bytes);
    limits.find(|limit| *limit > 0)
}

/// A warning where all new replicas together may use more than there is.
fn short_of_memory(limit: u64, replicas: u32, memory: Memory) -> Option<String> {
    let all = limit.saturating_mul(u64::from(replicas));
    let (room, there_is) = there_is(memory);
    let sum = match replicas {
        1 => format!("a new replica may use {} of memory", size(limit)),
        _ => format!(
            "{replicas} new replicas may use {} of memory, {} each",
            size(all),
            size(limit)
        ),
    };
    (all > room).then(|| {
        format!(
            "{sum}, and {there_is}: lower the memory limit or --scale, or stop the old replicas first with --strategy \
             recreate"
        )
    })
}

/// The memory in bytes, and in words.
fn there_is(memory: Memory) -> (u64, String) {
    match memory {
        Memory::Free(room) => (room, format!("{} are free now", size(room))),
        Memory::Total(room) => (room, format!("the engine's machine has {}", size(room))),
    }
}

fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    match bytes / MIB {
        mib @ 0..1024 => format!("{mib} MiB"),
        mib => format!("{:.1} GiB", mib as f64 / 1024.0),
    }
}

/// Services that Compose would restart once it has replaced this one.
fn left_running(project: &Project, name: &str) -> Option<String> {
    let restarts = project.services.values().filter(|own| {
        let mut needs = own.depends_on.iter();
        needs.any(|own| own.service == name && own.restart)
    });
    let names: Vec<&str> = restarts.map(|own| own.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "depends_on with restart: true is not carried out, {} is not restarted; if it must be, run afterwards: \
             docker compose restart {}",
            names.join(", "),
            names.join(" ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_compose_would_restart_is_named() {
        let text = "name: p
services:
  web: {image: a}
  api: {image: a, depends_on: {web: {condition: service_started, restart: true, required: true}}}
  job: {image: a, depends_on: {web: {condition: service_started, required: true}}}
";
        let project = crate::compose::resolved(text).unwrap();
        let said = left_running(&project, "web").unwrap();
        assert!(said.ends_with("docker compose restart api"), "{said}");
        assert_eq!(left_running(&project, "api"), None);
    }

    #[test]
    fn a_memory_limit_is_read_where_compose_may_have_it() {
        let text = "name: p
services:
  web: {image: a, deploy: {resources: {limits: {memory: \"536870912\"}}}}
  api: {image: a, mem_limit: \"1024\"}
  job: {image: a}
";
        let project = crate::compose::resolved(text).unwrap();
        let limit = |name: &str| memory_limit(project.services[name].raw(&project));
        assert_eq!(limit("web"), Some(512 << 20));
        assert_eq!(limit("api"), Some(1024));
        assert_eq!(limit("job"), None);
        assert_eq!(memory_limit(&serde_json::json!({"mem_limit": 7})), Some(7));
        assert_eq!(memory_limit(&serde_json::json!({"mem_limit": "0"})), None);
    }

    #[test]
    fn services_that_fit_alone_and_not_side_by_side_are_named() {
        let needs = |all: &[(&str, u64)]| {
            let own = all
                .iter()
                .map(|(name, gib)| ((*name).to_owned(), gib << 30));
            own.collect::<Vec<_>>()
        };
        let said = |at_once| {
            let needs = needs(&[("api", 1), ("web", 3), ("job", 2)]);
            short_together(needs, at_once, Memory::Free(4 << 30))
        };
        assert_eq!(said(1), None);
        let two = "the new replicas of web, job may use 5.0 GiB of memory at the same time, and 4.0 GiB are free now";
        let said = said(2).unwrap();
        assert!(
            said.starts_with(two) && said.contains("--parallel 1 "),
            "{said}"
        );
        // Each rollout warns of what does not fit alone.
        let alone = needs(&[("api", 1), ("web", 5)]);
        assert_eq!(short_together(alone, 2, Memory::Free(4 << 30)), None);
    }

    #[test]
    fn limits_that_do_not_fit_are_named_with_what_there_is() {
        let half = 512 << 20;
        assert_eq!(short_of_memory(half, 2, Memory::Free(1 << 30)), None);
        let said = short_of_memory(half, 3, Memory::Free(1 << 30)).unwrap();
        assert!(
            said.starts_with(
                "3 new replicas may use 1.5 GiB of memory, 512 MiB each, and 1.0 GiB are free now: lower"
            ),
            "{said}"
        );
        let said = short_of_memory(half, 1, Memory::Total(half - 1)).unwrap();
        assert!(
            said.starts_with(
                "a new replica may use 512 MiB of memory, and the engine's machine has 511 MiB: lower"
            ),
            "{said}"
        );
        assert!(said.ends_with("--strategy recreate"), "{said}");
        assert!(short_of_memory(u64::MAX, 2, Memory::Free(1)).is_some());
    }
}
