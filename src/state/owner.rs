//! The holder of a lock, as labels: user, machine, boot, process and start time.

use std::{collections::HashMap, fs, time::Duration};

use crate::machine::Machine;

const WHO: &str = "io.rollout.lock.who";
const SINCE: &str = "io.rollout.lock.since";
const EPOCH: &str = "io.rollout.lock.epoch";
const BOOT: &str = "io.rollout.lock.boot";
const PROCESS: &str = "io.rollout.lock.process";

/// The labels of a lock, or of a request.
pub type Labels = HashMap<String, String>;

/// `user@host`, as shown to people.
pub fn who() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| match nix::unistd::getuid() {
        root if root.is_root() => "root".to_owned(),
        other => format!("uid {other}"),
    });
    format!("{user}@{}", Machine::here().name)
}

/// The labels of a lock that this process takes at `epoch`, in milliseconds of the engine's clock.
pub fn labels(epoch: u64) -> Labels {
    let pid = std::process::id();
    let own = [
        (WHO, format!("{}, process {pid}", who())),
        (SINCE, time(epoch)),
        (EPOCH, epoch.to_string()),
        (BOOT, boot()),
        (PROCESS, process(pid).unwrap_or_default()),
    ];
    own.into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

/// Milliseconds since 1970 as people read them.
pub fn time(ms: u64) -> String {
    /// The end of the year 9999, the last that RFC 3339 can write.
    const LAST: u64 = 253_402_300_799_999;
    let time = std::time::UNIX_EPOCH + Duration::from_millis(ms.min(LAST));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// When the lock was taken, by the engine's clock; an older version did not say.
pub fn epoch(labels: &Labels) -> Option<u64> {
    labels.get(EPOCH)?.parse().ok()
}

/// User, process and start time.
pub fn whose(labels: &Labels) -> String {
    let get = |key| labels.get(key).map_or("unknown", String::as_str);
    format!("{} since {}", get(WHO), get(SINCE))
}

/// Whether its process is certainly dead, which shows only on the same boot of the same machine.
pub fn is_dead(labels: &Labels) -> bool {
    let boot = boot();
    let same_machine = !boot.is_empty() && labels.get(BOOT) == Some(&boot);
    let Some((pid, _)) = labels
        .get(PROCESS)
        .and_then(|process| process.split_once('@'))
    else {
        return false;
    };
    let alive = pid.parse().ok().and_then(process);
    // With hidepid, another user's process is invisible but may be alive.
    let unseen = alive.is_none() && is_someone_elses(pid);
    same_machine && !unseen && alive.as_ref() != labels.get(PROCESS)
}

fn is_someone_elses(pid: &str) -> bool {
    let pid = pid.parse().map(nix::unistd::Pid::from_raw);
    pid.is_ok_and(|pid| nix::sys::signal::kill(pid, None) == Err(nix::errno::Errno::EPERM))
}

fn boot() -> String {
    // A process id means something only within one PID namespace.
    let namespace = fs::read_link("/proc/self/ns/pid")
        .map(|link| link.display().to_string())
        .unwrap_or_default();
    match Machine::here().boot {
        id if id.is_empty() => id,
        id => format!("{id} {namespace}"),
    }
}

/// `pid@start`, the start in clock ticks since boot (proc(5), field 22 of `stat`): a pid alone may be used again.
fn process(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    if fields.next() == Some("Z") {
        return None;
    }
    let start = fields.nth(18)?;
    Some(format!("{pid}@{start}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    #[test]
    fn this_process_lives_and_one_that_started_at_another_time_is_dead_on_this_machine_alone() {
        let mut labels = labels(0);
        assert!(!is_dead(&labels));
        labels.insert(PROCESS.to_owned(), format!("{}@1", std::process::id()));
        assert!(is_dead(&labels));
        labels.insert(BOOT.to_owned(), "elsewhere".to_owned());
        assert!(!is_dead(&labels));
    }

    #[test]
    fn a_lock_says_who_and_since_when() {
        let text = whose(&labels(1_790_000_000_000));
        assert!(
            text.contains(&format!("process {}", std::process::id())),
            "{text}"
        );
        assert!(text.ends_with("since 2026-09-21T14:13:20Z"), "{text}");
    }

    proptest! {
        #[test]
        fn a_lock_with_labels_of_any_text_says_who_and_since_when(
            at in prop_oneof![any::<u64>(), Just(u64::MAX), Just(253_402_300_800_000)], process in mutated_text("7@1"),
        ) {
            let mut labels = labels(at);
            labels.insert(PROCESS.to_owned(), process);
            prop_assert_eq!(epoch(&labels), Some(at));
            prop_assert!(whose(&labels).contains(" since "));
            is_dead(&labels);
        }
    }
}
