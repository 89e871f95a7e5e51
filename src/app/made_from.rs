//! Projects whose Compose file is not in this directory, such as Portainer's, read from the labels of their containers.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    compose::{Compose, Project, Service},
    docker::engine::Engine,
    error::{Error, Result},
    model::label,
};

/// A project on the engine, and the files that it was created from.
#[derive(Debug, PartialEq)]
struct Origin {
    project: String,
    /// Its Compose files, from a label of Compose.
    files: Vec<String>,
}

/// Limit of projects in a message.
const MOST: usize = 5;

/// The same error if there is a Compose file; else an error that names the project's files.
pub async fn explain(error: Error, engine: &Engine, compose: &Compose, names: &[&str]) -> Error {
    if !has_no_file(compose) {
        return error;
    }
    let found = origins(engine, names, compose.project_name().as_deref()).await;
    match found.is_empty() {
        true => error,
        false => {
            let lines: Vec<String> = found.iter().take(MOST).map(Origin::advice).collect();
            error.hint(lines.join("\n      "))
        }
    }
}

/// The project of these services, or the only one, without its configuration: enough for the records.
pub async fn project(
    error: Error,
    engine: &Engine,
    compose: &Compose,
    names: &[&str],
) -> Result<Project> {
    if !has_no_file(compose) {
        return Err(error);
    }
    of_containers(error, engine, compose, names).await
}

/// The same, also where there is a Compose file that cannot be read.
pub async fn of_containers(
    error: Error,
    engine: &Engine,
    compose: &Compose,
    names: &[&str],
) -> Result<Project> {
    let name = match compose.project_name() {
        Some(name) => name,
        None => {
            let mut found = origins(engine, names, None).await;
            if !has_no_file(compose) {
                found.retain(|own| own.is_of(&compose.files()));
            }
            let asked = match names {
                [] => "containers".to_owned(),
                names => format!("a service {}", names.join(" and ")),
            };
            match (found.pop(), found.is_empty()) {
                (Some(only), true) => only.project,
                (None, _) => {
                    return Err(error.hint(format!(
                        "no project on this engine has {asked}: name one with -p NAME, or a file with -f FILE"
                    )));
                }
                (Some(_), false) => {
                    return Err(Error::refused(format!(
                        "several projects have {asked}, and there is no Compose file in this directory"
                    ))
                    .hint("name the project with -p NAME"));
                }
            }
        }
    };
    let own = |name: &&str| {
        let name = (*name).to_owned();
        let service = Service {
            name: name.clone(),
            ..Service::default()
        };
        (name, service)
    };
    Ok(Project {
        name,
        services: names.iter().map(own).collect(),
        ..Project::default()
    })
}

/// Whether Compose has no file to read.
fn has_no_file(compose: &Compose) -> bool {
    let files = compose.files();
    !compose.reads_stdin() && !files.iter().any(|file| file.exists())
}

async fn origins(engine: &Engine, names: &[&str], project: Option<&str>) -> Vec<Origin> {
    let containers = engine.containers().await.unwrap_or_default();
    let labels = containers.into_iter().filter_map(|own| own.labels);
    let labels: Vec<BTreeMap<String, String>> =
        labels.map(|own| own.into_iter().collect()).collect();
    of_labels(&labels, names, project)
}

/// The projects that have all of the services, or the project of this name.
fn of_labels(
    containers: &[BTreeMap<String, String>],
    names: &[&str],
    project: Option<&str>,
) -> Vec<Origin> {
    let mut services = BTreeMap::<&str, Vec<&str>>::new();
    let mut files = BTreeMap::<&str, Vec<String>>::new();
    for labels in containers {
        let get = |key: &str| labels.get(key).map(String::as_str);
        let Some(own) = get(label::COMPOSE_PROJECT) else {
            continue;
        };
        services
            .entry(own)
            .or_default()
            .extend(get(label::COMPOSE_SERVICE));
        let noted = get(label::COMPOSE_FILES).unwrap_or_default().split(',');
        let noted = noted.filter(|file| !file.is_empty());
        let directory = Path::new(get(label::COMPOSE_DIRECTORY).unwrap_or_default());
        let whole = noted.map(|file| directory.join(file).display().to_string());
        files.insert(own, whole.collect());
    }
    let fits = |own: &str, has: &[&str]| match project {
        Some(project) => own == project,
        None => names.iter().all(|name| has.contains(name)),
    };
    let found = services.iter().filter(|(own, has)| fits(own, has));
    found
        .map(|(own, _)| Origin {
            project: (*own).to_owned(),
            files: files.remove(own).unwrap_or_default(),
        })
        .collect()
}

impl Origin {
    /// Whether it was made from one of these files.
    fn is_of(&self, files: &[PathBuf]) -> bool {
        let whole = |file: &Path| file.canonicalize().ok();
        let files: Vec<PathBuf> = files.iter().filter_map(|own| whole(own)).collect();
        let own = self.files.iter().filter_map(|own| whole(Path::new(own)));
        own.into_iter().any(|own| files.contains(&own))
    }

    fn advice(&self) -> String {
        let project = &self.project;
        let files = self.files.join(", ");
        if !self.files.is_empty() && self.files.iter().all(|file| Path::new(file).exists()) {
            let given: Vec<String> = self.files.iter().map(|file| format!("-f {file}")).collect();
            return format!(
                "project {project} was made from {files}: give {} -p {project}",
                given.join(" ")
            );
        }
        let from = match files.is_empty() {
            true => "from an unknown file".to_owned(),
            false => format!("from {files}, which is not on this machine"),
        };
        format!(
            "project {project} was made {from}: save its Compose file here, and give -f FILE -p {project}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(project: &str, service: &str, file: &str) -> BTreeMap<String, String> {
        let pairs = [
            (label::COMPOSE_PROJECT, project),
            (label::COMPOSE_SERVICE, service),
            (label::COMPOSE_DIRECTORY, "/data/compose/3"),
            (label::COMPOSE_FILES, file),
        ];
        pairs
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn a_project_is_found_by_its_service_or_its_name_and_says_where_its_file_was() {
        let all = [
            container("shop", "web", "docker-compose.yml"),
            container("shop", "db", "docker-compose.yml"),
            container("blog", "web", "/srv/blog/compose.yaml"),
            BTreeMap::new(),
        ];
        let names = |services: &[&str], project| -> Vec<String> {
            let found = of_labels(&all, services, project);
            found.into_iter().map(|own| own.project).collect()
        };
        assert_eq!(names(&["web"], None), ["blog", "shop"]);
        assert_eq!(names(&["web", "db"], None), ["shop"]);
        assert_eq!(names(&["web"], Some("blog")), ["blog"]);
        assert_eq!(names(&["api"], None), [""; 0]);
        let shop = &of_labels(&all, &["db"], None)[0];
        assert_eq!(
            shop.advice(),
            "project shop was made from /data/compose/3/docker-compose.yml, which is not on this machine: save its \
             Compose file here, and give -f FILE -p shop"
        );
    }

    #[test]
    fn a_file_that_is_here_after_all_is_to_be_given() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        let found = of_labels(&[container("shop", "web", &path)], &["web"], None);
        let given = format!("give -f {path} -p shop");
        assert!(found[0].advice().ends_with(&given), "{}", found[0].advice());
    }
}
