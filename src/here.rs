//! The container that this program runs in, where it runs in one, and where its folders are on the engine's machine.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use bollard::models::{ContainerInspectResponse, MountPoint};

use crate::{
    compose::{Project, Service},
    docker::engine::Engine,
    model::{ServiceKey, label},
};

/// Where an engine mounts what is a container's own; each line names the container.
const OWN_FILES: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// What is mounted into this program's container: where, and from where, if that is a path of the engine's machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    mounts: Vec<(PathBuf, Option<PathBuf>)>,
}

/// A folder of the project that the engine would look for at a path which is this container's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostBind {
    target: String,
    /// As this program sees it.
    source: PathBuf,
    /// Where it really is on the engine's machine, if it is there at all.
    real: Option<PathBuf>,
    /// The project's directory, here.
    project: PathBuf,
}

impl Here {
    /// Without mounts, unless this is a container of this very engine.
    pub async fn find(engine: &Engine) -> Self {
        let own = own_container(engine).await;
        let mounts = own.and_then(|own| own.mounts).unwrap_or_default();
        Self {
            mounts: mounts.iter().filter_map(mount).collect(),
        }
    }

    /// Binds of a service whose source is in the project and not at the same path on the engine's machine. A path
    /// outside the project is taken for one of that machine.
    pub fn lost_binds(&self, project: &Project, service: &Service) -> Vec<LostBind> {
        if self.mounts.is_empty() {
            return Vec::new();
        }
        let volumes = service.raw(project)["volumes"].as_array();
        let binds = volumes.into_iter().flatten();
        let binds = binds.filter(|volume| volume["type"] == "bind");
        let binds = binds.filter_map(|bind| {
            let target = bind["target"].as_str().unwrap_or_default();
            Some((target, PathBuf::from(bind["source"].as_str()?)))
        });
        // Compose binds the files of secrets and configs.
        let contents = service.contents.iter();
        let files = contents.filter_map(|own| Some((own.target.as_str(), own.file.clone()?)));
        binds
            .chain(files)
            .filter_map(|(target, source)| {
                let real = self.moved(&source, &project.directory)?;
                Some(LostBind {
                    target: target.to_owned(),
                    source,
                    real,
                    project: project.directory.clone(),
                })
            })
            .collect()
    }

    /// Where a path of the project really is; `None` where it is the same there.
    fn moved(&self, source: &Path, project: &Path) -> Option<Option<PathBuf>> {
        let holds = |(at, _): &&(PathBuf, Option<PathBuf>)| source.starts_with(at);
        let deepest = |(at, _): &&(PathBuf, Option<PathBuf>)| at.components().count();
        let mount = self.mounts.iter().filter(holds).max_by_key(deepest);
        let is_the_projects = |(at, _): &&(PathBuf, Option<PathBuf>)| project.starts_with(at);
        if !source.starts_with(project) && mount.filter(is_the_projects).is_none() {
            return None;
        }
        let Some((at, from)) = mount else {
            return Some(None);
        };
        let rest = source.strip_prefix(at).unwrap_or(source);
        match from {
            Some(from) if from == at => None,
            Some(from) => Some(Some(from.join(rest))),
            None => Some(None),
        }
    }
}

/// The container that this is, unless it is one of another engine.
async fn own_container(engine: &Engine) -> Option<ContainerInspectResponse> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    engine.inspect(own_id(&text)?).await.ok().flatten()
}

/// The service whose container this is.
pub async fn own_service(engine: &Engine) -> Option<ServiceKey> {
    let mut labels = own_container(engine).await?.config?.labels?;
    Some(ServiceKey {
        project: labels.remove(label::COMPOSE_PROJECT)?,
        service: labels.remove(label::COMPOSE_SERVICE)?,
    })
}

#[cfg(test)]
impl Here {
    /// A container with these mounts: where, and from where on the engine's machine.
    pub fn of(mounts: &[(&str, Option<&str>)]) -> Self {
        let mount = |(at, from): &(&str, Option<&str>)| (at.into(), from.map(PathBuf::from));
        Self {
            mounts: mounts.iter().map(mount).collect(),
        }
    }
}

