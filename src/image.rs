//! The images that hold this program: what the engine builds them from.

use std::{collections::HashMap, io, path::Path};

use crate::{
    docker::engine::{Engine, Stage},
    error::{Error, Result},
};

/// The version of the program in an image: a label.
pub const VERSION: &str = "org.opencontainers.image.version";

const DOCKERFILE: &str = include_str!("../Dockerfile");
/// This program, also where its file was replaced since it started.
const PROGRAM: &str = "/proc/self/exe";
/// The type of the part of an ELF file that names the dynamic linker.
const PT_INTERP: u32 = 3;

/// Builds a stage of the Dockerfile from this program, under this name.
pub async fn build(engine: &Engine, stage: &str, tag: &str, base: Option<&str>) -> Result<()> {
    let program = program()?;
    if !is_static(&program) {
        let message = "this rollout needs shared libraries, which an image of its own lacks";
        return Err(Error::refused(message)
            .hint("use the static one: that of the packages, or make install in a clone"));
    }
    refuse_architecture(&engine.about().await?.architecture)?;
    let files = [
        ("Dockerfile", 0o644, DOCKERFILE.as_bytes()),
        ("rootfs/rollout", 0o755, &program),
        // Any user may write here: a named volume takes on its mode.
        ("rootfs/var/lib/rollout/", 0o1777, &[]),
    ];
    let stage = Stage {
        name: stage,
        tag,
        labels: HashMap::from([(VERSION, env!("CARGO_PKG_VERSION"))]),
        arguments: base.map(|base| ("BASE", base)).into_iter().collect(),
    };
    engine.build(archive(&files)?, stage).await
}

pub fn program() -> Result<Vec<u8>> {
    let read = std::fs::read(PROGRAM);
    read.map_err(|error| Error::failed(format!("cannot read this program: {error}")))
}

/// A tar archive of files: path, mode and content. A path that ends with a slash is a folder.
pub fn archive(files: &[(&str, u32, &[u8])]) -> Result<Vec<u8>> {
    let packed = packed(files);
    packed.map_err(|error| Error::failed(format!("cannot pack this program: {error}")))
}

fn packed(files: &[(&str, u32, &[u8])]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        if path.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        archive.append_data(&mut header, Path::new(path), *content)?;
    }
    archive.into_inner()
}

/// Refuses an engine on which this program does not run; the words are those of Go.
fn refuse_architecture(engine: &str) -> Result<()> {
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    if engine.is_empty() || engine == own {
        return Ok(());
    }
    let message = format!("this rollout is for {own}, and the engine's machine is {engine}");
    Err(Error::refused(message).hint("run rollout image on that machine"))
}

/// Whether a 64-bit ELF file names no dynamic linker.
fn is_static(program: &[u8]) -> bool {
    fn number<const N: usize>(program: &[u8], at: usize) -> Option<[u8; N]> {
        program.get(at..at.checked_add(N)?)?.try_into().ok()
    }
    let interpreted = || {
        let table = usize::try_from(u64::from_le_bytes(number(program, 32)?)).ok()?;
        let size = usize::from(u16::from_le_bytes(number(program, 54)?));
        let count = usize::from(u16::from_le_bytes(number(program, 56)?));
        let kind = |part: usize| {
            let at = table.checked_add(part * size)?;
            number(program, at).map(u32::from_le_bytes)
        };
        let kinds: Option<Vec<u32>> = (0..count).map(kind).collect();
        Some(kinds?.contains(&PT_INTERP))
    };
    program.starts_with(b"\x7fELF\x02") && interpreted() == Some(false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated;

    /// The beginning of an ELF file with two parts.
    fn elf(kinds: [u8; 2]) -> Vec<u8> {
        let mut file = vec![0; 64 + 2 * 56];
        file[..5].copy_from_slice(b"\x7fELF\x02");
        (file[32], file[54], file[56]) = (64, 56, 2);
        (file[64], file[64 + 56]) = (kinds[0], kinds[1]);
        file
    }

    #[test]
    fn a_program_with_a_dynamic_linker_or_no_program_is_not_static() {
        assert!(is_static(&elf([1, 2])));
        assert!(!is_static(&elf([1, 3])));
        assert!(!is_static(&elf([1, 2])[..100]));
        assert!(!is_static(b"#!/bin/sh\n"));
    }

    proptest! {
        #[test]
        fn any_file_is_static_or_not(file in mutated(elf([1, 3]).leak())) {
            is_static(&file);
        }
    }

    #[test]
    fn an_engine_of_another_architecture_is_refused() {
        let error = refuse_architecture("riscv64").unwrap_err();
        assert!(error.message.ends_with("is riscv64"), "{error}");
        assert_eq!(refuse_architecture(""), Ok(()));
    }

    #[test]
    fn an_archive_keeps_modes_and_folders() {
        let bytes = archive(&[("a/b", 0o755, b"x"), ("c/", 0o1777, b"")]).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let header = entry.header();
            (header.mode().unwrap(), header.entry_type().is_dir())
        });
        assert_eq!(
            entries.collect::<Vec<_>>(),
            [(0o755, false), (0o1777, true)]
        );
    }
}
