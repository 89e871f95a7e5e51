//! The pool of fronts: Traefik and what it reads through, left running for the next test where a test did them no harm.
//!
//! A front is a Compose project with a name, a port and a folder that outlive the test. A test that takes it adds its own
//! services to that project. A file lock on the folder keeps it to one test at a time, across processes too.
//! `testbed down` removes what is left.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use crate::{cache, free_port};

/// What stands between the clients and the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Traefik reads through the socket proxy.
    Relabel,
    /// Traefik reads the engine's socket, and has a directory for its file provider.
    Pin,
}

/// Where the file provider looks, in the project's folder.
pub const DYNAMIC: &str = "dynamic";

impl Kind {
    /// Its services as a Compose file, without the service under test.
    pub fn file(self) -> &'static str {
        match self {
            Self::Relabel => include_str!("front.yaml"),
            Self::Pin => include_str!("front-pin.yaml"),
        }
    }

    pub fn services(self) -> &'static [&'static str] {
        match self {
            Self::Relabel => &["traefik", "socket-proxy"],
            Self::Pin => &["traefik"],
        }
    }

    pub fn networks(self) -> &'static [&'static str] {
        match self {
            Self::Relabel => &["front", "docker-api"],
            Self::Pin => &["front"],
        }
    }

    pub fn volumes(self) -> &'static [&'static str] {
        match self {
            Self::Relabel => &["socket-proxy"],
            Self::Pin => &[],
        }
    }

    /// Whether a front goes on running between two tests. A Traefik that reads the engine itself reads the containers of
    /// all tests again at each event of any of them, and is not kept.
    pub fn is_kept(self) -> bool {
        self == Self::Relabel
    }

    fn word(self) -> &'static str {
        match self {
            Self::Relabel => "relabel",
            Self::Pin => "pin",
        }
    }
}

/// A place in the pool; it is given back when this is dropped.
pub struct Place {
    pub project: String,
    pub port: u16,
    pub folder: PathBuf,
    /// Whether the test before did not come to its end, and may have left something.
    pub was_abandoned: bool,
    _lock: Flock<File>,
}

impl Place {
    /// The first place of its kind that no other test has.
    pub fn take(kind: Kind) -> Self {
        let pool = cache().join("run/fronts");
        let mut places = (1..).map(|number| pool.join(format!("{}-{number}", kind.word())));
        places
            .find_map(|folder| Self::try_take(&folder))
            .expect("there is always one more place")
    }

    fn try_take(place: &Path) -> Option<Self> {
        let folder = place.join("project");
        fs::create_dir_all(folder.join(DYNAMIC)).unwrap();
        let lock = File::create(place.join("lock")).unwrap();
        let lock = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return None,
            Err((_, error)) => panic!("{} cannot be locked: {error}", place.display()),
        };
        let in_use = place.join("in-use");
        let was_abandoned = in_use.exists();
        fs::write(in_use, "").unwrap();
        empty(&folder);
        let port = kept(&place.join("port"), || free_port().to_string());
        let name = place.file_name()?.to_string_lossy();
        let project = kept(&place.join("name"), || {
            format!("t-{name}-{}", std::process::id())
        });
        Some(Self {
            project,
            port: port.parse().unwrap(),
            folder,
            was_abandoned,
            _lock: lock,
        })
    }

    /// Nothing is left of the test.
    pub fn is_clean(&self) {
        let _ = fs::remove_file(self.folder.with_file_name("in-use"));
    }
}

/// What the file says; the first time, what it is to say from then on.
fn kept(file: &Path, new: impl Fn() -> String) -> String {
    fs::read_to_string(file).unwrap_or_else(|_| {
        let text = new();
        fs::write(file, &text).unwrap();
        text
    })
}

/// Removes what the test before has written. The directory of the file provider stays: it is mounted.
fn empty(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if entry.file_name() == DYNAMIC {
            empty(&path);
        } else if entry.file_type().unwrap().is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
}
