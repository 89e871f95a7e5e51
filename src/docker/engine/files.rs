//! Reads files from containers through the archive API, which needs no program in the container and includes mounts.

use std::io::Read;

use bollard::query_parameters as query;
use futures_util::TryStreamExt;

use super::{Engine, failed, is_status};
use crate::error::{Error, Result};

/// In bytes. Configuration is small.
const MAX_ARCHIVE: usize = 16 * 1024 * 1024;
/// Symbolic links that are followed.
const MAX_LINKS: usize = 8;

/// A regular file of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerFile {
    /// In the container, or below the directory that was read.
    pub path: String,
    pub bytes: Vec<u8>,
}

/// The engine's metadata of a path in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerStat {
    /// In bytes.
    pub size: i64,
    /// The permission bits, 0o777 at most.
    pub permissions: u32,
    /// RFC 3339 with nanoseconds, in the engine's time zone.
    pub modified: String,
}

impl Engine {
    /// Follows links; `None` where there is no file.
    pub async fn read_file(&self, container: &str, path: &str) -> Result<Option<Vec<u8>>> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            let Some(archive) = self.archive(container, &path, MAX_ARCHIVE).await? else {
                return Ok(None);
            };
            match first(&archive).map_err(|error| unreadable(&path, &error))? {
                First::File(bytes) => return Ok(Some(bytes)),
                First::Link(target) => path = joined(&path, &target),
                First::Other => return Ok(None),
            }
        }
        Err(Error::failed(format!("too many symbolic links at {path}")))
    }

    /// Every regular file below a directory, with paths relative to it; empty where the directory does not exist.
    pub async fn read_directory(&self, container: &str, path: &str) -> Result<Vec<ContainerFile>> {
        // The trailing dot follows a directory that is itself a link.
        let inside = format!("{}/.", path.trim_end_matches('/'));
        let Some(archive) = self.archive(container, &inside, MAX_ARCHIVE).await? else {
            return Ok(Vec::new());
        };
        files(&archive).map_err(|error| unreadable(path, &error))
    }

    /// Follows links; `None` where the path does not exist.
    pub async fn stat(&self, container: &str, path: &str) -> Result<Option<ContainerStat>> {
        let inside = format!("{}/.", path.trim_end_matches('/'));
        let options = query::ContainerArchiveInfoOptionsBuilder::default()
            .path(&inside)
            .build();
        let stat = self
            .docker
            .get_container_archive_info(container, Some(options));
        match stat.await {
            Ok(stat) => Ok(Some(ContainerStat {
                size: stat.size,
                permissions: stat.file_mode & 0o777,
                modified: stat.modification_time.unwrap_or_default(),
            })),
            Err(error) if is_status(&error, 404) || is_status(&error, 400) => Ok(None),
            Err(error) => Err(failed("look at a file of a container", &error)),
        }
    }

    /// The archive of a path, at most `largest` bytes; `None` where the path does not exist.
    pub(super) async fn archive(
        &self,
        container: &str,
        path: &str,
        largest: usize,
    ) -> Result<Option<Vec<u8>>> {
        let options = query::DownloadFromContainerOptionsBuilder::default()
            .path(path)
            .build();
        let mut chunks = Box::pin(
            self.docker
                .download_from_container(container, Some(options)),
        );
        let mut archive = Vec::new();
        loop {
            match chunks.try_next().await {
                Ok(None) => return Ok(Some(archive)),
                Ok(Some(chunk)) if archive.len() + chunk.len() > largest => {
                    return Err(Error::failed(format!(
                        "{path} is larger than {largest} bytes"
                    )));
                }
                Ok(Some(chunk)) => archive.extend_from_slice(&chunk),
                // 400: a parent of the path is a file.
                Err(error) if is_status(&error, 404) || is_status(&error, 400) => return Ok(None),
                Err(error) => return Err(failed("read a file of a container", &error)),
            }
        }
    }
}

pub(super) fn unreadable(path: &str, error: &std::io::Error) -> Error {
    Error::failed(format!("the engine's archive of {path} is broken: {error}"))
}

enum First {
    File(Vec<u8>),
    Link(String),
    Other,
}

