//! The folders of services in the state volume, listed and removed. The engine's API cannot do that, so this program does
//! it, in a container of its own that has the volume mounted.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use tokio::time::timeout;

use super::store;
use crate::{
    docker::engine::Engine,
    error::{Error, Result},
    model::ServiceKey,
};

/// The command of this program, and its last line.
pub const COMMAND: &str = "state-folders";
const END: &str = "end";

/// Removing files is quick.
const LIMIT: Duration = Duration::from_secs(60);

/// What the command does: removes these folders, and lists those that are left.
pub fn main(gone: &[String]) -> ExitCode {
    match run(Path::new(store::AT), gone) {
        Ok(left) => {
            let lines: String = left.iter().map(|folder| format!("{folder}\n")).collect();
            match writeln!(io::stdout(), "{lines}{END}") {
                Ok(()) => ExitCode::SUCCESS,
                Err(_) => ExitCode::FAILURE,
            }
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(root: &Path, gone: &[String]) -> io::Result<Vec<String>> {
    let gone = gone.iter().map(|folder| {
        folder_in(root, folder).ok_or_else(|| {
            let message = format!("{folder:?} is not the folder of a service");
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })
    });
    for own in gone.collect::<io::Result<Vec<_>>>()? {
        match std::fs::remove_dir_all(&own) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The folder of the project goes with its last service.
        let _ = own.parent().map(std::fs::remove_dir);
    }
    let mut left = Vec::new();
    for project in names(root)? {
        for service in names(&root.join(&project))? {
            left.push(format!("{project}/{service}"));
        }
    }
    Ok(left)
}

/// The path of `PROJECT/SERVICE`, which leads nowhere else.
fn folder_in(root: &Path, folder: &str) -> Option<PathBuf> {
    let (project, service) = folder.split_once('/')?;
    let is_name = |name: &str| !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    (is_name(project) && is_name(service)).then(|| root.join(project).join(service))
}

/// The folders in a folder.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

/// Every service that has files. `image` has this version of the program.
pub async fn list(engine: &Engine, image: &str) -> Result<Vec<ServiceKey>> {
    if !engine.has_volume(&store::volume()).await? {
        return Ok(Vec::new());
    }
    let folders = ask(engine, image, &[]).await?;
    Ok(folders
        .iter()
        .filter_map(|own| store::key_of(own))
        .collect())
}

/// Removes all files of these services.
pub async fn remove(engine: &Engine, image: &str, keys: &[&ServiceKey]) -> Result<()> {
    let folders: Vec<String> = keys.iter().map(|key| store::relative(key)).collect();
    ask(engine, image, &folders).await.map(drop)
}

async fn ask(engine: &Engine, image: &str, gone: &[String]) -> Result<Vec<String>> {
    let volume = store::volume();
    let command = std::iter::once(COMMAND.to_owned()).chain(gone.iter().cloned());
    let read = async {
        let mut session = engine
            .on_volume(image, store::mounted(&volume), command.collect())
            .await?;
        let mut lines = Vec::new();
        loop {
            match session.next_line().await? {
                end if end == END => return Ok(lines),
                line => lines.push(line),
            }
        }
    };
    let failed = |why: &str| Error::failed(format!("the volume {volume} cannot be changed: {why}"));
    match timeout(LIMIT, read).await {
        Ok(read) => read.map_err(|error: Error| failed(&error.message)),
        Err(_) => Err(failed("the program in its container does not end")),
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;
    use serde_json::json;

    use super::*;
    use crate::{docker::http::json, event::Events, fake_engine::FakeEngine};

    #[test]
    fn named_folders_are_removed_and_the_others_listed() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "{}").unwrap();
        };
        for path in [
            "shop/web/revisions/1-r.json",
            "shop/%..api/journal/1-r.json",
            "blog/web/claim/1-1.json",
            "a-file",
        ] {
            make(path);
        }
        let asked = |gone: &[&str]| {
            let gone: Vec<String> = gone.iter().map(|own| (*own).to_owned()).collect();
            run(root.path(), &gone)
        };
        assert_eq!(asked(&[]).unwrap(), ["blog/web", "shop/%..api", "shop/web"]);
        assert_eq!(
            asked(&["blog/web", "no/such"]).unwrap(),
            ["shop/%..api", "shop/web"]
        );
        assert!(!root.path().join("blog").exists());
        assert_eq!(asked(&["shop/web"]).unwrap(), ["shop/%..api"]);
    }

    #[tokio::test]
    async fn the_container_has_the_volume_and_neither_a_network_nor_a_capability() {
        let fake = FakeEngine::start(|method, path, _| match (method, path) {
            ("GET", "/version") => json(StatusCode::OK, &json!({"ApiVersion": "1.41"})),
            ("POST", "/containers/create") => {
                json(StatusCode::CREATED, &json!({"Id": "made", "Warnings": []}))
            }
            _ => json(StatusCode::OK, &json!({})),
        });
        let events = Events::new(Vec::new());
        let engine = Engine::connect(fake.endpoint(), &events).await.unwrap();
        let arguments = vec![COMMAND.to_owned(), "shop/web".to_owned()];
        let session = engine.on_volume("image", store::mounted("volume"), arguments);
        session.await.unwrap();
        let changes = fake.changes();
        let (_, _, body) = &changes[0];
        assert_eq!(body["Cmd"], json!(["state-folders", "shop/web"]));
        let host = &body["HostConfig"];
        assert_eq!(
            (&host["NetworkMode"], &host["AutoRemove"]),
            (&json!("none"), &json!(true))
        );
        assert_eq!(
            (&host["CapDrop"], host.get("CapAdd")),
            (&json!(["ALL"]), None)
        );
        assert_eq!(host["Mounts"][0]["Source"], "volume");
        assert_eq!(host["Mounts"][0]["Target"], "/state");
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_refused_and_nothing_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("state");
        std::fs::create_dir_all(inner.join("shop/web")).unwrap();
        std::fs::create_dir_all(root.path().join("other")).unwrap();
        for bad in [
            "",
            "shop",
            "shop/",
            "/web",
            "../other",
            "shop/..",
            "./shop",
            "shop/web/revisions",
            "/etc/x",
        ] {
            let gone = ["shop/web".to_owned(), bad.to_owned()];
            assert!(run(&inner, &gone).is_err(), "{bad}");
        }
        assert!(inner.join("shop/web").exists() && root.path().join("other").exists());
    }
}
