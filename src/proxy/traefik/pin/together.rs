//! Where a pin file is: by itself, or with those of services that have moved together.
//!
//! Files that take effect together come in a directory of their own, by one rename. Traefik reads what it watches in the
//! order of the names and takes the first definition of a router (`loadFileConfigFromDirectory`), so this directory comes
//! before the files beside it. Each of these names the directory before it comes. A service's next write takes its file
//! out of there.

use async_trait::async_trait;

use super::{
    directory::Directory,
    record::{PinFile, refuse_newer},
};
use crate::{
    error::{Error, Result},
    model::Phase,
    proxy::{Files, NewFile},
};

/// A pin file, and the directory that it shares with those of other services, if it is there.
#[derive(Debug)]
pub struct Placed {
    pub file: PinFile,
    shared: Option<String>,
}

/// The directory of the services that move together; `name` is no other group's.
pub fn shared_directory(name: &str) -> String {
    format!(".rollout-{name}")
}

impl Placed {
    /// The file that counts.
    pub async fn read(directory: &Directory, name: &str) -> Result<Option<Self>> {
        let Some(own) = directory.read(name).await? else {
            return Ok(None);
        };
        let own = PinFile::read(&own)?;
        if let Some(shared) = own.record.shared.clone()
            && let Some(text) = directory.read(&format!("{shared}/{name}")).await?
        {
            return Ok(Some(Self {
                file: PinFile::read(&text)?,
                shared: Some(shared),
            }));
        }
        Ok(Some(Self {
            file: own,
            shared: None,
        }))
    }

    /// Takes the file out of the directory that it shares, before `next` is written. The routing stays as it is.
    pub async fn take_out(
        &self,
        directory: &Directory,
        name: &str,
        next: Option<&PinFile>,
    ) -> Result<()> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        // The file beside it is that of the hold. It leads to the same replicas as the way back, and Traefik does not
        // watch the shared directory: the next write is the first change that Traefik sees.
        let goes_back = next.is_some_and(|next| {
            next.record.phase == Phase::RolledBack
                && next.record.rollout == self.file.record.rollout
        });
        directory.take_out(shared, name, !goes_back).await
    }
}

impl Directory {
    /// Writes a file in place of what is there.
    pub async fn put(&self, name: &str, before: Option<&Placed>, file: PinFile) -> Result<Placed> {
        let text = file.text()?;
        if let Some(before) = before {
            before.take_out(self, name, Some(&file)).await?;
        }
        self.write(name, &text).await?;
        Ok(Placed { file, shared: None })
    }
}

#[async_trait(?Send)]
impl Files for Directory {
    fn identity(&self) -> &str {
        self.identity()
    }

    async fn write_together(&self, files: Vec<NewFile>) -> Result<()> {
        let mut all = Vec::new();
        for NewFile { name, text } in files {
            let file = PinFile::read(&text)?;
            let before = Self::before(self, &name, &file).await?;
            all.push((name, before, file));
        }
        let [(_, _, first), _, ..] = &all[..] else {
            return self.put_each(all).await;
        };
        let is_back = first.record.phase == Phase::RolledBack;
        let Some(shared) = first.record.shared.clone() else {
            return Err(Error::failed(
                "no directory for the pin files of several services",
            ));
        };
        for (name, before, file) in all.iter().filter(|_| is_back) {
            before.take_out(self, name, Some(file)).await?;
        }
        let mut texts = Vec::new();
        for (name, _, file) in &all {
            texts.push((name.clone(), file.text()?));
        }
        match self.write_shared(&shared, &texts).await {
            // A service that does not go back with these may still have its file there.
            Err(_) if is_back => self.put_each(all).await,
            written => written,
        }
    }
}

impl Directory {
    /// The present file, which leads to the one that is about to come.
    async fn before(&self, name: &str, file: &PinFile) -> Result<Placed> {
        let before = Placed::read(self, name).await?;
        let before = before.filter(|before| before.file.record.shared == file.record.shared);
        let Some(before) = before else {
            return Err(Error::failed(format!(
                "the pin file {name} has changed since it was written"
            )));
        };
        refuse_newer(&before.file.record, file.record.epoch, name)?;
        Ok(before)
    }

    async fn put_each(&self, all: Vec<(String, Placed, PinFile)>) -> Result<()> {
        for (name, before, file) in all {
            self.put(&name, Some(&before), file).await?;
        }
        Ok(())
    }
}