fn mount(own: &MountPoint) -> Option<(PathBuf, Option<PathBuf>)> {
    let is_bind = own.typ.as_ref().map(ToString::to_string).as_deref() == Some("bind");
    let from = own.source.as_ref().filter(|_| is_bind);
    Some((own.destination.as_ref()?.into(), from.map(PathBuf::from)))
}

/// The id of the container in which this is `/proc/self/mountinfo`.
fn own_id(mountinfo: &str) -> Option<&str> {
    let is_id = |part: &&str| part.len() == 64 && part.bytes().all(|b| b.is_ascii_hexdigit());
    mountinfo.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let (root, at) = (fields.get(3)?, fields.get(4)?);
        let own = OWN_FILES.contains(at).then_some(root)?;
        own.split('/').find(is_id)
    })
}

impl LostBind {
    pub fn hint(&self) -> String {
        let project = self.project.display();
        format!(
            "run this container with the project at the path that it has on the host: -v /HOST/PATH:/HOST/PATH \
             -w /HOST/PATH in place of {project}"
        )
    }
}

impl fmt::Display for LostBind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (target, source) = (&self.target, self.source.display());
        write!(
            f,
            "{target} would be an empty folder: this program runs in a container, and its {source} is "
        )?;
        match &self.real {
            Some(real) => write!(f, "{} on the host", real.display()),
            None => f.write_str("not on the host"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn lost(mounts: &[(&str, Option<&str>)], source: &str) -> Option<String> {
        let path = |text: &str| PathBuf::from(text);
        let here = Here::of(mounts);
        let text = format!(
            "name: p\nservices: {{web: {{image: a, volumes: [{{type: bind, source: {source}, target: /www}}]}}}}"
        );
        let mut project = crate::compose::resolved(&text).unwrap();
        project.directory = path("/project/site");
        let found = here.lost_binds(&project, &project.services["web"]);
        found.first().map(ToString::to_string)
    }

    #[test]
    fn the_engine_names_the_container_in_the_mounts_of_its_own_files() {
        let docker = format!(
            "1 0 254:1 / / rw\n9 1 254:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw,relatime - ext4 /dev/x rw\n"
        );
        let podman = format!(
            "9 1 0:2 /containers/overlay-containers/{ID}/userdata/hosts /etc/hosts rw - tmpfs x rw\n"
        );
        assert_eq!(own_id(&docker), Some(ID));
        assert_eq!(own_id(&podman), Some(ID));
        assert_eq!(
            own_id("22 1 254:1 /etc/hosts /etc/hosts rw - ext4 /dev/x rw\n"),
            None
        );
    }

    #[test]
    fn a_folder_of_a_project_that_is_mounted_elsewhere_is_lost() {
        let elsewhere = [("/project", Some("/srv/shop"))];
        let text = lost(&elsewhere, "/project/site/html").unwrap();
        assert!(text.contains("/srv/shop/site/html on the host"), "{text}");
        // `../shared`, by the same mount.
        assert!(lost(&elsewhere, "/project/shared").is_some());
        let inside = lost(
            &[("/var/run/docker.sock", Some("/var/run/docker.sock"))],
            "/project/site/html",
        );
        assert!(inside.unwrap().ends_with("not on the host"));
        assert!(lost(&[("/project", None)], "/project/site/html").is_some());
    }

    #[test]
    fn a_project_at_its_own_path_and_paths_of_the_host_are_well() {
        let same = [("/project", Some("/project"))];
        assert_eq!(lost(&same, "/project/site/html"), None);
        let elsewhere = [
            ("/project", Some("/srv/shop")),
            ("/run/docker.sock", Some("/run/podman.sock")),
        ];
        for of_the_host in ["/srv/data", "/run/docker.sock"] {
            assert_eq!(lost(&elsewhere, of_the_host), None, "{of_the_host}");
        }
        assert_eq!(lost(&[], "/project/site/html"), None);
    }
}
