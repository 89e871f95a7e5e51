//! The overlay on disk and in memory: a change is durable before it takes effect, and takes effect for all readers at once.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, RwLock, RwLockReadGuard, watch};

use crate::{
    error::{Error, Result},
    overlay::{Overlay, Stale},
};

/// The newest format of the file; a newer one is refused. Each file has the oldest format that can express its overlay, so
/// that an older socket proxy reads it, or refuses it if it would ignore a part.
const FORMAT: u32 = 2;
const FILE: &str = "overlay.json";
/// The highest generation that a file may have, so that no later one overflows.
const LAST_GENERATION: u64 = u64::MAX / 2;
/// The longest time that a change waits for a list that the engine does not answer.
const LONGEST_HOLD: Duration = Duration::from_secs(2);

#[derive(Serialize, Deserialize)]
struct Stored {
    format: u32,
    overlay: Overlay,
}

/// The current overlay, and the generation up to which readers have to list again.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// Immutable: readers keep the generation of their list.
    pub overlay: Arc<Overlay>,
    /// The newest generation that changed what readers see.
    pub announced: u64,
}

/// Why a change did not take effect.
#[derive(Debug, thiserror::Error)]
pub enum Unchanged {
    /// Its owner was replaced by a later one.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// It could not be made durable.
    #[error("cannot write {path}: {error}")]
    Storage { path: PathBuf, error: io::Error },
}

/// One overlay and its file.
pub struct Store {
    path: PathBuf,
    changes: Mutex<()>,
    published: watch::Sender<Published>,
    /// Locked for reading while a list needs a stable generation, for writing while the generation changes.
    gate: RwLock<()>,
}

impl Store {
    /// Reads the overlay of a state directory. An unreadable file is an error, never an empty overlay: hidden containers would
    /// become visible.
    pub fn open(directory: &Path) -> Result<Self> {
        let path = directory.join(FILE);
        let overlay = match fs::read(&path) {
            Ok(bytes) => decode(&path, &bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Overlay::default(),
            Err(error) => {
                let message = format!("cannot read {}: {error}", path.display());
                return Err(Error::needs_person(message).hint(
                    "make the state directory readable by the user that the socket proxy runs as; if the service has cap_drop: [ALL], add cap_add: [CHOWN, SETGID, SETUID]",
                ));
            }
        };
        let announced = overlay.generation;
        let overlay = Arc::new(overlay);
        Ok(Self {
            path,
            changes: Mutex::default(),
            published: watch::Sender::new(Published { overlay, announced }),
            gate: RwLock::default(),
        })
    }

    pub fn current(&self) -> Arc<Overlay> {
        self.published.borrow().overlay.clone()
    }

    /// The overlay after a change that is in progress.
    pub async fn settled(&self) -> Arc<Overlay> {
        let _turn = self.changes.lock().await;
        self.current()
    }

    pub fn subscribe(&self) -> watch::Receiver<Published> {
        self.published.subscribe()
    }

    /// Keeps the generation from changing while the guard lives, two seconds at most.
    pub async fn hold(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().await
    }

    /// Writes the current overlay, to find out whether a change could be made durable.
    pub async fn probe(&self) -> Result<(), Unchanged> {
        let _turn = self.changes.lock().await;
        self.write(self.current()).await
    }

    /// Changes the overlay: first on disk, then for all readers at once. A call that changes nothing makes no new generation.
    /// `announce` makes readers list again.
    pub async fn change<T, F>(&self, announce: bool, change: F) -> Result<T, Unchanged>
    where
        F: FnOnce(&mut Overlay) -> Result<T, Stale>,
    {
        let _turn = self.changes.lock().await;
        let mut published = self.published.borrow().clone();
        let mut next = Overlay::clone(&published.overlay);
        let value = change(&mut next)?;
        if next == *published.overlay {
            return Ok(value);
        }
        if announce {
            published.announced = next.generation;
        }
        published.overlay = Arc::new(next);
        self.write(published.overlay.clone()).await?;
        let _gate = tokio::time::timeout(LONGEST_HOLD, self.gate.write()).await;
        self.published.send_replace(published);
        Ok(value)
    }

    async fn write(&self, overlay: Arc<Overlay>) -> Result<(), Unchanged> {
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || write(&path, &overlay)).await;
        written
            .unwrap_or_else(|panic| Err(io::Error::other(panic)))
            .map_err(|error| Unchanged::Storage {
                path: self.path.clone(),
                error,
            })
    }
}

fn decode(path: &Path, bytes: &[u8]) -> Result<Overlay> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let path = path.display();
    let corrupt = |error: serde_json::Error| {
        Error::needs_person(format!("{path} is damaged: {error}")).hint(format!(
            "move {path} away to start without an overlay; containers that it hid are then visible"
        ))
    };
    let Format { format } = serde_json::from_slice(bytes).map_err(corrupt)?;
    if format > FORMAT {
        let message = format!("{path} has format {format}, and this version reads up to {FORMAT}");
        return Err(Error::needs_person(message)
            .hint("run the newer rollout image again, or end its rollouts with it first"));
    }
    let stored: Stored = serde_json::from_slice(bytes).map_err(corrupt)?;
    if stored.overlay.generation > LAST_GENERATION {
        return Err(corrupt(serde::de::Error::custom(
            "no generation is as high as this",
        )));
    }
    Ok(stored.overlay)
}

