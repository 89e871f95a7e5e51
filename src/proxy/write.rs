//! The writes of several services that take effect in the same moment, at each place by one change.

use std::{collections::BTreeMap, rc::Rc};

use async_trait::async_trait;

use super::socket_proxies::Control;
use crate::{error::Result, overlay::Claim};

/// What one service writes to one place.
pub enum Write {
    /// To a socket proxy.
    Claim { control: Box<Control>, claim: Claim },
    /// To a directory that a proxy watches.
    File {
        directory: Rc<dyn Files>,
        file: NewFile,
    },
}

/// A file that comes into place together with those of other services.
pub struct NewFile {
    pub name: String,
    pub text: String,
}

/// A directory that a proxy watches.
#[async_trait(?Send)]
pub trait Files {
    /// The same for all that stand for one directory.
    fn identity(&self) -> &str;

    /// Puts files in place by one change.
    ///
    /// # Errors
    /// A later run has taken one of them over; or the directory cannot be changed.
    async fn write_together(&self, files: Vec<NewFile>) -> Result<()>;
}

/// Makes these writes, those for one place at once.
pub async fn write_all(writes: Vec<Write>) -> Result<()> {
    let mut claims: BTreeMap<String, (Control, Vec<Claim>)> = BTreeMap::new();
    let mut files: BTreeMap<String, (Rc<dyn Files>, Vec<NewFile>)> = BTreeMap::new();
    for write in writes {
        match write {
            Write::Claim { control, claim } => {
                let own = claims.entry(control.name.clone());
                own.or_insert((*control, Vec::new())).1.push(claim);
            }
            Write::File { directory, file } => {
                let own = files.entry(directory.identity().to_owned());
                own.or_insert((directory, Vec::new())).1.push(file);
            }
        }
    }
    for (control, mut claims) in claims.into_values() {
        match claims.len() {
            1 => control.set(claims.remove(0)).await?,
            _ => control.set_all(claims).await?,
        };
    }
    for (directory, files) in files.into_values() {
        directory.write_together(files).await?;
    }
    Ok(())
}
