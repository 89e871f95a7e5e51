//! `rollout init`: prints or applies the changes that the socket proxy needs in a Compose file.

mod elsewhere;
mod file;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use similar::TextDiff;

use self::file::ComposeFile;
use super::{endpoint, from_here, print};
use crate::{
    cli::InitArgs,
    compose::{Compose, Invocation, Project, files::files},
    error::{Error, Result},
    event::Events,
    init::{self, Edit, Request, stack, verify},
    report::Output,
    yaml,
};

/// The commands to run once the file is written.
const NEXT: [(&str, &str); 3] = [
    (
        "docker compose up -d",
        "recreates Traefik once (about 2 s of downtime for everything behind it)",
    ),
    ("rollout doctor", "checks that everything is in place"),
    ("rollout SERVICE", "every update from here on"),
];

/// Prints the changes to standard output, and applies them with `--write`.
pub async fn init(args: &InitArgs, events: &Events) -> Result<()> {
    let chosen = Chosen::of(args)?;
    let file = &chosen.file;
    let before = match compose(args, events).await? {
        Some(compose) => Some(compose.project().await?),
        None => None,
    };
    let images = images(before.as_ref());
    if !chosen.has_traefik(args, &images)? {
        return Err(chosen.elsewhere(args, &images, events).await);
    }
    let resolved = before.as_ref().map_or(&Value::Null, |own| &own.raw);
    let edit = chosen.edit(args, &images, resolved)?;
    let changed = edit.text != file.text;
    if changed && args.write {
        let draft = file.draft(&edit.text)?;
        if let Some(before) = &before {
            let drafted = chosen.with(draft.path(), args, before);
            let after = another(args, drafted).await?.project().await?;
            let checked = verify::check_resolved(&before.raw, &after.raw, &edit.changes);
            checked.map_err(|why| {
                file.named(Error::refused(format!(
                    "cannot edit this file safely: {why}"
                )))
            })?;
        }
        file.replace(draft)?;
    }
    print_edit(args, events, file, &edit, changed);
    Ok(())
}

/// The file of the project that has the service Traefik.
struct Chosen {
    file: ComposeFile,
    others: Vec<Value>,
    /// All files of the project, and the index of `file`.
    paths: Vec<PathBuf>,
    index: usize,
    /// The base of relative paths.
    directory: PathBuf,
}

impl Chosen {
    fn of(args: &InitArgs) -> Result<Self> {
        let paths = paths(&args.target.invocation())?;
        let read: Result<Vec<ComposeFile>> =
            paths.iter().map(|path| ComposeFile::read(path)).collect();
        let mut files = read?;
        let given = args.target.project_directory.clone();
        let directory = given.unwrap_or_else(|| files[0].directory().to_owned());
        let mut others: Vec<Value> = files
            .iter()
            .map(|file| yaml::parse_merged(&file.text).unwrap_or_default())
            .collect();
        let has = |value: &Value| {
            let services = value["services"].as_object();
            let named = args.traefik.as_deref();
            let found = services.map(|own| stack::traefik(own, named, &BTreeMap::new()));
            matches!(found, Some(Ok(Some(_))))
        };
        let index = others.iter().position(has).unwrap_or_default();
        others.remove(index);
        Ok(Self {
            file: files.remove(index),
            others,
            paths,
            index,
            directory,
        })
    }

    /// Whether the file has a Traefik; true for a file without services, which the edit refuses.
    fn has_traefik(&self, args: &InitArgs, images: &Images) -> Result<bool> {
        let Ok(whole) = yaml::parse_merged(&self.file.text) else {
            return Ok(true);
        };
        let Some(services) = whole["services"].as_object() else {
            return Ok(whole.get("include").is_none());
        };
        let found = stack::traefik(services, args.traefik.as_deref(), images);
        Ok(found.map_err(|error| self.file.named(error))?.is_some())
    }

    fn edit(&self, args: &InitArgs, images: &Images, resolved: &Value) -> Result<Edit> {
        let request = Request {
            traefik: args.traefik.as_deref(),
            image: &args.image,
            images,
            resolved,
            others: &self.others,
            read: &|path| std::fs::read_to_string(self.directory.join(path)).ok(),
        };
        init::edit(&self.file.text, &request).map_err(|error| self.file.named(error))
    }

