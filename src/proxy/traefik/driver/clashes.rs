//! Labels of a new version that clash with those of other containers which the same Traefik reads: a rollout is refused for
//! a clash that it would bring, and warns of one that is there already.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::{
    check::Check,
    context::{Purpose, RunContext, ServiceContext},
    error::{Error, Result},
    model::{ServiceKey, label},
    overlay::Labels,
    proxy::traefik::{
        config::TraefikContainer,
        discover::is_unknown,
        labels::{Clash, Neighbour, Object, Outcome, ROUTER, clashes, objects_of},
    },
};

/// What is said of Traefiks whose neighbours are not known.
fn unknown_neighbours(
    context: &ServiceContext<'_>,
    traefiks: &[TraefikContainer],
) -> Option<String> {
    let all = traefiks.iter().filter(|own| is_unknown(own));
    let names: Vec<&str> = all.map(|own| own.name.as_str()).collect();
    let is_said = context.purpose == Purpose::Roll && !names.is_empty();
    is_said.then(|| not_compared(&context.service.name, &names))
}

fn not_compared(service: &str, traefiks: &[&str]) -> String {
    format!(
        "the labels of {service} are not compared with those of other containers: how Traefik ({}) reads Docker is not known",
        traefiks.join(", ")
    )
}

/// Whether a neighbour is rolled before this service, so that the new version of it counts.
fn comes_earlier(context: &ServiceContext<'_>, neighbour: &Neighbour) -> bool {
    let is_of_project = neighbour.project() == Some(&context.key.project);
    let service = neighbour.service();
    let mut earlier = context.beside.earlier.iter();
    neighbour.runs && is_of_project && service.is_some_and(|own| earlier.any(|name| name == own))
}

/// Compares the new version with every other container that a Traefik in front reads, and with the new versions that the same
/// command rolls. Returns notices.
pub(super) fn refuse_clashes(
    run: &RunContext<'_>,
    context: &ServiceContext<'_>,
    traefiks: &[TraefikContainer],
    neighbours: Vec<Neighbour>,
) -> Result<Vec<String>> {
    if traefiks.is_empty() {
        return Ok(Vec::new());
    }
    let (replaced, neighbours): (Vec<Neighbour>, Vec<Neighbour>) = neighbours
        .into_iter()
        .partition(|own| comes_earlier(context, own));
    let served = context.olds.iter().filter(|old| old.serves());
    let own = Own {
        container: container_name(run, context),
        key: &context.key,
        new: match context.purpose {
            Purpose::Roll => Some(context.labels(context.image.as_ref())),
            Purpose::Settle => None,
        },
        olds: served.map(|old| &old.labels).collect(),
        same_files: same_files(&run.compose.project_directory(), &neighbours),
    };
    let mut judged = own.judge(&neighbours, &replaced);
    let refused = match judged.refused {
        // What served before comes back, whatever it clashes with.
        Some(error) if run.back.is_some() => {
            judged.notices.push(error.message);
            Ok(())
        }
        Some(error) => Err(error),
        None => Ok(()),
    };
    context
        .settings
        .pass_over(Check::Labels, refused, &mut judged.notices)?;
    let unknown = unknown_neighbours(context, traefiks);
    judged.notices.extend(unknown);
    Ok(judged.notices)
}

/// What its first container is called, or will be.
fn container_name(run: &RunContext<'_>, context: &ServiceContext<'_>) -> String {
    let service = context.service;
    let words = [run.project.name.as_str(), &service.name, "1"];
    match (context.olds.first(), &service.container_name) {
        (Some(old), _) => old.target_name().to_owned(),
        (None, Some(name)) => name.clone(),
        (None, None) => words.join(run.compose.separator()),
    }
}

/// The other projects that are made from Compose files in this directory, whichever way the path is written.
fn same_files(directory: &Path, neighbours: &[Neighbour]) -> BTreeSet<String> {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or(path.to_owned());
    let directory = real(directory);
    let is_of_it = |own: &&Neighbour| {
        let of = |key| own.labels.get(key).map(String::as_str).unwrap_or_default();
        let files = of(label::COMPOSE_FILES).split(',');
        let parents = files.filter_map(|file| Some(real(Path::new(file)).parent()?.to_owned()));
        let folders: Vec<PathBuf> = parents
            .chain([real(Path::new(of(label::COMPOSE_DIRECTORY)))])
            .collect();
        folders.contains(&directory)
    };
    let projects = neighbours.iter().filter(is_of_it);
    projects
        .filter_map(|own| Some(own.project()?.to_owned()))
        .collect()
}

