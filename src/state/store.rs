//! Files in a volume of the engine: one new file an entry, with a checksum, since writing by archive is not atomic.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::{
    docker::engine::{Engine, Mounted, own_labels},
    error::{Error, Result},
    model::ServiceKey,
};

/// The volume, unless the variable names another.
const VOLUME: &str = "rollout-state";
const VARIABLE: &str = "ROLLOUT_STATE_VOLUME";

/// Where a container of ours mounts it.
pub const AT: &str = "/state";

/// The format of the files that this version writes; newer ones are left alone.
const FORMAT: u64 = 1;

/// A container for reading lives for a moment; one this old was left by a killed run.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
struct Envelope {
    format: u64,
    /// SHA-256 of the entry, in hex.
    sha256: String,
    /// The entry as JSON in a string, so that its checksum does not depend on JSON formatting.
    entry: String,
}

/// One file as it was found.
pub struct File {
    /// Its path below the service's folder.
    pub path: String,
    content: Vec<u8>,
}

/// The name of the volume.
pub fn volume() -> String {
    let given = std::env::var(VARIABLE).ok();
    given
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| VOLUME.to_owned())
}

/// The volume and its mount point.
pub fn mounted(volume: &str) -> Mounted<'_> {
    Mounted { volume, at: AT }
}

/// Every file of a service, through a container that has the volume mounted; empty where there is none yet.
pub async fn read(engine: &Engine, container: &str, key: &ServiceKey) -> Result<Vec<File>> {
    let files = engine.files_under(container, &folder(key)).await?;
    Ok(files
        .unwrap_or_default()
        .into_iter()
        .map(|(path, content)| File { path, content })
        .collect())
}

/// The same of one folder below a service's.
pub async fn read_folder(
    engine: &Engine,
    container: &str,
    key: &ServiceKey,
    name: &str,
) -> Result<Vec<File>> {
    let path = format!("{}/{name}", folder(key));
    let files = engine.files_under(container, &path).await?;
    let file = |(path, content): (String, Vec<u8>)| File {
        path: format!("{name}/{path}"),
        content,
    };
    Ok(files.unwrap_or_default().into_iter().map(file).collect())
}

/// As [`read`] without a lock, through a container that is made for it and removed at once. `image` is any image that the
/// engine has.
pub async fn look(engine: &Engine, image: &str, key: &ServiceKey) -> Result<Vec<File>> {
    let files = look_each(engine, image, &[key]).await?;
    Ok(files.into_iter().next().unwrap_or_default())
}

/// The same for several services, in their order.
pub async fn look_each(
    engine: &Engine,
    image: &str,
    keys: &[&ServiceKey],
) -> Result<Vec<Vec<File>>> {
    let Some(id) = shelf(engine, image).await? else {
        return Ok(keys.iter().map(|_| Vec::new()).collect());
    };
    let all = async {
        let mut all = Vec::new();
        for key in keys {
            all.push(read(engine, &id, key).await?);
        }
        Ok(all)
    };
    let all = all.await;
    engine.discard(&id).await?;
    all
}

/// The same for every service of a project that has files, also for those that are gone.
pub async fn look_project(
    engine: &Engine,
    image: &str,
    project: &str,
) -> Result<BTreeMap<String, Vec<File>>> {
    let Some(id) = shelf(engine, image).await? else {
        return Ok(BTreeMap::new());
    };
    let path = format!("{AT}/{}", component(project));
    let files = engine.files_under(&id, &path).await;
    engine.discard(&id).await?;
    Ok(by_service(files?.unwrap_or_default()))
}

fn by_service(files: Vec<(String, Vec<u8>)>) -> BTreeMap<String, Vec<File>> {
    let mut all = BTreeMap::<String, Vec<File>>::new();
    for (path, content) in files {
        if let Some((service, path)) = path.split_once('/') {
            let path = path.to_owned();
            let own = all.entry(named(service).to_owned()).or_default();
            own.push(File { path, content });
        }
    }
    all
}

