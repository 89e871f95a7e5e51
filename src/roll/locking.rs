//! Takes the lock of a service, and says what happens to the wait when a signal comes.

use tokio::sync::watch;

use super::{Checked, Scene};
use crate::{
    error::{Error, Result},
    execute,
    state::{self, Lock},
};

impl Scene<'_> {
    pub(super) async fn lock(
        &self,
        checked: &Checked<'_>,
        image: &str,
        mut interrupted: watch::Receiver<bool>,
    ) -> Result<Lock> {
        let wait = checked.settings.lock_wait;
        let taken = state::lock(self.engine, &checked.key, image, wait, self.events);
        if wait.is_zero() {
            return taken.await;
        }
        tokio::select! {
            biased;
            lock = taken => lock,
            () = execute::raised(&mut interrupted) => Err(Error::interrupted(format!(
                "interrupted while waiting for {}; it was not touched",
                checked.service.name
            ))),
        }
    }
}
