//! Finds the files of a project as Compose's own discovery does.

use std::path::{Path, PathBuf};

use super::Invocation;

/// The names that Compose's discovery looks for (compose-go's `DefaultFileNames`).
const NAMES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yml",
    "docker-compose.yaml",
];
/// It also reads the first of these beside the Compose file (compose-go's `DefaultOverrideFileNames`).
const OVERRIDES: [&str; 4] = [
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
];

/// The nearest directory with a Compose file, from `here` upwards.
pub(super) fn discovered(here: &Path) -> Option<&Path> {
    here.ancestors()
        .find(|directory| NAMES.iter().any(|name| directory.join(name).exists()))
}

/// The files in Compose's order. `listed` is the value of `COMPOSE_FILE`, and `separator` separates its names.
pub fn files(given: &Invocation, here: &Path, listed: &str, separator: &str) -> Vec<PathBuf> {
    if !given.files.is_empty() {
        return given.files.iter().map(|file| here.join(file)).collect();
    }
    if !listed.is_empty() {
        return listed
            .split(separator)
            .map(|file| here.join(file))
            .collect();
    }
    let here = given
        .project_directory
        .as_deref()
        .map(|own| here.join(own))
        .unwrap_or(here.to_owned());
    let Some(directory) = discovered(&here) else {
        return Vec::new();
    };
    let first = |names: &[&str]| {
        let paths = names.iter().map(|name| directory.join(name));
        paths.into_iter().find(|path| path.exists())
    };
    first(&NAMES).into_iter().chain(first(&OVERRIDES)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_directory_with_a_compose_file_is_found_from_below() {
        let top = tempfile::tempdir().unwrap();
        let below = top.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(top.path().join("docker-compose.yml"), "").unwrap();
        assert_eq!(discovered(&below), Some(top.path()));
    }

    #[test]
    fn files_are_those_that_are_named_else_listed_else_found_with_an_override() {
        let top = tempfile::tempdir().unwrap();
        for name in [
            "compose.yaml",
            "docker-compose.yml",
            "compose.override.yaml",
        ] {
            std::fs::write(top.path().join(name), "").unwrap();
        }
        let names = |given: &Invocation, listed: &str| -> Vec<String> {
            let all = files(given, top.path(), listed, ":");
            let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
            all.into_iter().map(name).collect()
        };
        let named = Invocation {
            files: vec!["b.yaml".to_owned()],
            ..Invocation::default()
        };
        assert_eq!(names(&named, "c.yaml"), ["b.yaml"]);
        assert_eq!(
            names(&Invocation::default(), "c.yaml:d.yaml"),
            ["c.yaml", "d.yaml"]
        );
        let found = names(&Invocation::default(), "");
        assert_eq!(found, ["compose.yaml", "compose.override.yaml"]);
        let nowhere = files(&Invocation::default(), Path::new("/nowhere"), "", ":");
        assert!(nowhere.is_empty(), "{nowhere:?}");
    }
}
