//! Where Traefik is, if not in the project's own files: in a file that they include, or in another running project.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    super::{include, opened::endpoint},
    Chosen, Images,
};
use crate::{
    cli::InitArgs,
    docker::engine::Engine,
    error::Error,
    event::Events,
    init::stack::{self, Services},
    model::label,
    proxy::traefik::config::{advice, looks_like_traefik},
    text_file::from_here,
    yaml,
};

impl Chosen {
    /// The error that says where Traefik is.
    pub(super) async fn elsewhere(
        &self,
        args: &InitArgs,
        images: &Images,
        events: &Events,
    ) -> Error {
        for path in &self.paths {
            if let Some(error) = self.included(args, images, path) {
                return error;
            }
        }
        let named = args.traefik.as_deref();
        if let Some((project, folder)) = running(args, events).await.filter(|_| named.is_none()) {
            let message = format!(
                "no service of this file has an image called traefik; project {project} runs one, in {folder}"
            );
            let hint = format!(
                "if that one routes your services, run rollout init in {folder}; else name yours with --traefik SERVICE"
            );
            return self.file.named(Error::refused(message)).hint(hint);
        }
        let whole = yaml::parse_merged(&self.file.text).unwrap_or_default();
        let services = whole["services"].as_object().cloned().unwrap_or_default();
        self.file.named(stack::missing(&services, named))
    }

    /// The error for a Traefik in an included file, with what to add there.
    fn included(&self, args: &InitArgs, images: &Images, path: &Path) -> Option<Error> {
        let found = find(path, &|services| {
            let found = stack::traefik(services, args.traefik.as_deref(), images);
            found.ok().flatten()
        });
        let (file, services, name) = found?;
        let directory = file.parent().unwrap_or(&file).to_owned();
        let read = |path: &str| fs::read_to_string(directory.join(path)).ok();
        let config = stack::config(&services[&name], &read);
        let reader = stack::reader(&services, &name, images, config.as_ref());
        let (shown, from) = (from_here(&file), from_here(path));
        let message = format!("service {name} is in {shown}, which {from} includes");
        let to = format!(" to {shown}");
        Some(Error::refused(message).hint(advice::by_hand(&args.image, &reader, &to)))
    }
}

/// The first file with a Traefik, among those that a file includes directly or indirectly.
fn find(
    path: &Path,
    traefik: &dyn Fn(&Services) -> Option<String>,
) -> Option<(PathBuf, Services, String)> {
    let included = include::files(vec![path.to_owned()]).into_iter().skip(1);
    let mut found = included.filter_map(|(file, text)| {
        let whole = yaml::parse_merged(&text).ok()?;
        let services = whole["services"].as_object().cloned().unwrap_or_default();
        let name = traefik(&services)?;
        Some((file, services, name))
    });
    found.next()
}

/// The project of a Traefik that runs on the engine, and the folder of that project.
async fn running(args: &InitArgs, events: &Events) -> Option<(String, String)> {
    let engine = Engine::connect(endpoint(&args.target).await.ok()?, events)
        .await
        .ok()?;
    let running = engine.running().await.ok()?;
    running
        .iter()
        .filter(|own| looks_like_traefik(own))
        .find_map(|own| {
            let label = |key: &str| own.labels.as_ref()?.get(key).cloned();
            Some((
                label(label::COMPOSE_PROJECT)?,
                label(label::COMPOSE_DIRECTORY)?,
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_included_file_is_found_in_every_form_of_include_and_through_another() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let traefik = |services: &Services| stack::traefik(services, None, &Images::new()).unwrap();
        let there = write(
            "proxy/traefik.yaml",
            "services: {edge: {image: 'traefik:v3.7'}}\n",
        );
        write(
            "proxy/other.yaml",
            "services: {db: {image: postgres}}\ninclude: [traefik.yaml]\n",
        );
        for include in [
            "[proxy/traefik.yaml]",
            "[{path: proxy/traefik.yaml, project_directory: .}]",
            "[missing.yaml, {path: [proxy/other.yaml]}]",
        ] {
            let from = write("compose.yaml", &format!("include: {include}\n"));
            let (file, _, name) = find(&from, &traefik).unwrap();
            assert_eq!((file, name.as_str()), (there.clone(), "edge"), "{include}");
        }
        let round = write("compose.yaml", "include: [compose.yaml]\n");
        assert!(find(&round, &traefik).is_none());
    }
}
