//! A text file of the user on disk: read, and replaced atomically with the same mode.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// A file and its text when it was read.
pub struct TextFile {
    /// The path as given.
    path: PathBuf,
    /// The target of the path, if that is a link.
    target: PathBuf,
    pub text: String,
}

impl TextFile {
    /// Reads it, empty where there is none yet. A link to nothing is refused.
    pub fn read_if_any(path: &Path) -> Result<Self> {
        match path.exists() || path.is_symlink() {
            true => Self::read(path),
            false => Ok(Self::absent(path.to_owned())),
        }
    }

    /// Reads it; a link is followed, so that it stays a link.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |error| Error::refused(format!("cannot read {}: {error}", from_here(path)));
        let target = fs::canonicalize(path).map_err(failed)?;
        let text = fs::read_to_string(&target).map_err(failed)?;
        let path = path.to_owned();
        Ok(Self { path, target, text })
    }

    /// A file that does not exist yet.
    pub fn absent(path: PathBuf) -> Self {
        Self {
            target: path.clone(),
            path,
            text: String::new(),
        }
    }

    /// Locks a file while it is changed; what this run and another one write would else be lost. `None` where there is none
    /// yet, or none can be locked.
    pub fn try_lock(path: &Path) -> Result<Option<Flock<File>>> {
        loop {
            let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else {
                return Ok(None);
            };
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                // Another run may have replaced it just now.
                Ok(held) if !is_at(&held, path) => {}
                Ok(held) => return Ok(Some(held)),
                Err((_, Errno::EWOULDBLOCK)) => {
                    let message = format!("another process has locked {}", from_here(path));
                    return Err(Error::refused(message));
                }
                Err(_) => return Ok(None),
            }
        }
    }

    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    pub fn shown(&self) -> String {
        from_here(&self.path)
    }

    /// The same error with the name of this file.
    pub fn named(&self, error: Error) -> Error {
        let message = error.message.replace("this file", &self.shown());
        Error { message, ..error }
    }

    /// Writes a text to a file beside it, with the same mode and owner.
    pub fn draft(&self, text: &str) -> Result<NamedTempFile> {
        let write = || {
            let draft = tempfile::Builder::new()
                // It may hold secrets, and what begins so is seldom committed.
                .prefix(".env.rollout-")
                .tempfile_in(self.target.parent().unwrap_or(&self.target))?;
            fs::write(draft.path(), text)?;
            let mut mode = fs::Permissions::from_mode(0o644);
            if let Ok(metadata) = fs::metadata(&self.target) {
                // A rename would replace a file that may not be written.
                OpenOptions::new().write(true).open(&self.target)?;
                keep_owner(draft.path(), &metadata)?;
                mode = metadata.permissions();
            }
            fs::set_permissions(draft.path(), mode)?;
            draft.as_file().sync_all()?;
            Ok(draft)
        };
        write().map_err(|error: std::io::Error| self.unwritten(&error))
    }

    /// Replaces it with a draft, unless it has changed in the meantime.
    pub fn replace(&self, draft: NamedTempFile) -> Result<()> {
        let placed = match fs::read_to_string(&self.target) {
            Ok(now) if now == self.text => draft.persist(&self.target),
            Err(error) if error.kind() == ErrorKind::NotFound && self.text.is_empty() => {
                draft.persist_noclobber(&self.target)
            }
            _ => {
                let message = format!("{} has changed in the meantime", self.shown());
                return Err(Error::refused(message).hint("run the same command again"));
            }
        };
        placed.map_err(|error| self.unwritten(&error.error))?;
        Ok(())
    }

    fn unwritten(&self, error: &std::io::Error) -> Error {
        Error::refused(format!("cannot write {}: {error}", self.shown()))
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let id = |own: fs::Metadata| (own.dev(), own.ino());
    let own = file.metadata().map(id).ok();
    own.is_some() && own == fs::metadata(path).map(id).ok()
}

/// Only root may give a file to another owner, and only a member may give it to a group.
fn keep_owner(draft: &Path, of: &fs::Metadata) -> io::Result<()> {
    let own = fs::metadata(draft)?;
    if (own.uid(), own.gid()) == (of.uid(), of.gid()) {
        return Ok(());
    }
    let kept = chown(draft, Some(of.uid()), Some(of.gid()));
    kept.map_err(|error| {
        let (user, group) = (of.uid(), of.gid());
        io::Error::other(format!(
            "run the command as its owner: user {user} and group {group} could not be kept ({error})"
        ))
    })
}

/// A path relative to the current directory, where it is below it.
pub fn from_here(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here)
        .unwrap_or(path)
        .display()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_locked_once_until_it_is_changed_and_not_where_it_is_absent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        assert!(TextFile::try_lock(&path).unwrap().is_none());
        fs::write(&path, "A=1").unwrap();
        let held = TextFile::try_lock(&path).unwrap();
        assert!(held.is_some());
        let second = TextFile::try_lock(&path).unwrap_err();
        assert!(second.message.starts_with("another process has locked"));
        let file = TextFile::read(&path).unwrap();
        file.replace(file.draft("A=2").unwrap()).unwrap();
        drop(held);
        assert!(TextFile::try_lock(&path).unwrap().is_some());
    }

    #[test]
    fn a_file_that_another_run_has_made_meanwhile_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".env");
        let file = TextFile::read_if_any(&path).unwrap();
        let draft = file.draft("A=1").unwrap();
        fs::write(&path, "B=1").unwrap();
        assert!(file.replace(draft).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "B=1");
    }
}
