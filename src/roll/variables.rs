//! Writes the variables of a rollout to the environment file, once every service of the command runs with them.

use std::collections::BTreeSet;

use super::prepare::Prepared;
use crate::{
    context::RunContext, error::Result, event::Event, text_file::from_here, variables::Variables,
};

impl RunContext<'_> {
    /// What the command writes after the rollout of this service.
    pub(super) fn given(&self, service: &str) -> Result<Option<Variables>> {
        match self.set {
            Some(set) => set.of(service),
            None => Ok(None),
        }
    }

    /// Whether all replicas of a service are what the Compose file describes with the variables.
    async fn runs_as_described(&self, name: &str) -> Result<bool> {
        let service = self.project.service(name)?;
        let hash = self.hash(service).await?;
        let replicas = self.engine.replicas(&self.project.key(name)).await?;
        let runs = !replicas.is_empty() && replicas.iter().all(|own| own.hash == hash);
        Ok(runs && !self.have_other_contents(service, &replicas).await?)
    }
}

impl Prepared<'_> {
    /// Writes the variables of the command where the service runs with them already.
    pub(super) async fn write_given(&self) -> Result<()> {
        let given = self.run.given(&self.context.service.name)?;
        self.write_variables(given.as_ref()).await;
        Ok(())
    }

    /// Returns whether any is written. The rollout has succeeded, so what cannot be written is a notice.
    pub(super) async fn write_variables(&self, variables: Option<&Variables>) -> bool {
        let Some(variables) = variables else {
            return false;
        };
        if self.run.set.is_some_and(|set| set.at_the_end) {
            return false;
        }
        let (run, file) = (&self.run, from_here(&variables.file));
        if variables.of_hosts {
            self.report_shared(variables);
            return false;
        }
        let open = self.not_yet(variables).await;
        let mut due = variables.clone();
        due.changes
            .retain(|_, own| own.value.is_none() || own.services.is_disjoint(&open));
        // A command that goes on rolls these services, too, and reports what it leaves.
        if !open.is_empty() && run.set.is_none() {
            run.events.notice(format!(
                "{file} is unchanged, because {} does not run with {} yet; roll all services with --set again",
                words(&open),
                words(variables.changes.keys())
            ));
        }
        let written = match due.write().await {
            Ok(written) => written,
            Err(error) => {
                self.note_reported(due.changes.keys());
                let names = words(due.changes.keys());
                let text = format!("{names} is not written: {}", error.message);
                run.events.notice(text);
                return false;
            }
        };
        self.note_reported(&written.kept);
        if let Some(notice) = written.notice(&file) {
            run.events.notice(notice);
        }
        let changed = written.changed;
        let any = !changed.is_empty();
        if any {
            self.report_others(&due);
            run.events.emit(Event::VariablesWritten {
                file: variables.file.display().to_string(),
                variables: changed,
            });
        }
        any
    }

    /// Says what a rollout on one host leaves to a command for all of them.
    fn report_shared(&self, variables: &Variables) {
        let open = variables.open().unwrap_or_default().join(", ");
        if !open.is_empty() {
            self.run.events.notice(format!(
                "{} keeps its value of {open}, because it belongs to several hosts: roll all of them with --set, or change it by hand",
                from_here(&variables.file)
            ));
        }
    }

    fn note_reported<'b>(&self, names: impl IntoIterator<Item = &'b String>) {
        if let Some(set) = self.run.set {
            set.report(names);
        }
    }

    /// The other services of the same command that do not run with the variables, as far as can be seen.
    async fn not_yet(&self, variables: &Variables) -> BTreeSet<String> {
        let given = variables.changes.values();
        let given = given.filter(|own| own.value.is_some());
        let mut open: BTreeSet<String> = given.flat_map(|own| own.services.clone()).collect();
        open.remove(&self.context.service.name);
        let mut left = BTreeSet::new();
        for name in open {
            if !self.run.runs_as_described(&name).await.unwrap_or(false) {
                left.insert(name);
            }
        }
        left
    }

    /// After an undo: the services that were rolled with the value that the file no longer has.
    fn report_others(&self, variables: &Variables) {
        let back = variables.changes.values();
        let back = back.filter(|own| own.value.is_none());
        let mut others: BTreeSet<String> = back.flat_map(|own| own.services.clone()).collect();
        others.remove(&self.context.service.name);
        if !others.is_empty() && !self.run.of_several {
            let names = words(&others);
            self.run.events.notice(format!(
                "{} was changed for {names}, too: docker compose up -d takes the earlier value there",
                words(variables.changes.keys())
            ));
        }
    }
}

/// Names with commas.
fn words<'a>(names: impl IntoIterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.into_iter().map(String::as_str).collect();
    names.join(", ")
}
