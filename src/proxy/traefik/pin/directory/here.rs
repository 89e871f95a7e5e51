//! A watched directory on this machine.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, chown, fchown},
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

use super::STAGE;
use crate::docker::engine::ContainerStat;

/// There where the kernel enforces labels on files.
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// Whether a directory is the one that the engine has looked at, as far as can be seen: by size, permissions and the
/// fraction of the second in which it was last changed.
pub fn is(path: &Path, seen: &ContainerStat) -> bool {
    let Ok(own) = fs::metadata(path) else {
        return false;
    };
    own.is_dir()
        && own.size() == u64::try_from(seen.size).unwrap_or_default()
        && own.mode() & 0o777 == seen.permissions
        && own.mtime_nsec() == nanoseconds(&seen.modified)
}

/// The fraction in `2026-11-25T08:00:00.25+01:00`, which has no zeros at its end.
fn nanoseconds(time: &str) -> i64 {
    let fraction = time.split_once('.').map_or("", |(_, rest)| rest);
    let digits: String = fraction
        .chars()
        .take_while(char::is_ascii_digit)
        .chain(std::iter::repeat('0'))
        .take(9)
        .collect();
    digits.parse().unwrap_or_default()
}

/// Whether this program may create files there.
pub fn is_writable(path: &Path) -> bool {
    access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

/// The file's contents, where there is one.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// By a rename from outside, which is one event; where the directory's parent is another filesystem or may not be
/// written to, from a directory below, whose creation is one more.
pub fn write(directory: &Path, file: &str, text: &str) -> io::Result<()> {
    let beside = beside(directory)?;
    let moved = beside.map(|beside| move_from(&beside, directory, file, text));
    if let Some(Ok(())) = moved {
        return Ok(());
    }
    let below = directory.join(STAGE);
    fs::create_dir_all(&below)?;
    move_from(&below, directory, file, text)
}

fn beside(directory: &Path) -> io::Result<Option<PathBuf>> {
    let beside = directory.canonicalize()?.parent().map(Path::to_path_buf);
    // A file keeps the label of the directory that it was made in, which a container may not read.
    Ok(beside.filter(|_| !Path::new(SELINUX).exists()))
}

/// Whether a directory of files can be staged outside. Traefik would read one that is staged below.
pub fn has_stage_beside(directory: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().map(|own| own.dev());
    let beside = beside(directory).ok().flatten();
    beside.is_some_and(|beside| is_writable(&beside) && device(&beside) == device(directory))
}

/// Puts files, each a name and a text, into the new directory `shared`, which comes by a rename.
pub fn write_shared(directory: &Path, shared: &str, files: &[(String, String)]) -> io::Result<()> {
    let beside = beside(directory)?.ok_or(io::ErrorKind::Unsupported)?;
    let first = files.first().map_or("", |(name, _)| name);
    clean(&beside, first);
    let staged = together(&beside, first);
    let moved = stage_all(&staged, directory, files)
        .and_then(|()| fs::rename(&staged, directory.join(shared)));
    if moved.is_err() {
        let _ = fs::remove_dir_all(&staged);
    }
    moved
}

/// Where files are staged of which this one is the first.
fn together(stage: &Path, first: &str) -> PathBuf {
    stage.join(format!(".{first}.together.tmp"))
}

fn alone(stage: &Path, file: &str) -> PathBuf {
    stage.join(format!(".{file}.tmp"))
}

/// Removes what a killed run has staged: the lock of the file's service keeps every other run from these names.
fn clean(stage: &Path, file: &str) {
    let _ = fs::remove_dir_all(together(stage, file));
    let _ = fs::remove_file(alone(stage, file));
}

fn stage_all(staged: &Path, directory: &Path, files: &[(String, String)]) -> io::Result<()> {
    fs::create_dir(staged)?;
    for (name, text) in files {
        write_staged(&staged.join(name), directory, text)?;
    }
    let own = fs::metadata(directory)?;
    fs::set_permissions(staged, Permissions::from_mode(own.mode() & 0o777))?;
    let _ = chown(staged, Some(own.uid()), Some(own.gid()));
    Ok(())
}

/// Moves a file from the directory `shared` over the one beside it, or removes it; and that directory once it is empty.
pub fn take_out(directory: &Path, shared: &str, file: &str, keeps: bool) -> io::Result<()> {
    let from = directory.join(shared).join(file);
    let taken = match keeps {
        true => fs::rename(from, directory.join(file)),
        false => fs::remove_file(from),
    };
    match taken {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Another service's file may be in it.
    let _ = fs::remove_dir(directory.join(shared));
    Ok(())
}

fn move_from(stage: &Path, directory: &Path, file: &str, text: &str) -> io::Result<()> {
    let staged = alone(stage, file);
    let moved = write_staged(&staged, directory, text)
        .and_then(|()| fs::rename(&staged, directory.join(file)));
    if moved.is_err() {
        // It may not even have been made.
        let _ = fs::remove_file(&staged);
    }
    moved
}

fn write_staged(staged: &Path, directory: &Path, text: &str) -> io::Result<()> {
    let _ = fs::remove_file(staged);
    let mut out = File::create_new(staged)?;
    out.write_all(text.as_bytes())?;
    // A user that may read the directory may read the files in it, Traefik above all.
    let own = fs::metadata(directory)?;
    out.set_permissions(Permissions::from_mode(own.mode() & 0o666))?;
    let _ = fchown(&out, Some(own.uid()), Some(own.gid()));
    out.sync_all()
}

/// Removes the file, and the stage if there was one.
pub fn remove(directory: &Path, file: &str) -> io::Result<()> {
    match fs::remove_file(directory.join(file)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if let Some(beside) = beside(directory)? {
        clean(&beside, file);
    }
    let below = directory.join(STAGE);
    clean(&below, file);
    // Another service's rollout may be using it.
    let _ = fs::remove_dir(below);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_put_in_place_replaced_and_removed_and_nothing_else_stays() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("dynamic");
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o750)).unwrap();
        for text in ["one", "two"] {
            write(&directory, "a.yml", text).unwrap();
            let path = directory.join("a.yml");
            assert_eq!(read(&path).unwrap().unwrap(), text.as_bytes());
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        }
        // As by a run that was killed before the rename.
        fs::write(alone(parent.path(), "a.yml"), "three").unwrap();
        fs::create_dir(together(parent.path(), "a.yml")).unwrap();
        for _ in 0..2 {
            remove(&directory, "a.yml").unwrap();
            assert_eq!(read(&directory.join("a.yml")).unwrap(), None);
        }
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_that_come_together_leave_their_directory_one_by_one_and_it_goes_with_the_last() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("dynamic");
        fs::create_dir(&directory).unwrap();
        assert!(has_stage_beside(&directory));
        write(&directory, "a.yml", "old").unwrap();
        write(&directory, "b.yml", "old").unwrap();
        let text = |path: &str| fs::read_to_string(directory.join(path)).ok();
        let files = ["a.yml", "b.yml"].map(|name| (name.to_owned(), "new".to_owned()));
        write_shared(&directory, ".both", &files).unwrap();
        assert_eq!(text(".both/a.yml").as_deref(), Some("new"));
        assert_eq!(text("a.yml").as_deref(), Some("old"));
        let again = write_shared(&directory, ".both", &files);
        assert!(again.is_err(), "what is there is not written over");
        for _ in 0..2 {
            take_out(&directory, ".both", "a.yml", true).unwrap();
            assert_eq!(text("a.yml").as_deref(), Some("new"));
        }
        take_out(&directory, ".both", "b.yml", false).unwrap();
        assert_eq!(text("b.yml").as_deref(), Some("old"));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_is_known_by_the_moment_of_its_last_change() {
        let directory = tempfile::tempdir().unwrap();
        let own = fs::metadata(directory.path()).unwrap();
        let seen = |nanoseconds: i64| ContainerStat {
            size: own.size() as i64,
            permissions: own.mode() & 0o777,
            modified: format!("2026-11-25T08:00:00.{nanoseconds:09}+01:00"),
        };
        assert!(is(directory.path(), &seen(own.mtime_nsec())));
        assert!(!is(directory.path(), &seen(own.mtime_nsec() ^ 1)));
        assert!(!is(&directory.path().join("none"), &seen(0)));
        assert_eq!(nanoseconds("2026-11-25T08:00:00.25Z"), 250_000_000);
        assert_eq!(nanoseconds("2026-11-25T08:00:00Z"), 0);
    }
}