fn first(archive: &[u8]) -> std::io::Result<First> {
    let mut archive = tar::Archive::new(archive);
    let Some(entry) = archive.entries()?.next() else {
        return Ok(First::Other);
    };
    let mut entry = entry?;
    let kind = entry.header().entry_type();
    if kind.is_symlink() {
        let target = entry.link_name()?.unwrap_or_default();
        return Ok(First::Link(target.to_string_lossy().into_owned()));
    }
    if !kind.is_file() {
        return Ok(First::Other);
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    Ok(First::File(bytes))
}

/// Every regular file in an archive, with its path without a leading `./`.
pub(super) fn files(archive: &[u8]) -> std::io::Result<Vec<ContainerFile>> {
    let mut files = Vec::new();
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path()?.to_string_lossy().into_owned();
        let path = path.trim_start_matches("./").to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        files.push(ContainerFile { path, bytes });
    }
    Ok(files)
}

/// The target of a link at `path`.
fn joined(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    format!("{directory}/{target}")
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        arbitrary::{answer_without_end, mutated},
        docker::endpoint::Endpoint,
    };

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().unwrap()
    }

    fn add(builder: &mut tar::Builder<Vec<u8>>, path: &str, text: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        builder
            .append_data(&mut header, path, text.as_bytes())
            .unwrap();
    }

    #[test]
    fn a_links_target_is_relative_to_the_link() {
        let link = archive(|builder| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder
                .append_link(&mut header, "traefik.yml", "../real.yml")
                .unwrap();
        });
        let First::Link(target) = first(&link).unwrap() else {
            panic!()
        };
        assert_eq!(
            joined("/etc/traefik/traefik.yml", &target),
            "/etc/traefik/../real.yml"
        );
        assert_eq!(joined("/a/b", "/c"), "/c");
        let file = archive(|builder| add(builder, "traefik.yml", "api: {}"));
        assert!(matches!(first(&file).unwrap(), First::File(bytes) if bytes == b"api: {}"));
    }

    #[test]
    fn paths_of_files_are_relative_to_the_directory() {
        let all = archive(|builder| {
            add(builder, "./a.yml", "a");
            add(builder, "./below/b.yml", "b");
        });
        let files = files(&all).unwrap();
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["a.yml", "below/b.yml"]);
    }

    fn sample() -> &'static [u8] {
        static SAMPLE: OnceLock<Vec<u8>> = OnceLock::new();
        SAMPLE.get_or_init(|| {
            archive(|builder| {
                add(builder, "./a.yml", "a: 1");
                add(builder, &format!("./{}", "long/".repeat(40)), "b");
            })
        })
    }

    proptest! {
        #[test]
        fn the_files_of_any_archive_are_no_larger_than_it(bytes in mutated(sample())) {
            if let Ok(files) = files(&bytes) {
                let sum: usize = files.iter().map(|file| file.bytes.len()).sum();
                prop_assert!(sum <= bytes.len());
            }
            if let Ok(First::File(file)) = first(&bytes) {
                prop_assert!(file.len() <= bytes.len());
            }
        }
    }

    #[test]
    fn a_header_with_a_huge_size_takes_no_more_than_the_archive_has() {
        for kind in [
            tar::EntryType::Regular,
            tar::EntryType::GNUSparse,
            tar::EntryType::GNULongName,
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_path("a").unwrap();
            header.set_entry_type(kind);
            header.set_size(1 << 50);
            if let Some(gnu) = header.as_gnu_mut() {
                gnu.set_real_size(1 << 50);
            }
            header.set_cksum();
            let archive = [header.as_bytes(), &[b'x'; 512][..]].concat();
            let taken =
                files(&archive).map_or(0, |files| files.iter().map(|own| own.bytes.len()).sum());
            assert!(taken <= archive.len());
        }
    }

    #[tokio::test]
    async fn an_endless_archive_is_refused_once_it_is_too_large() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("engine.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let endless = async {
            answer_without_end(listener.accept().await.unwrap().0).await;
        };
        let engine = Engine::unconnected(Endpoint::Unix(path));
        let (read, ()) = tokio::join!(engine.read_file("a", "/a.yml"), endless);
        let error = read.unwrap_err().message;
        assert_eq!(error, "/a.yml is larger than 16777216 bytes");
    }
}