/// The service whose labels are judged.
struct Own<'a> {
    container: String,
    key: &'a ServiceKey,
    /// The labels of the new version, where there is to be one.
    new: Option<Labels>,
    /// Those of the replicas that serve.
    olds: Vec<&'a Labels>,
    /// Other projects that are made from the same files.
    same_files: BTreeSet<String>,
}

#[derive(Default)]
struct Judged {
    refused: Option<Error>,
    notices: Vec<String>,
}

impl Own<'_> {
    /// `replaced` are neighbours that the new version never meets.
    fn judge(&self, neighbours: &[Neighbour], replaced: &[Neighbour]) -> Judged {
        let olds = self.olds.iter();
        let all = [neighbours, replaced];
        let before = olds.flat_map(|old| all.map(|own| clashes(old, own)));
        let before = before.flatten();
        let before: Vec<Clash<'_>> = before.filter(|own| own.neighbour.runs).collect();
        let now = match &self.new {
            Some(new) => clashes(new, neighbours),
            None => before.clone(),
        };
        let (bad, meant): (Vec<Clash<'_>>, _) = now.into_iter().partition(|own| self.is_bad(own));
        let (known, fresh): (Vec<Clash<'_>>, _) = bad
            .into_iter()
            .partition(|own| own.is_there_already(&before));
        let mut judged = Judged::default();
        // Two services of a project may well be meant to answer together.
        judged.notices.extend(self.sentences(&meant));
        let known = self.sentences(&known).into_iter();
        judged
            .notices
            .extend(known.map(|text| format!("{text}; that is so already")));
        if !fresh.is_empty() {
            let error = Error::refused(self.sentences(&fresh).join("; "));
            let hint = self.hint(&fresh, neighbours);
            judged.refused = Some(error.hint(hint).of(Check::Labels));
        }
        judged
    }

    /// Whether it breaks anything, or sends requests to another project.
    fn is_bad(&self, clash: &Clash<'_>) -> bool {
        clash.outcome != Outcome::Shared || clash.neighbour.project() != Some(&self.key.project)
    }

    /// A sentence for each set of objects, with the containers that define them too.
    fn sentences(&self, clashes: &[Clash<'_>]) -> Vec<String> {
        let mut by_container: BTreeMap<(&str, bool), BTreeSet<String>> = BTreeMap::new();
        for own in clashes {
            let key = (own.neighbour.name.as_str(), own.outcome == Outcome::Shared);
            by_container.entry(key).or_default().insert(own.to_string());
        }
        let mut by_objects: BTreeMap<(bool, BTreeSet<String>), Vec<&str>> = BTreeMap::new();
        for ((name, shared), objects) in by_container {
            by_objects.entry((shared, objects)).or_default().push(name);
        }
        let sentence = |((shared, objects), names): ((bool, BTreeSet<String>), Vec<&str>)| {
            let objects: Vec<String> = objects.into_iter().collect();
            let (objects, names, own) = (objects.join(", "), names.join(", "), &self.container);
            match shared {
                true => format!(
                    "{own} and {names} both define {objects}: Traefik sends its requests to both"
                ),
                false => format!(
                    "{own} and {names} define {objects} differently: Traefik drops it for both"
                ),
            }
        };
        by_objects.into_iter().map(sentence).collect()
    }

    fn hint(&self, fresh: &[Clash<'_>], neighbours: &[Neighbour]) -> String {
        let mut lines = Vec::new();
        let twin = fresh.iter().find_map(|own| self.twin(own));
        if let Some((project, why)) = twin {
            lines.push(format!("did you mean -p {project}? That project {why}"));
        }
        let own = self.new.iter().chain(self.olds.iter().copied());
        let all = neighbours.iter().map(|own| &own.labels).chain(own);
        let taken: BTreeSet<Object> = all.flat_map(objects_of).collect();
        if let Some(first) = fresh.first() {
            let service = &self.key.service;
            let object = &first.object;
            lines.push(format!(
                "give {object} another name in the labels of {service}, such as {}",
                object.free_name(&taken)
            ));
        }
        lines.push("or continue with --ignore labels".to_owned());
        lines.join("\n      ")
    }

    /// Another project that the operator may mean, and why.
    fn twin<'a>(&self, clash: &Clash<'a>) -> Option<(&'a str, &'static str)> {
        let project = clash.neighbour.project()?;
        if project == self.key.project {
            return None;
        }
        if self.same_files.contains(project) {
            return Some((project, "is made from the same Compose files"));
        }
        (clash.object.kind == ROUTER).then_some((project, "has this router"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{compose::Service, context::Beside};

    const GZ: (&str, &str) = ("traefik.http.middlewares.gz.compress", "true");
    const MORE: (&str, &str) = (
        "traefik.http.middlewares.gz.compress.minresponsebodybytes",
        "2048",
    );
    const RULE: (&str, &str) = ("traefik.http.routers.web.rule", "Host(`a`)");
    const PORT: (&str, &str) = ("traefik.http.services.web.loadbalancer.server.port", "80");

    fn labels(project: &str, pairs: &[(&str, &str)]) -> Labels {
        let compose = [
            (label::COMPOSE_PROJECT, project),
            (label::COMPOSE_SERVICE, "web"),
        ];
        let all = compose.iter().chain(pairs);
        all.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn neighbour(project: &str, pairs: &[(&str, &str)]) -> Neighbour {
        let mut labels = labels(project, pairs);
        labels.insert(label::COMPOSE_SERVICE.to_owned(), "b".to_owned());
        Neighbour {
            runs: true,
            name: format!("{project}-b-1"),
            labels,
        }
    }

    /// What is made of the labels of the new version, those of the old, and a neighbour.
    fn judged(
        new: Option<&[(&str, &str)]>,
        old: &[(&str, &str)],
        neighbour: Neighbour,
    ) -> (Option<Error>, Vec<String>) {
        let key = ServiceKey {
            project: "shop".to_owned(),
            service: "web".to_owned(),
        };
        let old = labels("shop", old);
        let own = Own {
            container: "shop-web-1".to_owned(),
            key: &key,
            new: new.map(|new| labels("shop", new)),
            olds: vec![&old],
            same_files: BTreeSet::from(["release-1".to_owned()]),
        };
        let judged = own.judge(&[neighbour], &[]);
        (judged.refused, judged.notices)
    }

    #[test]
    fn a_clash_that_the_new_version_brings_is_refused_and_names_object_field_and_containers() {
        let (refused, notices) = judged(Some(&[GZ, MORE]), &[GZ], neighbour("shop", &[GZ]));
        let refused = refused.unwrap();
        assert_eq!(
            refused.message,
            "shop-web-1 and shop-b-1 define middleware gz (compress.minresponsebodybytes) differently: Traefik drops it \
             for both"
        );
        let hint = refused.hint.unwrap();
        assert!(
            hint.contains("such as gz-2") && !hint.contains("-p "),
            "{hint}"
        );
        assert_eq!(refused.check, Some(Check::Labels));
        assert_eq!(notices, [""; 0]);
    }

    #[test]
    fn a_clash_that_is_there_already_is_a_warning() {
        let (refused, notices) = judged(Some(&[GZ, MORE]), &[GZ, MORE], neighbour("shop", &[GZ]));
        assert_eq!(refused, None);
        assert!(notices[0].ends_with("that is so already"), "{notices:?}");
        let (refused, notices) = judged(None, &[GZ, MORE], neighbour("shop", &[GZ]));
        assert_eq!((refused, notices.len()), (None, 1));
    }

    #[test]
    fn a_clash_with_what_the_same_command_rolls_is_new_whatever_it_replaces() {
        let new = Neighbour {
            name: "the new version of b".to_owned(),
            runs: false,
            ..neighbour("shop", &[GZ, MORE])
        };
        let (refused, notices) = judged(Some(&[GZ]), &[GZ], new);
        assert_eq!(
            refused.unwrap().message,
            "shop-web-1 and the new version of b define middleware gz (compress.minresponsebodybytes) differently: \
             Traefik drops it for both"
        );
        assert_eq!(notices, [""; 0]);
    }

    #[test]
    fn what_is_replaced_first_is_not_compared_but_tells_what_is_so_already() {
        let key = ServiceKey {
            project: "shop".to_owned(),
            service: "web".to_owned(),
        };
        let judged = |old: &[(&str, &str)]| {
            let old = labels("shop", old);
            let own = Own {
                container: "shop-web-1".to_owned(),
                key: &key,
                new: Some(labels("shop", &[GZ])),
                olds: vec![&old],
                same_files: BTreeSet::new(),
            };
            let runs = neighbour("shop", &[GZ, MORE]);
            let new = Neighbour {
                runs: false,
                ..runs.clone()
            };
            let alone = own.judge(&[], std::slice::from_ref(&runs)).refused;
            (alone, own.judge(&[new], &[runs]).refused.is_some())
        };
        assert_eq!(judged(&[]), (None, true));
        assert_eq!(judged(&[GZ]), (None, false));
    }

    #[test]
    fn a_router_of_another_project_or_the_same_files_suggest_that_project() {
        let other = [("traefik.http.routers.web.rule", "Host(`b`)")];
        let (refused, _) = judged(Some(&[RULE]), &[], neighbour("blog", &other));
        let hint = refused.unwrap().hint.unwrap();
        assert!(
            hint.starts_with("did you mean -p blog? That project has this router"),
            "{hint}"
        );
        let (refused, _) = judged(Some(&[GZ, MORE]), &[], neighbour("release-1", &[GZ]));
        let hint = refused.unwrap().hint.unwrap();
        assert!(hint.starts_with("did you mean -p release-1?"), "{hint}");
    }

    #[test]
    fn a_service_that_another_project_has_too_is_refused_and_within_the_project_told() {
        let (refused, _) = judged(Some(&[RULE, PORT]), &[], neighbour("blog", &[PORT]));
        let refused = refused.unwrap();
        assert_eq!(
            refused.message,
            "shop-web-1 and blog-b-1 both define service web: Traefik sends its requests to both"
        );
        let (refused, notices) = judged(Some(&[RULE, PORT]), &[], neighbour("shop", &[PORT]));
        assert_eq!((refused, notices.len()), (None, 1));
    }

    #[test]
    fn a_service_of_the_project_that_is_rolled_earlier_is_compared_afterwards() {
        let service = Service::default();
        let comes_earlier = |earlier: &[&str], project: &str| {
            let context = ServiceContext {
                beside: Beside {
                    earlier: earlier.iter().map(|&name| name.to_owned()).collect(),
                    ..Beside::default()
                },
                ..ServiceContext::of(&service)
            };
            super::comes_earlier(&context, &neighbour(project, &[RULE]))
        };
        assert!(comes_earlier(&["a", "b"], "shop"));
        assert!(!comes_earlier(&["a"], "shop"));
        assert!(!comes_earlier(&["b"], "blog"));
    }

    #[test]
    fn labels_that_are_not_compared_are_one_notice_with_every_traefik() {
        assert_eq!(
            not_compared("web", &["inner", "outer"]),
            "the labels of web are not compared with those of other containers: how Traefik (inner, outer) reads Docker is \
             not known"
        );
    }

    #[test]
    fn a_folder_behind_a_symlink_is_the_same() {
        let top = tempfile::tempdir().unwrap();
        let release = top.path().join("release-1");
        std::fs::create_dir(&release).unwrap();
        let current = top.path().join("current");
        std::os::unix::fs::symlink(&release, &current).unwrap();
        let mut other = neighbour("current", &[]);
        let folder = current.to_string_lossy().into_owned();
        other
            .labels
            .insert(label::COMPOSE_DIRECTORY.to_owned(), folder);
        let found = same_files(&release, &[other, neighbour("blog", &[])]);
        assert_eq!(found, BTreeSet::from(["current".to_owned()]));
    }
}
