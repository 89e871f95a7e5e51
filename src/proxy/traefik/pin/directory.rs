//! The directory that Traefik's file provider watches, and one file in it, which comes and goes by a rename.

mod here;
mod inside;

use std::path::{Path, PathBuf};

use bollard::models::MountPoint;

use self::inside::Inside;
use crate::{
    docker::engine::Engine,
    error::{Error, Result},
    proxy::traefik::config::TraefikContainer,
};

/// Below the watched directory, for what is not to be seen there before it is whole. Traefik watches no subdirectory,
/// and reads none of its files by this name's ending.
const STAGE: &str = ".rollout";

/// How often a directory is looked at from both sides: it may change in between.
const LOOKS: usize = 3;

/// One watched directory, and the way to it.
pub struct Directory {
    engine: Engine,
    container: String,
    path: String,
    place: Place,
    /// The same for every Traefik that sees the same directory.
    identity: String,
}

enum Place {
    Here(PathBuf),
    /// Through Traefik's container.
    Inside(Inside),
}

impl Directory {
    /// The way to the directory `path` of a Traefik; refused where there is none.
    pub async fn find(engine: &Engine, traefik: &TraefikContainer, path: &str) -> Result<Self> {
        let mount = mount_of(&traefik.inspect.mounts.clone().unwrap_or_default(), path);
        let identity = match &mount {
            Some((mount, rest)) => {
                let source = mount.source.clone().or(mount.name.clone());
                format!("{}/{rest}", source.unwrap_or_default())
            }
            None => format!("{}:{path}", traefik.id),
        };
        let place = match here(engine, traefik, path, mount.as_ref()).await {
            Some(here) => Place::Here(here),
            None => {
                let read_only = mount
                    .as_ref()
                    .is_some_and(|(mount, _)| mount.rw == Some(false));
                Place::Inside(Inside::find(engine, traefik, path, read_only).await?)
            }
        };
        Ok(Self {
            engine: engine.clone(),
            container: traefik.name.clone(),
            path: path.to_owned(),
            place,
            identity,
        })
    }

    /// Whether two Traefiks see one directory.
    pub fn is(&self, other: &Self) -> bool {
        self.identity == other.identity
    }

    /// The text of a file, where there is one.
    pub async fn read(&self, file: &str) -> Result<Option<String>> {
        let bytes = match &self.place {
            Place::Here(path) => {
                here::read(&path.join(file)).map_err(|error| self.failed(&error.to_string()))?
            }
            Place::Inside(_) => {
                let path = format!("{}/{file}", self.path);
                self.engine.read_file(&self.container, &path).await?
            }
        };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(bytes.map(text))
    }

    /// Puts a file in place, new or not, whole and at once.
    pub async fn write(&self, file: &str, text: &str) -> Result<()> {
        match &self.place {
            Place::Here(path) => {
                here::write(path, file, text).map_err(|error| self.failed(&error.to_string()))
            }
            Place::Inside(inside) => {
                let written = inside.write(&self.engine, &self.container, &self.path, file, text);
                written.await.map_err(|why| self.failed(&why))
            }
        }
    }

    /// Removes a file, and all that was needed to write it.
    pub async fn remove(&self, file: &str) -> Result<()> {
        match &self.place {
            Place::Here(path) => {
                here::remove(path, file).map_err(|error| self.failed(&error.to_string()))
            }
            Place::Inside(inside) => {
                let removed = inside.remove(&self.engine, &self.container, &self.path, file);
                removed.await.map_err(|why| self.failed(&why))
            }
        }
    }

    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Whether files of several services can come into place together.
    pub fn takes_several(&self) -> bool {
        match &self.place {
            Place::Here(path) => here::has_stage_beside(path),
            Place::Inside(_) => false,
        }
    }

    /// Puts these files, each a name and a text, into a new directory below this one, whole and at once.
    pub async fn write_shared(&self, shared: &str, files: &[(String, String)]) -> Result<()> {
        match &self.place {
            Place::Here(path) => here::write_shared(path, shared, files)
                .map_err(|error| self.failed(&error.to_string())),
            Place::Inside(_) => Err(self.failed("it is not on this machine")),
        }
    }

    /// Takes a file out of a directory below: with `keeps` in place of the file beside it, else away.
    pub async fn take_out(&self, shared: &str, file: &str, keeps: bool) -> Result<()> {
        match &self.place {
            Place::Here(path) => here::take_out(path, shared, file, keeps)
                .map_err(|error| self.failed(&error.to_string())),
            Place::Inside(inside) => {
                let (engine, container) = (&self.engine, &self.container);
                let taken = inside.take_out(engine, container, &self.path, (shared, file, keeps));
                taken.await.map_err(|why| self.failed(&why))
            }
        }
    }

    fn failed(&self, why: &str) -> Error {
        Error::failed(format!(
            "cannot change the directory {} of Traefik ({}): {why}",
            self.path, self.container
        ))
    }
}

/// The directory on this machine, where it is the same one and can be written to.
async fn here(
    engine: &Engine,
    traefik: &TraefikContainer,
    path: &str,
    mount: Option<&(MountPoint, String)>,
) -> Option<PathBuf> {
    let (mount, rest) = mount?;
    let is_bind = mount.typ.as_deref() == Some("bind");
    if !is_bind || !engine.is_here().await {
        return None;
    }
    let candidate = Path::new(mount.source.as_ref()?).join(rest);
    if !here::is_writable(&candidate) {
        return None;
    }
    // An engine's socket may be that of another machine, or this program may itself run in a container.
    for _ in 0..LOOKS {
        let seen = engine.stat(&traefik.id, path).await.ok()??;
        if here::is(&candidate, &seen) {
            return Some(candidate);
        }
    }
    None
}

/// The mount that a path is in, and the rest of the path below it.
fn mount_of(mounts: &[MountPoint], path: &str) -> Option<(MountPoint, String)> {
    let below = |mount: &MountPoint| {
        let target = Path::new(mount.destination.as_ref()?);
        let rest = Path::new(path).strip_prefix(target).ok()?;
        Some((mount.clone(), rest.to_string_lossy().into_owned()))
    };
    let found = mounts.iter().filter_map(below);
    found.min_by_key(|(_, rest)| rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_that_holds_the_path_counts() {
        let mount = |destination: &str| MountPoint {
            destination: Some(destination.to_owned()),
            ..MountPoint::default()
        };
        let mounts = ["/etc", "/etc/traefik/dynamic", "/etc/traefik"].map(mount);
        let of = |path| {
            let (mount, rest) = mount_of(&mounts, path)?;
            Some((mount.destination.unwrap(), rest))
        };
        let found = |mount: &str, rest: &str| Some((mount.to_owned(), rest.to_owned()));
        assert_eq!(
            of("/etc/traefik/dynamic/"),
            found("/etc/traefik/dynamic", "")
        );
        assert_eq!(of("/etc/traefik/other"), found("/etc/traefik", "other"));
        assert_eq!(of("/etc/traefik2"), found("/etc", "traefik2"));
        assert_eq!(of("/dynamic"), None);
    }
}
