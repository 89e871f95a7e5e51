//! Variables that a rollout is given by `--set`, and that it writes to an environment file once it has succeeded.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    dotenv::{assign, assigned, quoted},
    error::{Error, Result},
    machine::Machine,
    retry,
    text_file::TextFile,
};

/// How long another run may take to change the file.
const LOCKED: Duration = Duration::from_secs(3);

/// What a command is given.
#[derive(Debug, Default)]
pub struct Given {
    /// The environment file, by its absolute path.
    pub file: PathBuf,
    pub values: BTreeMap<String, String>,
    /// The services that use each variable.
    pub users: BTreeMap<String, BTreeSet<String>>,
    /// The services that the command rolls, once they are known.
    pub rolled: OnceLock<BTreeSet<String>>,
    /// The variables that are not written for a reason that was reported.
    pub reported: Mutex<BTreeSet<String>>,
    /// They are written at the end of the command, in place of the end of each rollout.
    pub at_the_end: bool,
}

/// What is written after a rollout of one service, as it is recorded with the revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variables {
    pub file: PathBuf,
    /// The machine that the file is on; an older version did not record it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Machine>,
    /// The command has rolled several hosts, so what happens on one of them does not decide on the file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_hosts: bool,
    pub changes: BTreeMap<String, Change>,
}

/// The change of one variable in the file. Both texts are as they stand there, with their quotes, and `None` is no assignment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What the file has before; it keeps anything else.
    pub from: Option<String>,
    pub to: Option<String>,
    /// What Compose is given until it is written; none if an undo puts it back.
    pub value: Option<String>,
    /// The services of the same command that use it.
    pub services: BTreeSet<String>,
}

/// The names of variables.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub changed: Vec<String>,
    /// Those that have got another value in the meantime.
    pub kept: Vec<String>,
}

impl Written {
    /// What is said of the variables that have got another value in the meantime.
    pub fn notice(&self, file: &str) -> Option<String> {
        let kept = self.kept.join(", ");
        (!kept.is_empty())
            .then(|| format!("{file} keeps its value of {kept}, which was changed in the meantime"))
    }
}

impl Given {
    /// What is to be written after the rollout of this service.
    pub fn of(&self, service: &str) -> Result<Option<Variables>> {
        let mut own = self.all()?;
        let is_user = |name: &String| {
            let users = self.users.get(name);
            users.is_some_and(|users| users.contains(service))
        };
        own.changes.retain(|name, _| is_user(name));
        Ok((!own.changes.is_empty()).then_some(own))
    }

    /// What is to be written after all rollouts of the command.
    pub fn all(&self) -> Result<Variables> {
        let file = TextFile::read_if_any(&self.file)?;
        let rolled = self.rolled.get().cloned().unwrap_or_default();
        let changes = self.values.iter().map(|(name, value)| {
            let users = self.users.get(name).into_iter().flatten();
            let change = Change {
                from: assigned(&file.text, name).map(str::to_owned),
                to: Some(quoted(value)),
                value: Some(value.clone()),
                services: users.filter(|own| rolled.contains(*own)).cloned().collect(),
            };
            (name.clone(), change)
        });
        Ok(Variables {
            changes: changes.collect(),
            file: self.file.clone(),
            machine: Some(Machine::here()),
            of_hosts: self.at_the_end,
        })
    }

    pub fn report<'a>(&self, names: impl IntoIterator<Item = &'a String>) {
        self.reported().extend(names.into_iter().cloned());
    }

    pub fn is_reported(&self, name: &str) -> bool {
        self.reported().contains(name)
    }

    fn reported(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.reported.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The options of the command that give the values, as a shell reads them.
    pub fn options(&self) -> String {
        let all = self.values.iter();
        all.map(|(name, value)| format!(" --set {name}={}", shell_word(value)))
            .collect()
    }

    /// The text of the file with all values.
    pub fn written_to(&self, text: &str) -> String {
        let values = self.values.iter();
        values.fold(text.to_owned(), |text, (name, value)| {
            assign(&text, name, Some(&quoted(value)))
        })
    }
}

