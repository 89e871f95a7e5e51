//! The names of services and the numbers of revisions, for a command line that is not complete yet.

use std::{ffi::OsString, sync::Arc, time::Duration};

use clap::{Arg, ArgMatches, Command, FromArgMatches};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use crate::{
    app::{
        history::remembered,
        opened::{Opened, endpoint},
    },
    cli::{self, TargetArgs},
    compose::Compose,
    error::Result,
    event::Events,
    model::image_name,
};

/// The longest time that a completion takes.
const LIMIT: Duration = Duration::from_secs(3);

/// The options that take the number of a revision.
const NUMBERED: [&str; 2] = ["to", "revision"];

/// Where the values come from.
#[derive(Clone, Copy)]
pub struct Values {
    pub services: fn(&TargetArgs) -> Vec<CompletionCandidate>,
    /// The revisions of a service.
    pub revisions: fn(&TargetArgs, &str) -> Vec<CompletionCandidate>,
}

/// What the words before the last one say.
#[derive(Default)]
struct Before {
    target: TargetArgs,
    service: Option<String>,
}

impl Values {
    /// Services of the Compose file, and revisions of the records.
    pub fn found() -> Self {
        Self {
            services: |target| within_limit(target, services(target)),
            revisions: |target, service| within_limit(target, revisions(target, service)),
        }
    }

    pub fn add_to(self, command: Command, words: &[OsString]) -> Command {
        self.add(command, &Arc::new(Before::of(words)))
    }

    fn add(self, command: Command, before: &Arc<Before>) -> Command {
        let own = |argument: Arg| self.valued(argument, Arc::clone(before));
        let inner = |command: Command| self.add(command, before);
        command.mut_args(own).mut_subcommands(inner)
    }

    fn valued(self, argument: Arg, before: Arc<Before>) -> Arg {
        let names = argument.get_value_names().unwrap_or_default();
        if names.iter().any(|name| name == "SERVICE") {
            let services = move || (self.services)(&before.target);
            return argument.add(ArgValueCandidates::new(services));
        }
        if names.iter().any(|name| name == "COMMAND|TOPIC") {
            let names = || cli::help::names().into_iter();
            let pages = move || names().map(CompletionCandidate::new).collect();
            return argument.add(ArgValueCandidates::new(pages));
        }
        if NUMBERED.contains(&argument.get_id().as_str()) {
            let revisions = move || match &before.service {
                Some(service) => (self.revisions)(&before.target, service),
                None => Vec::new(),
            };
            return argument.add(ArgValueCandidates::new(revisions));
        }
        argument
    }
}

impl Before {
    fn of(words: &[OsString]) -> Self {
        let complete = &words[..words.len().saturating_sub(1)];
        let command = cli::command().ignore_errors(true);
        let Ok(matches) = command.try_get_matches_from(complete) else {
            return Self::default();
        };
        let mut own = &matches;
        while let Some((_, inner)) = own.subcommand() {
            own = inner;
        }
        Self {
            target: TargetArgs::from_arg_matches(own).unwrap_or_default(),
            service: service(own),
        }
    }
}

/// The last service that is named.
fn service(matches: &ArgMatches) -> Option<String> {
    let several = matches.try_get_many::<String>("services").ok().flatten();
    several.and_then(Iterator::last).cloned()
}

/// Nothing after an error, or where it takes too long.
fn within_limit(
    target: &TargetArgs,
    asked: impl Future<Output = Result<Vec<CompletionCandidate>>>,
) -> Vec<CompletionCandidate> {
    // Standard input is the terminal.
    if target.files.iter().any(|file| file == "-") {
        return Vec::new();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let Ok(runtime) = runtime else {
        return Vec::new();
    };
    let found = runtime.block_on(async { tokio::time::timeout(LIMIT, asked).await });
    runtime.shutdown_background();
    match found {
        Ok(Ok(found)) => found,
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

async fn services(target: &TargetArgs) -> Result<Vec<CompletionCandidate>> {
    let compose = Compose::find(target.invocation(), endpoint(target).await?).await?;
    let names = compose.all_names().await?;
    Ok(names.into_iter().map(CompletionCandidate::new).collect())
}

/// The newest first.
async fn revisions(target: &TargetArgs, service: &str) -> Result<Vec<CompletionCandidate>> {
    let events = Events::new(Vec::new());
    let opened = Opened::of_records(target, &[service], &events).await?;
    let known = remembered(&opened.run(&events), &opened.project.key(service)).await?;
    let newest_first = known.list.iter().rev();
    let candidate = |own: &crate::state::revisions::Revision| {
        let image = image_name(&own.image.reference, &own.image.id);
        CompletionCandidate::new(own.number.to_string()).help(Some(image.into()))
    };
    Ok(newest_first.map(candidate).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before(line: &str) -> Before {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        Before::of(&words)
    }

    #[test]
    fn the_project_is_the_one_that_the_line_has_named_so_far() {
        for line in [
            "rollout -f a.yaml -p shop w",
            "rollout -f a.yaml undo -p shop web --to ",
            "rollout undo --file=a.yaml web --project-name shop --bake 1m --to ",
        ] {
            let target = before(line).target;
            assert_eq!(target.files, ["a.yaml"], "{line}");
            assert_eq!(target.project_name.as_deref(), Some("shop"), "{line}");
        }
        let unfinished = before("rollout --no-such-option -f ");
        assert_eq!(unfinished.target.files, [""; 0]);
    }

    #[test]
    fn the_revisions_are_those_of_the_service_that_is_named_last() {
        assert_eq!(
            before("rollout undo web --to ").service.as_deref(),
            Some("web")
        );
        assert_eq!(
            before("rollout history web api --revision ")
                .service
                .as_deref(),
            Some("api")
        );
        assert_eq!(before("rollout undo --to ").service, None);
    }
}