/// A container that has the volume mounted; `None` where there is no volume yet.
async fn shelf(engine: &Engine, image: &str) -> Result<Option<String>> {
    let volume = volume();
    // Mounting one that does not exist would make it.
    if !engine.has_volume(&volume).await? {
        return Ok(None);
    }
    let labels = own_labels("state");
    let created = engine
        .create_shelf(None, image, labels, Some(mounted(&volume)))
        .await?;
    match created {
        Some(id) => Ok(Some(id)),
        None => Err(Error::failed("the engine made no container to read with")),
    }
}

/// Writes one entry as a new file of a service; `path` is below its folder.
pub async fn write(
    engine: &Engine,
    container: &str,
    key: &ServiceKey,
    path: &str,
    entry: &impl Serialize,
) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| {
        let volume = volume();
        Error::failed(format!(
            "cannot write the record {path} of {key} to the volume {volume}: {error}"
        ))
    };
    let content = sealed(entry).map_err(|error| failed(&error))?;
    // Below the mount itself, which exists; the engine makes the folders.
    let whole = format!("{}/{path}", folder(key));
    let inside = whole.strip_prefix("/state/").unwrap_or(&whole);
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o600);
    let mut archive = tar::Builder::new(Vec::new());
    archive
        .append_data(&mut header, inside, content.as_slice())
        .map_err(|error| failed(&error))?;
    let archive = archive.into_inner().map_err(|error| failed(&error))?;
    engine.unpack_into(container, AT, archive).await
}

/// Removes containers for reading that killed runs left.
pub async fn sweep(engine: &Engine) -> Result<()> {
    engine.sweep_role("state", LEFT_BEHIND).await
}

impl File {
    /// Whether a newer version wrote it.
    pub fn is_of_a_newer_format(&self) -> bool {
        let value = serde_json::from_slice::<serde_json::Value>(&self.content);
        value.is_ok_and(|value| {
            value["format"]
                .as_u64()
                .is_some_and(|format| format > FORMAT)
        })
    }

    /// The entry in it; the error says, in a few words, what is wrong.
    pub fn entry<T: DeserializeOwned>(&self) -> Result<T, String> {
        let corrupt = || format!("{} is corrupt", self.path);
        let value: serde_json::Value =
            serde_json::from_slice(&self.content).map_err(|_| corrupt())?;
        match value["format"].as_u64() {
            Some(FORMAT) => {}
            Some(newer) if newer > FORMAT => {
                return Err(format!(
                    "{} has format {newer}, which a newer rollout has written",
                    self.path
                ));
            }
            _ => return Err(corrupt()),
        }
        let envelope: Envelope = serde_json::from_value(value).map_err(|_| corrupt())?;
        if envelope.sha256 != checksum(&envelope.entry) {
            return Err(corrupt());
        }
        serde_json::from_str(&envelope.entry).map_err(|_| corrupt())
    }
}

fn sealed(entry: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let entry = serde_json::to_string(entry)?;
    serde_json::to_vec(&Envelope {
        format: FORMAT,
        sha256: checksum(&entry),
        entry,
    })
}

/// SHA-256 in hex.
pub fn checksum(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn folder(key: &ServiceKey) -> String {
    format!("{AT}/{}", relative(key))
}

/// The path of a service's folder in the volume.
pub fn relative(key: &ServiceKey) -> String {
    format!("{}/{}", component(&key.project), component(&key.service))
}

/// The service of a folder in the volume.
pub fn key_of(relative: &str) -> Option<ServiceKey> {
    let folder = ServiceKey::parse(relative)?;
    Some(ServiceKey {
        project: named(&folder.project).to_owned(),
        service: named(&folder.service).to_owned(),
    })
}

/// Compose allows names of dots alone, which would lead elsewhere; `%` is in no name.
fn component(name: &str) -> String {
    match name.starts_with('.') {
        true => format!("%{name}"),
        false => name.to_owned(),
    }
}

/// The name that a component of a path stands for.
fn named(component: &str) -> &str {
    component.strip_prefix('%').unwrap_or(component)
}

/// The engine's answer for a folder with these files.
#[cfg(test)]
pub fn archive(folder: &str, files: &[File]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.content.len() as u64);
        let path = format!("{folder}/{}", file.path);
        let content = file.content.as_slice();
        archive.append_data(&mut header, path, content).unwrap();
    }
    archive.into_inner().unwrap()
}