    /// The same project with a draft in place of the file.
    fn with(&self, draft: &Path, args: &InitArgs, project: &Project) -> Invocation {
        let mut paths = self.paths.clone();
        paths[self.index] = draft.to_owned();
        Invocation {
            files: paths
                .iter()
                .map(|path| path.display().to_string())
                .collect(),
            project_name: Some(project.name.clone()),
            project_directory: Some(self.directory.clone()),
            ..args.target.invocation()
        }
    }
}

/// Images by service, as Compose resolves them.
type Images = BTreeMap<String, String>;

fn images(project: Option<&Project>) -> Images {
    let services = project.iter().flat_map(|project| &project.services);
    let images = services.filter_map(|(name, own)| Some((name.clone(), own.image.clone()?)));
    images.collect()
}

fn paths(invocation: &Invocation) -> Result<Vec<PathBuf>> {
    if invocation.files.iter().any(|file| file == "-") {
        return Err(Error::refused(
            "init edits a file and cannot edit standard input",
        ));
    }
    let here = std::env::current_dir().unwrap_or_default();
    let variable = |name: &str| {
        std::env::var(name)
            .ok()
            .or_else(|| file::dotenv(invocation, &here, name))
    };
    let separator = variable("COMPOSE_PATH_SEPARATOR").unwrap_or_else(|| ":".to_owned());
    let listed = variable("COMPOSE_FILE").unwrap_or_default();
    let paths = files(invocation, &here, &listed, &separator);
    if paths.is_empty() {
        return Err(Error::refused("no Compose file in this directory")
            .hint("name one with -f FILE, or copy compose-examples/quickstart"));
    }
    Ok(paths)
}

/// Docker Compose, if it is installed.
async fn compose(args: &InitArgs, events: &Events) -> Result<Option<Compose>> {
    match another(args, args.target.invocation()).await {
        Ok(compose) => Ok(Some(compose)),
        Err(error) => {
            events.notice(format!(
                "{error}; the edited file is not checked by Compose"
            ));
            Ok(None)
        }
    }
}

async fn another(args: &InitArgs, invocation: Invocation) -> Result<Compose> {
    Compose::find(invocation, endpoint(&args.target).await?).await
}

fn print_edit(args: &InitArgs, events: &Events, file: &ComposeFile, edit: &Edit, changed: bool) {
    let name = file.shown();
    let diff = TextDiff::from_lines(file.text.as_str(), edit.text.as_str());
    let diff = diff.unified_diff().header(&name, &name).to_string();
    if args.target.output == Some(Output::Json) {
        let next: Vec<&str> = NEXT.iter().map(|(command, _)| *command).collect();
        let value = json!({
            "file": name,
            "traefik": edit.traefik,
            "changed": changed,
            "written": changed && args.write,
            "diff": diff,
            "by_hand": edit.by_hand,
            "next": next,
        });
        print(format!("{value}\n").as_bytes());
        return;
    }
    print(diff.as_bytes());
    let by_hand = &edit.by_hand[..];
    let commands = NEXT.map(|(command, why)| format!("{command:<22}# {why}"));
    let next = [by_hand, &commands].concat();
    events.notice(match (changed, args.write, by_hand.is_empty()) {
        (false, _, true) => {
            format!("{name}: nothing to do, Traefik already reads through a socket proxy")
        }
        (false, _, false) => format!("{name} needs no change; next:\n{}", numbered(&next)),
        (true, false, true) => {
            "Nothing written. `rollout init --write` applies this diff".to_owned()
        }
        (true, false, false) => format!(
            "Nothing written. `rollout init --write` applies this diff; then:\n{}",
            numbered(by_hand)
        ),
        (true, true, _) => format!("{name} written; next:\n{}", numbered(&next)),
    });
}

fn numbered(steps: &[String]) -> String {
    let lines = steps.iter().zip(1..);
    let lines: Vec<String> = lines
        .map(|(step, number)| format!("      {number}. {step}"))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::numbered;

    #[test]
    fn manual_steps_come_first_among_the_numbered_steps() {
        let steps = ["add api: { insecure: true }", "docker compose up -d"].map(str::to_owned);
        assert_eq!(
            numbered(&steps),
            "      1. add api: { insecure: true }\n      2. docker compose up -d"
        );
    }
}
