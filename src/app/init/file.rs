//! A Compose file on disk: read, and replaced atomically with the same mode.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::from_here;
use crate::{
    compose::Invocation,
    error::{Error, Result},
};

/// A file and its text when it was read.
pub struct ComposeFile {
    /// The path as given.
    path: PathBuf,
    /// The target of the path, if that is a link.
    target: PathBuf,
    pub text: String,
}

impl ComposeFile {
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

    /// Writes a text to a file beside it, with the same mode and, if permitted, the same owner.
    pub fn draft(&self, text: &str) -> Result<NamedTempFile> {
        let write = || {
            let draft = tempfile::Builder::new()
                .prefix(".rollout-init-")
                .suffix(".yaml")
                .tempfile_in(self.target.parent().unwrap_or(&self.target))?;
            fs::write(draft.path(), text)?;
            let mut mode = fs::Permissions::from_mode(0o644);
            if let Ok(metadata) = fs::metadata(&self.target) {
                // Only root may give the file to another owner; the mode is kept in any case.
                let _ = chown(draft.path(), Some(metadata.uid()), Some(metadata.gid()));
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
        match fs::read_to_string(&self.target) {
            Ok(now) if now == self.text => {}
            Err(error) if error.kind() == ErrorKind::NotFound && self.text.is_empty() => {}
            _ => {
                let message = format!("{} has changed in the meantime", self.shown());
                return Err(Error::refused(message).hint("run the same command again"));
            }
        }
        let placed = draft.persist(&self.target);
        placed.map_err(|error| self.unwritten(&error.error))?;
        Ok(())
    }

    fn unwritten(&self, error: &std::io::Error) -> Error {
        Error::refused(format!("cannot write {}: {error}", self.shown()))
            .hint("without --write, init shows what to change")
    }
}

/// A variable of the project's `.env`, or of the files that replace it.
pub fn dotenv(given: &Invocation, here: &Path, name: &str) -> Option<String> {
    let files = match given.env_files.is_empty() {
        true => vec![".env".to_owned()],
        false => given.env_files.clone(),
    };
    let directory = given
        .project_directory
        .as_deref()
        .map_or(here.to_owned(), |own| here.join(own));
    files.iter().rev().find_map(|file| {
        let text = fs::read_to_string(directory.join(file)).ok()?;
        let mut values = text.lines().filter_map(|line| line.trim().split_once('='));
        let (_, value) = values.find(|(key, _)| key.trim() == name)?;
        Some(value.trim().trim_matches(['"', '\'']).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn a_variable_of_any_file_is_one_line_of_it(bytes in mutated(b"# x\nA=1\n TAG = 'v3.7'\nB=\"2\"\n")) {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(".env"), &bytes).unwrap();
            if let Some(value) = dotenv(&Invocation::default(), directory.path(), "TAG") {
                let text = String::from_utf8(bytes).unwrap();
                prop_assert!(text.lines().any(|line| line.contains("TAG") && line.contains(&value)));
            }
        }
    }
}
