//! What the engine remembers for us: the lock of a service, a never-started container whose name only one can create.

use std::{collections::HashMap, fs};

use crate::{
    engine::{Engine, own_labels},
    error::{Error, Result},
    model::ServiceKey,
};

const KEY: &str = "io.rollout.lock";
const WHO: &str = "io.rollout.lock.who";
const SINCE: &str = "io.rollout.lock.since";
const BOOT: &str = "io.rollout.lock.boot";
const PROCESS: &str = "io.rollout.lock.process";

/// A lock that is ours until it is released; dropping it leaves it to be found dead.
pub struct Lock {
    engine: Engine,
    id: String,
    key: ServiceKey,
    /// The engine's clock when it was taken, in milliseconds: later owners have later ones.
    pub epoch: u64,
}

/// The name of the container that is the lock; the same whoever asks from wherever.
pub fn lock_name(key: &ServiceKey) -> String {
    format!("rollout-lock.{}.{}", key.project, key.service)
}

/// Takes the lock of a service; error code 4, with who and since when, where somebody else holds it.
///
/// A lock whose process has died on this machine is broken, by container id, so that two takers cannot remove each
/// other's.
pub async fn lock(engine: &Engine, key: &ServiceKey, image: &str) -> Result<Lock> {
    let epoch = engine.clock_ms().await;
    let mut labels = own_labels("lock");
    labels.extend(owner(key, epoch));
    let name = lock_name(key);
    for _ in 0..10 {
        if let Some(id) = engine.create_marker(&name, image, labels.clone()).await? {
            return Ok(Lock {
                engine: engine.clone(),
                id,
                key: key.clone(),
                epoch,
            });
        }
        let Some(holder) = engine.inspect(&name).await? else {
            continue;
        };
        let held = holder
            .config
            .and_then(|config| config.labels)
            .unwrap_or_default();
        if !is_dead(&held) {
            return Err(locked(key, &held));
        }
        tracing::info!(%name, "the holder of the lock has died; breaking it");
        engine.discard(&holder.id.unwrap_or_default()).await?;
    }
    Err(Error::locked(format!(
        "{key} is locked by somebody who takes and releases it all the time"
    )))
}

/// Removes the lock of a service, whoever holds it; says whose it was, `None` where there was none.
pub async fn unlock(engine: &Engine, key: &ServiceKey) -> Result<Option<String>> {
    let Some(holder) = engine.inspect(&lock_name(key)).await? else {
        return Ok(None);
    };
    let labels = holder
        .config
        .and_then(|config| config.labels)
        .unwrap_or_default();
    engine.discard(&holder.id.unwrap_or_default()).await?;
    Ok(Some(whose(&labels)))
}

impl Lock {
    /// An error unless the lock is still this one: somebody may have removed it by hand.
    pub async fn check(&self) -> Result<()> {
        match self.engine.inspect(&self.id).await? {
            Some(_) => Ok(()),
            None => Err(Error::failed(format!(
                "the lock {} was taken away",
                lock_name(&self.key)
            ))),
        }
    }

    /// Gives the lock back.
    pub async fn release(self) -> Result<()> {
        self.engine.discard(&self.id).await
    }
}

fn owner(key: &ServiceKey, epoch: u64) -> HashMap<String, String> {
    let since = std::time::UNIX_EPOCH + std::time::Duration::from_millis(epoch);
    let user = std::env::var("USER").unwrap_or_else(|_| "somebody".to_owned());
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|host| host.into_string().ok())
        .unwrap_or_default();
    HashMap::from([
        (KEY.to_owned(), key.to_string()),
        (
            WHO.to_owned(),
            format!("{user}@{host}, process {}", std::process::id()),
        ),
        (
            SINCE.to_owned(),
            humantime::format_rfc3339_seconds(since).to_string(),
        ),
        (BOOT.to_owned(), boot()),
        (
            PROCESS.to_owned(),
            process(std::process::id()).unwrap_or_default(),
        ),
    ])
}

fn locked(key: &ServiceKey, labels: &HashMap<String, String>) -> Error {
    Error::locked(format!("{key} is being rolled by {}", whose(labels))).hint(format!(
        "wait for it, or, if it is dead for certain: rollout unlock {}",
        key.service
    ))
}

fn whose(labels: &HashMap<String, String>) -> String {
    let get = |key| labels.get(key).map_or("unknown", String::as_str);
    format!("{} since {}", get(WHO), get(SINCE))
}

/// Only a process of this very boot of this machine can be known to be dead.
fn is_dead(labels: &HashMap<String, String>) -> bool {
    let boot = boot();
    let same_machine = !boot.is_empty() && labels.get(BOOT) == Some(&boot);
    let Some((pid, _)) = labels
        .get(PROCESS)
        .and_then(|process| process.split_once('@'))
    else {
        return false;
    };
    let alive = pid.parse().ok().and_then(process);
    // With hidepid, another user's process cannot be looked at; that is no sign of death.
    let unseen = alive.is_none() && is_someone_elses(pid);
    same_machine && !unseen && alive.as_ref() != labels.get(PROCESS)
}

fn is_someone_elses(pid: &str) -> bool {
    let pid = pid.parse().map(nix::unistd::Pid::from_raw);
    pid.is_ok_and(|pid| nix::sys::signal::kill(pid, None) == Err(nix::errno::Errno::EPERM))
}

fn boot() -> String {
    let read = |path| {
        fs::read_to_string(path)
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    // A process id means something only within one PID namespace.
    let namespace = fs::read_link("/proc/self/ns/pid")
        .map(|link| link.display().to_string())
        .unwrap_or_default();
    match read("/proc/sys/kernel/random/boot_id") {
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
