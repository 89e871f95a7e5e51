//! `rollout init`: shows what the socket proxy needs in the user's own Compose file, or writes it and builds its image.

mod elsewhere;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::{image, opened::endpoint, print};
use crate::{
    cli::InitArgs,
    compose::{Compose, Invocation, Project, files::files},
    dotenv,
    error::{Error, Result},
    event::Events,
    init::{self, Edited, Request, override_file, stack, verify},
    proxy::traefik::config::advice,
    report::{Output, diff::unified},
    text_file::TextFile,
    yaml,
};

/// The commands to run after the file is written.
const NEXT: [(&str, &str); 3] = [
    (
        "docker compose up -d",
        "recreates Traefik once (about 2 s of downtime for everything behind it)",
    ),
    ("rollout doctor", "checks that everything is in place"),
    ("rollout SERVICE", "every update from here on"),
];

/// Prints the changes on standard output, and writes them if `--write` is given.
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
    let edited = chosen.edit(args, &images, resolved)?;
    let target = match (&edited.text, args.overrides) {
        (Some(text), true) => &chosen.override_file(text)?,
        _ => file,
    };
    if let (Some(text), true) = (&edited.text, args.write) {
        let draft = target.draft(text);
        let draft =
            draft.map_err(|error| error.or_hint("without --write, init shows what to change"))?;
        if let Some(before) = &before {
            let drafted = chosen.with(draft.path(), args, before);
            let after = another(args, drafted).await?.project().await?;
            let checked = verify::check_resolved(&before.raw, &after.raw, &edited.edits);
            checked.map_err(|why| {
                file.named(Error::refused(format!(
                    "cannot edit this file safely: {why}"
                )))
            })?;
        }
        target.replace(draft)?;
    }
    // Another image is the user's own.
    if args.write && args.image == advice::IMAGE {
        image::ensure(&args.target, events).await;
    }
    print_result(args, events, target, &edited);
    Ok(())
}

/// The file with Traefik's service, among the files of the project.
struct Chosen {
    file: TextFile,
    others: Vec<Value>,
    /// All files, and the index of this one.
    paths: Vec<PathBuf>,
    index: usize,
    /// Whether the command line or `COMPOSE_FILE` lists the files.
    is_listed: bool,
    /// The directory of relative paths.
    directory: PathBuf,
}