fn write(path: &Path, overlay: &Overlay) -> io::Result<()> {
    let stored = Stored {
        format: overlay.since(),
        overlay: overlay.clone(),
    };
    let temporary = path.with_extension("json.part");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(&stored)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    // The rename is durable only after the directory is synced.
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        arbitrary::{mutated, replaced},
        error::Outcome,
        overlay::{Claim, Effect, Health, Match, Rule},
    };

    fn claim(epoch: u64) -> Claim {
        Claim {
            key: "shop/web".to_owned(),
            rollout: "r".to_owned(),
            epoch,
            stage: "hold".to_owned(),
            rules: vec![],
        }
    }

    fn refused(content: &str) -> Error {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        fs::write(&path, content).unwrap();
        let error = Store::open(directory.path()).err().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
        error
    }

    #[tokio::test]
    async fn a_change_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let generation = store.change(true, |overlay| overlay.set(claim(3))).await;
        assert_eq!(generation.unwrap(), 1);
        let again = Store::open(directory.path()).unwrap();
        assert_eq!(*again.current(), *store.current());
        assert!(
            again
                .change(true, |overlay| overlay.set(claim(2)))
                .await
                .is_err()
        );
    }

    #[tokio::test]
    async fn a_change_that_cannot_be_written_does_not_hold() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("missing")).unwrap();
        let failed = store.change(true, |overlay| overlay.set(claim(3))).await;
        assert!(matches!(failed, Err(Unchanged::Storage { .. })));
        assert_eq!(*store.current(), Overlay::default());
    }

    #[tokio::test]
    async fn only_an_announced_change_has_readers_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store
            .change(true, |overlay| overlay.set(claim(1)))
            .await
            .unwrap();
        store
            .change(false, |overlay| overlay.set(claim(2)))
            .await
            .unwrap();
        let published = store.subscribe().borrow().clone();
        assert_eq!((published.overlay.generation, published.announced), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_that_the_engine_never_answers_holds_a_change_up_for_two_seconds() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let _held = store.hold().await;
        let start = tokio::time::Instant::now();
        let set = store.change(true, |overlay| overlay.set(claim(1)));
        assert_eq!(set.await.unwrap(), 1);
        assert_eq!(start.elapsed(), LONGEST_HOLD);
        assert_eq!(store.current().generation, 1);
    }

    #[test]
    fn a_newer_format_is_refused_and_left_as_it_is() {
        let error = refused(r#"{"format": 3, "overlay": {"generations": []}}"#);
        assert_eq!(error.outcome, Outcome::NeedsPerson);
        assert!(error.message.contains("format 3"), "{error}");
    }

    #[test]
    fn a_file_that_version_1_would_read_in_part_has_a_format_that_it_refuses() {
        let text = |effect| {
            let on = Match::Id("a".to_owned());
            let rules = vec![Rule { on, effect }];
            let mut overlay = Overlay::default();
            overlay.set(Claim { rules, ..claim(1) }).unwrap();
            let directory = tempfile::tempdir().unwrap();
            write(&directory.path().join(FILE), &overlay).unwrap();
            assert_eq!(*Store::open(directory.path()).unwrap().current(), overlay);
            fs::read_to_string(directory.path().join(FILE)).unwrap()
        };
        assert!(text(Effect::Omit).starts_with(r#"{"format":2,"#));
        assert!(text(Effect::Health(Health::Healthy)).starts_with(r#"{"format":1,"#));
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_as_it_is() {
        for content in [
            "",
            "{",
            "{\"format\": 1}",
            "{\"format\": 1, \"overlay\": {\"generation\": -1}}",
        ] {
            assert!(refused(content).message.contains("damaged"));
        }
    }

    const SAMPLE: &str = r#"{"format":1,"overlay":{"generation":5,"claims":{"shop/web":{"key":"shop/web","rollout":"r","epoch":3,"stage":"hold","rules":[{"on":{"label":{"key":"k","value":"v"}},"labels":{"traefik.enable":"false"},"health":"healthy"}]}},"last_epochs":{"shop/web":3},"settled":["a"]}}"#;

    // A file is refused, or its overlay is the same after a change and a second reading.
    fn holds(bytes: &[u8]) -> Result<(), TestCaseError> {
        let Ok(mut overlay) = decode(Path::new(FILE), bytes) else {
            return Ok(());
        };
        let before = overlay.generation;
        if let Ok(generation) = overlay.set(claim(u64::MAX)) {
            prop_assert!(generation > before);
        }
        let stored = Stored {
            format: overlay.since(),
            overlay,
        };
        let bytes = serde_json::to_vec(&stored).unwrap();
        prop_assert_eq!(decode(Path::new(FILE), &bytes).unwrap(), stored.overlay);
        Ok(())
    }

    proptest! {
        #[test]
        fn a_file_is_refused_or_holds_an_overlay_that_survives_it(bytes in mutated(SAMPLE.as_bytes())) {
            holds(&bytes)?;
        }

        #[test]
        fn a_file_with_values_of_any_type_is_refused_or_holds_an_overlay(
            value in replaced(serde_json::from_str(SAMPLE).unwrap()),
        ) {
            holds(value.to_string().as_bytes())?;
        }
    }

    #[test]
    fn a_file_of_the_last_generation_of_all_is_damaged() {
        let last = format!(r#"{{"format":1,"overlay":{{"generation":{}}}}}"#, u64::MAX);
        assert!(refused(&last).message.contains("damaged"));
        let deep = format!(r#"{{"format":1,"overlay":{}"#, "[".repeat(100_000));
        assert!(refused(&deep).message.contains("damaged"));
    }
}