#[cfg(test)]
impl File {
    /// A file as [`write`] makes it.
    pub fn of(path: &str, entry: &impl Serialize) -> Self {
        Self {
            path: path.to_owned(),
            content: sealed(entry).unwrap(),
        }
    }

    /// A file with any content.
    pub fn raw(path: &str, content: &[u8]) -> Self {
        Self {
            path: path.to_owned(),
            content: content.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::{mutated, mutated_text};

    #[test]
    fn an_entry_is_read_back_and_a_changed_or_cut_file_is_corrupt() {
        let good = File::of("revisions/1-r.json", &vec![1, 2]);
        assert_eq!(good.entry::<Vec<u8>>(), Ok(vec![1, 2]));
        let text = String::from_utf8(good.content).unwrap();
        for bad in [text.replace("[1,2]", "[1,3]"), text[..20].to_owned()] {
            let bad = File::raw("revisions/1-r.json", bad.as_bytes());
            let error = bad.entry::<Vec<u8>>().unwrap_err();
            assert_eq!(error, "revisions/1-r.json is corrupt");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let newer = File::raw("a", br#"{"format":2,"what":"ever"}"#);
        let error = newer.entry::<Vec<u8>>().unwrap_err();
        assert_eq!(error, "a has format 2, which a newer rollout has written");
    }

    #[test]
    fn a_service_called_dot_dot_stays_in_its_own_folder() {
        let key = |service: &str| ServiceKey {
            project: "p".into(),
            service: service.into(),
        };
        assert_eq!(folder(&key("..")), "/state/p/%..");
        assert_eq!(folder(&key("web.1")), "/state/p/web.1");
        for service in ["..", "web.1"] {
            assert_eq!(key_of(&relative(&key(service))), Some(key(service)));
        }
    }

    #[test]
    fn the_files_of_a_project_belong_to_its_services() {
        let file = |path: &str| (path.to_owned(), Vec::new());
        let all = by_service(vec![
            file("web/revisions/1-r.json"),
            file("%..api/journal/1-r.json"),
            file("web/claim/1-1.json"),
            file("stray"),
        ]);
        let paths = |service: &str| -> Vec<&str> {
            all[service].iter().map(|own| own.path.as_str()).collect()
        };
        assert_eq!(all.len(), 2);
        assert_eq!(paths("web"), ["revisions/1-r.json", "claim/1-1.json"]);
        assert_eq!(paths("..api"), ["journal/1-r.json"]);
    }

    const SEALED: &str = r#"{"format":1,"sha256":"d8ef0f6b1a7ab54e58c6ab1a5da0cb1f0e0a3b1d9a5f0a4b8c6e0d2a3f4b5c6d","entry":"[1,2]"}"#;

    proptest! {
        #[test]
        fn no_change_of_a_file_is_read_as_another_entry(bytes in mutated(SEALED.as_bytes()), more in mutated_text("[1,2]")) {
            let good = File::of("a", &vec![1, 2]);
            let text = String::from_utf8(good.content).unwrap().replace("[1,2]", &more);
            for content in [bytes, text.into_bytes()] {
                match File::raw("a", &content).entry::<Vec<u8>>() {
                    Ok(read) => prop_assert_eq!(read, vec![1, 2]),
                    Err(error) => prop_assert!(error.starts_with("a ") && !error.contains('\n'), "{}", error),
                }
            }
        }
    }

    #[test]
    fn a_file_whose_values_stand_deep_in_one_another_is_corrupt() {
        let deep = format!(r#"{{"format":1,"more":{}"#, "[".repeat(100_000));
        let deep = File::raw("a", deep.as_bytes());
        assert_eq!(deep.entry::<Vec<u8>>().unwrap_err(), "a is corrupt");
        let deep = File::of("a", &serde_json::json!(1));
        let text = String::from_utf8(deep.content).unwrap();
        let entry = "[".repeat(100_000);
        let text = text
            .replace("\"1\"", &format!("\"{entry}\""))
            .replace(&checksum("1"), &checksum(&entry));
        let deep = File::raw("a", text.as_bytes());
        assert_eq!(
            deep.entry::<serde_json::Value>().unwrap_err(),
            "a is corrupt"
        );
    }
}