impl Chosen {
    fn of(args: &InitArgs) -> Result<Self> {
        let (paths, is_listed) = paths(&args.target.invocation())?;
        let read: Result<Vec<TextFile>> = paths.iter().map(|path| TextFile::read(path)).collect();
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
            is_listed,
            directory,
        })
    }

    /// Whether the file has a Traefik; the edit refuses a file without services.
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

    fn edit(&self, args: &InitArgs, images: &Images, resolved: &Value) -> Result<Edited> {
        let request = Request {
            traefik: args.traefik.as_deref(),
            image: &args.image,
            images,
            resolved,
            others: &self.others,
            read: &|path| fs::read_to_string(self.directory.join(path)).ok(),
            overrides: args.overrides,
        };
        init::edit(&self.file.text, &request).map_err(|error| self.file.named(error))
    }

    /// The override file that is to be created, if Compose finds it there.
    fn override_file(&self, text: &str) -> Result<TextFile> {
        let path = self.file.directory().join(override_file::NAME);
        let refused = |why: String| {
            let text = text.trim_end().replace('\n', "\n        ");
            Err(Error::refused(why).hint(format!("add this by hand:\n        {text}")))
        };
        if self.is_listed {
            return refused("the files are listed, so Compose reads no override file".to_owned());
        }
        if self.paths.len() > 1 || path.exists() {
            return refused("the project has an override file already".to_owned());
        }
        Ok(TextFile::absent(path))
    }

    /// The same project with a draft in the place of the file, or as its override file.
    fn with(&self, draft: &Path, args: &InitArgs, project: &Project) -> Invocation {
        let mut paths = self.paths.clone();
        match args.overrides {
            true => paths.push(draft.to_owned()),
            false => paths[self.index] = draft.to_owned(),
        }
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

/// Images by service, as Compose has resolved them.
type Images = BTreeMap<String, String>;

fn images(project: Option<&Project>) -> Images {
    let services = project.iter().flat_map(|project| &project.services);
    let images = services.filter_map(|(name, own)| Some((name.clone(), own.image.clone()?)));
    images.collect()
}

/// Every file of the project, and whether they are listed.
fn paths(invocation: &Invocation) -> Result<(Vec<PathBuf>, bool)> {
    if invocation.files.iter().any(|file| file == "-") {
        return Err(Error::refused(
            "init edits a file, and cannot edit standard input",
        ));
    }
    let here = std::env::current_dir().unwrap_or_default();
    let variable = |name: &str| {
        std::env::var(name)
            .ok()
            .or_else(|| in_env_files(invocation, &here, name))
    };
    let separator = variable("COMPOSE_PATH_SEPARATOR").unwrap_or_else(|| ":".to_owned());
    let listed = variable("COMPOSE_FILE").unwrap_or_default();
    let paths = files(invocation, &here, &listed, &separator);
    if paths.is_empty() {
        return Err(Error::refused("there is no Compose file here")
            .hint("name one with -f FILE, or start from the example compose-examples/quickstart in rollout's repository"));
    }
    let is_listed = !invocation.files.is_empty() || !listed.is_empty();
    Ok((paths, is_listed))
}

/// A variable of the project's `.env`, or of the files that replace it.
fn in_env_files(given: &Invocation, here: &Path, name: &str) -> Option<String> {
    let files = match given.env_files.is_empty() {
        true => vec![".env".to_owned()],
        false => given.env_files.clone(),
    };
    let directory = given
        .project_directory
        .as_deref()
        .map_or(here.to_owned(), |own| here.join(own));
    files.iter().rev().find_map(|file| {
        let text = fs::read_to_string(directory.join(file)).ok()?;
        let value = dotenv::assigned(&text, name)?;
        Some(value.trim_matches(['"', '\'']).to_owned())
    })
}

/// Docker Compose, if it is installed.
async fn compose(args: &InitArgs, events: &Events) -> Result<Option<Compose>> {
    match another(args, args.target.invocation()).await {
        Ok(compose) => Ok(Some(compose)),
        Err(error) => {
            events.notice(format!("{error}; the result is checked without Compose"));
            Ok(None)
        }
    }
}

async fn another(args: &InitArgs, invocation: Invocation) -> Result<Compose> {
    Compose::find(invocation, endpoint(&args.target).await?).await
}

fn print_result(args: &InitArgs, events: &Events, file: &TextFile, edited: &Edited) {
    let name = file.shown();
    let changed = edited.text.is_some();
    let text = edited.text.as_ref().unwrap_or(&file.text);
    let diff = unified(&file.text, text, (&name, &name));
    if args.target.output == Some(Output::Json) {
        let next: Vec<&str> = NEXT.iter().map(|(command, _)| *command).collect();
        let value = json!({
            "file": name,
            "traefik": edited.traefik,
            "changed": changed,
            "written": changed && args.write,
            "diff": diff,
            "by_hand": edited.by_hand,
            "next": next,
        });
        print(format!("{value}\n").as_bytes());
        return;
    }
    print(diff.as_bytes());
    let by_hand = &edited.by_hand[..];
    let write = match args.overrides {
        true => "rollout init --override --write",
        false => "rollout init --write",
    };
    let commands = NEXT.map(|(command, why)| format!("{command:<22}# {why}"));
    let next = [by_hand, &commands].concat();
    events.notice(match (changed, args.write, by_hand.is_empty()) {
        (false, _, true) => {
            format!("{name}: nothing to do, Traefik already reads through a socket proxy")
        }
        (false, _, false) => format!("{name} needs no edit; next:\n{}", numbered(&next)),
        (true, false, true) => {
            format!("Nothing written. `{write}` applies this diff")
        }
        (true, false, false) => format!(
            "Nothing written. `{write}` applies this diff; then:\n{}",
            numbered(by_hand)
        ),
        (true, true, _) => format!("{name} is written; next:\n{}", numbered(&next)),
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
    fn steps_that_are_left_to_a_person_come_first() {
        let steps = ["add api: { insecure: true }", "docker compose up -d"].map(str::to_owned);
        assert_eq!(
            numbered(&steps),
            "      1. add api: { insecure: true }\n      2. docker compose up -d"
        );
    }
}