fn shell_word(text: &str) -> String {
    let is_plain = |own: char| own.is_ascii_alphanumeric() || "_-./:@%+,=".contains(own);
    match text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

impl Variables {
    /// The way back over the revisions that these belong to, the oldest first.
    pub fn back(all: &[&Self]) -> Option<Self> {
        let Self { file, machine, .. } = (*all.last()?).clone();
        let mut changes = BTreeMap::<String, Change>::new();
        let of_file = all.iter().filter(|own| own.file == file);
        let of_hosts = of_file.clone().any(|own| own.of_hosts);
        for (name, own) in of_file.flat_map(|own| &own.changes) {
            let back = changes.entry(name.clone()).or_insert_with(|| Change {
                to: own.from.clone(),
                ..Change::default()
            });
            back.from.clone_from(&own.to);
            back.services.extend(own.services.iter().cloned());
        }
        Some(Self {
            file,
            machine,
            of_hosts,
            changes,
        })
    }

    /// What Compose is given until they are written.
    pub fn values(&self) -> BTreeMap<String, String> {
        let given = self.changes.iter();
        let given = given.filter_map(|(name, own)| Some((name.clone(), own.value.clone()?)));
        given.collect()
    }

    /// The variables to which the file gives another value.
    pub fn open(&self) -> Result<Vec<&str>> {
        let text = TextFile::read_if_any(&self.file)?.text;
        let changes = self.changes.iter();
        let open = changes.filter(|(name, own)| assigned(&text, name) != own.to.as_deref());
        Ok(open.map(|(name, _)| name.as_str()).collect())
    }

    /// Changes the file, which is replaced as a whole, while no other run of this program changes it.
    pub async fn write(&self) -> Result<Written> {
        self.refuse_elsewhere(&Machine::here())?;
        let lock = async || TextFile::try_lock(&self.file);
        let _lock = retry::for_a_while(LOCKED, lock).await?;
        self.write_now()
    }

    /// Another machine may have another project at the same path.
    fn refuse_elsewhere(&self, here: &Machine) -> Result<()> {
        match self.machine.as_ref().filter(|own| !own.is(here)) {
            None => Ok(()),
            Some(own) => Err(Error::refused(format!(
                "{} is a file of {}, and this is {}; change it there",
                self.file.display(),
                own.name,
                here.name
            ))),
        }
    }

    fn write_now(&self) -> Result<Written> {
        let file = TextFile::read_if_any(&self.file)?;
        let mut text = file.text.clone();
        let mut written = Written::default();
        for (name, own) in &self.changes {
            let now = assigned(&text, name).map(str::to_owned);
            if now == own.to {
                continue;
            }
            if now == own.from {
                text = assign(&text, name, own.to.as_deref());
                written.changed.push(name.clone());
            } else {
                written.kept.push(name.clone());
            }
        }
        if !written.changed.is_empty() {
            file.replace(file.draft(&text)?)?;
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
        path::Path,
    };

    use super::*;

    fn names(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|&own| own.to_owned()).collect()
    }

    fn given(file: &Path, value: &str) -> Given {
        Given {
            file: file.to_owned(),
            values: [("TAG".to_owned(), value.to_owned())].into(),
            users: [("TAG".to_owned(), names(&["web", "api", "db"]))].into(),
            rolled: names(&["web", "api"]).into(),
            ..Given::default()
        }
    }

    /// What is written for `web`, and the names that are changed and kept.
    fn write(own: &Variables) -> (usize, usize) {
        let written = own.write_now().unwrap();
        (written.changed.len(), written.kept.len())
    }

    #[test]
    fn a_value_is_written_and_put_back_and_one_of_other_hands_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(".env");
        let before = "# shop\r\nexport TAG=\"v1\" # now\r\nOTHER=1\r\n";
        fs::write(&file, before).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let own = given(&file, "v2").of("web").unwrap().unwrap();
        assert_eq!(own.changes["TAG"].services, names(&["web", "api"]));
        assert_eq!(own.values()["TAG"], "v2");
        let read = || fs::read_to_string(&file).unwrap();
        assert_eq!((write(&own), write(&own)), ((1, 0), (0, 0)));
        assert_eq!(read(), before.replace("\"v1\"", "v2"));
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640);
        let back = Variables::back(&[&own]).unwrap();
        assert_eq!((write(&back), read()), ((1, 0), before.to_owned()));
        let later = before.replace("\"v1\"", "v3");
        fs::write(&file, &later).unwrap();
        assert_eq!((write(&own), write(&back)), ((0, 1), (0, 1)));
        assert_eq!(read(), later);
        assert_eq!(given(&file, "v2").of("job").unwrap(), None);
    }

    #[test]
    fn variables_of_several_hosts_are_still_theirs_on_the_way_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(".env");
        fs::write(&file, "TAG=v1\n").unwrap();
        let given = Given {
            at_the_end: true,
            ..given(&file, "v2")
        };
        let own = given.of("web").unwrap().unwrap();
        let back = Variables::back(&[&own]).unwrap();
        assert!(own.of_hosts && back.of_hosts);
        assert_eq!(own.open().unwrap(), ["TAG"]);
        assert_eq!(back.open().unwrap(), [""; 0]);
    }

    #[test]
    fn the_options_of_a_command_to_repeat_are_read_by_a_shell_as_they_were() {
        let options = |value| given(Path::new("/shop/.env"), value).options();
        assert_eq!(options("v1.2"), " --set TAG=v1.2");
        assert_eq!(options("a b$'c"), r" --set TAG='a b$'\''c'");
    }

    #[test]
    fn a_file_of_another_machine_is_not_written_there() {
        let own = given(Path::new("/shop/.env"), "v2")
            .of("web")
            .unwrap()
            .unwrap();
        own.refuse_elsewhere(&Machine::here()).unwrap();
        let other = Machine {
            name: "b".to_owned(),
            boot: "2".to_owned(),
        };
        let back = Variables::back(&[&own]).unwrap();
        for own in [&own, &back] {
            let refused = own.refuse_elsewhere(&other).unwrap_err();
            assert!(refused.message.ends_with("and this is b; change it there"));
        }
        let of_an_older_version = Variables {
            machine: None,
            ..own
        };
        of_an_older_version.refuse_elsewhere(&other).unwrap();
    }

    #[test]
    fn a_file_that_is_absent_is_made_and_a_link_stays_one() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("shared"), folder.path().join(".env"));
        symlink("shared", &link).unwrap();
        // A link to nothing cannot be replaced.
        assert!(given(&link, "v2").of("web").is_err());
        let own = given(&file, "v2").of("web").unwrap().unwrap();
        assert_eq!(write(&own), (1, 0));
        let own = given(&link, "v 3").of("web").unwrap().unwrap();
        assert_eq!(write(&own), (1, 0));
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "TAG='v 3'\n");
        let all = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(all, 2);
    }

    #[test]
    fn the_way_back_over_several_revisions_is_to_the_value_before_the_first() {
        let own = |from: Option<&str>, to: &str| Variables {
            file: PathBuf::from("/shop/.env"),
            machine: None,
            of_hosts: false,
            changes: [(
                "TAG".to_owned(),
                Change {
                    from: from.map(str::to_owned),
                    to: Some(to.to_owned()),
                    ..Change::default()
                },
            )]
            .into(),
        };
        let (first, second) = (own(None, "v2"), own(Some("v2"), "v3"));
        let elsewhere = Variables {
            file: PathBuf::from("/other/.env"),
            ..first.clone()
        };
        let back = Variables::back(&[&elsewhere, &first, &second]).unwrap();
        assert_eq!(back.changes["TAG"].from.as_deref(), Some("v3"));
        assert_eq!(back.changes["TAG"].to, None);
        assert!(back.values().is_empty());
        assert_eq!(Variables::back(&[]), None);
    }
}
