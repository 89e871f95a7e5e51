//! Drops root: reads the group of the engine's socket, and continues as an ordinary user in that group.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, chown, lchown},
    path::Path,
};

use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};

/// The user and group of the daemon; distroless images call it `nonroot`.
const ORDINARY: u32 = 65532;
/// The Linux capabilities that dropping root requires: CHOWN, SETGID, SETUID (linux/capability.h).
const NEEDED: [(u32, &str); 3] = [(0, "CHOWN"), (6, "SETGID"), (7, "SETUID")];

/// Drops root if possible; must be called while the process has one thread.
///
/// Changes nothing if `user:` of the Compose file sets another user. If it is not possible, the daemon continues as root and
/// logs why, because readers need it.
pub fn drop_root(socket: &Path, state: &Path) {
    if !geteuid().is_root() {
        return;
    }
    match plan(socket).and_then(|group| become_ordinary(group, state)) {
        Ok(group) => tracing::info!(user = ORDINARY, socket_group = group, "dropped root"),
        Err(why) => tracing::warn!("stays root: {why}"),
    }
}

// The group to join, or why root cannot be dropped.
fn plan(socket: &Path) -> Result<u32, String> {
    let path = socket.display();
    let socket = fs::metadata(socket).map_err(|error| format!("cannot see {path}: {error}"))?;
    let bits = |bits: u32| socket.mode() & bits == bits;
    if !bits(0o060) && !bits(0o006) {
        return Err(format!("the group of {path} may not read and write it"));
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing_capabilities(&status);
    match missing.is_empty() {
        true => Ok(socket.gid()),
        false => Err(format!(
            "the container lacks {} (cap_drop)",
            missing.join(", ")
        )),
    }
}

fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let effective = effective.unwrap_or_default();
    let missing = NEEDED
        .iter()
        .filter(|(number, _)| effective & (1 << number) == 0);
    missing.map(|(_, name)| *name).collect()
}

fn become_ordinary(group: u32, state: &Path) -> Result<u32, String> {
    give_away(state).map_err(|error| format!("cannot chown {}: {error}", state.display()))?;
    let ids = setgroups(&[Gid::from_raw(group)])
        .and_then(|()| setgid(Gid::from_raw(ORDINARY)))
        .and_then(|()| setuid(Uid::from_raw(ORDINARY)));
    ids.map_err(|error| format!("cannot change the user: {error}"))?;
    Ok(group)
}

// Does not follow links, which may point outside the state directory.
fn give_away(state: &Path) -> io::Result<()> {
    fs::create_dir_all(state)?;
    // Root without CAP_DAC_OVERRIDE cannot list the directory if an earlier start gave it to the ordinary user.
    chown(state, Some(0), Some(0))?;
    for entry in fs::read_dir(state)? {
        lchown(entry?.path(), Some(ORDINARY), Some(ORDINARY))?;
    }
    chown(state, Some(ORDINARY), Some(ORDINARY))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_capability_is_named() {
        let status = |bits: u64| format!("Name:\tx\nCapEff:\t{bits:016x}\n");
        assert_eq!(missing_capabilities(&status(0xa804_25fb)), [""; 0]);
        assert_eq!(missing_capabilities(&status(0x80)), ["CHOWN", "SETGID"]);
        assert_eq!(missing_capabilities("").len(), 3);
    }

    #[test]
    fn what_a_link_in_the_state_directory_points_at_keeps_its_owner() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        let state = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), state.path().join("link")).unwrap();
        let owner = fs::metadata(outside.path()).unwrap().uid();
        let given = give_away(state.path());
        let link = fs::symlink_metadata(state.path().join("link")).unwrap();
        if geteuid().is_root() {
            given.unwrap();
            assert_eq!(link.uid(), ORDINARY);
        } else {
            // Without root no owner can be changed.
            assert_eq!(given.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            assert_eq!(link.uid(), owner);
        }
        assert_eq!(fs::metadata(outside.path()).unwrap().uid(), owner);
    }

    #[test]
    fn a_socket_that_its_group_may_not_use_keeps_root() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(plan(file.path()).unwrap_err().contains("group"));
        let missing = plan(Path::new("/nowhere/docker.sock")).unwrap_err();
        assert!(missing.contains("cannot see"), "{missing}");
    }
}
