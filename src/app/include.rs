//! The files of a project and the files that they include, unresolved.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::{settings::HOSTS, yaml};

/// Limit of files that are read: includes may form a cycle.
const MOST_FILES: usize = 100;

/// The readable files with their texts, each followed by the files that it includes.
pub fn files(paths: Vec<PathBuf>) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut open = paths;
    open.reverse();
    while let Some(path) = open.pop() {
        if files.len() == MOST_FILES {
            break;
        }
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let directory = path.parent().unwrap_or(&path);
        let included = included(&text).into_iter().rev();
        open.extend(included.map(|own| directory.join(own)));
        files.push((path, text));
    }
    files
}

/// Whether one of the files names hosts, also where Compose cannot read it.
pub fn names_hosts(paths: Vec<PathBuf>) -> bool {
    files(paths).iter().any(|(_, text)| {
        let whole = yaml::parse_merged(text).unwrap_or_default();
        !whole["x-rollout"][HOSTS].is_null()
    })
}

/// The paths of `include`, in its short and its long form.
fn included(text: &str) -> Vec<String> {
    yaml::parse_merged(text).map_or_else(|_| Vec::new(), |whole| paths(&whole["include"]))
}

fn paths(include: &Value) -> Vec<String> {
    match include {
        Value::String(path) => vec![path.clone()],
        Value::Array(items) => items.iter().flat_map(paths).collect(),
        Value::Object(long) => long.get("path").map_or_else(Vec::new, paths),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_seen_in_a_file_whose_variables_have_no_value() {
        let top = tempfile::tempdir().unwrap();
        let path = top.path().join("compose.yaml");
        for (hosts, names) in [("hosts: [a]", true), ("wait: 1s", false)] {
            let text =
                format!("x-rollout: {{{hosts}}}\nservices: {{web: {{image: '${{TAG:?}}'}}}}\n");
            fs::write(&path, text).unwrap();
            assert_eq!(names_hosts(vec![path.clone()]), names, "{hosts}");
        }
    }

    #[test]
    fn what_a_file_includes_in_any_form_is_read_after_it_and_an_include_of_itself_ends() {
        let top = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = top.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let deep = write("apps/deep.yaml", "services: {}\n");
        let tagged = "include: [deep.yaml]\nservices: {web: {ports: !reset []}}\n";
        let web = write("apps/web.yaml", tagged);
        let db = write("db.yaml", "services: {}\n");
        for include in [
            "[apps/web.yaml, db.yaml]",
            "[{path: apps/web.yaml, project_directory: .}, db.yaml]",
            "[missing.yaml, {path: [apps/web.yaml, db.yaml]}]",
        ] {
            let from = write("a.yaml", &format!("include: {include}\n"));
            let found = files(vec![from.clone()]).into_iter().map(|(path, _)| path);
            let found: Vec<PathBuf> = found.collect();
            let all = [from, web.clone(), deep.clone(), db.clone()];
            assert_eq!(found, all, "{include}");
        }
        let round = write("a.yaml", "include: [a.yaml]\n");
        assert_eq!(files(vec![round]).len(), MOST_FILES);
    }
}
