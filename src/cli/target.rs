//! The options of every command: the project, the engine and the format of the report.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, ValueHint};

use crate::{
    compose::Invocation,
    fleet::{Host, Place},
    report::Output,
    settings::boolean,
};

const PROJECT: &str = "Project and engine";

/// The project and the engine, as `docker` and `docker compose` take them: before or after the name of a command.
#[derive(Args, Clone, Debug, Default)]
pub struct TargetArgs {
    /// Compose file; repeat for several
    #[arg(short, long = "file", value_name = "FILE", value_hint = ValueHint::FilePath, global = true)]
    pub files: Vec<String>,
    /// Project name
    #[arg(short, long, value_name = "NAME", global = true)]
    pub project_name: Option<String>,
    /// Report for people, or as one JSON event a line: human or json
    #[arg(
        long,
        value_enum,
        value_name = "FORMAT",
        env = "ROLLOUT_OUTPUT",
        global = true,
        hide_possible_values = true,
        hide_env_values = true
    )]
    pub output: Option<Output>,
    /// Directory where relative paths of the Compose file begin
    #[arg(long, value_name = "DIR", global = true, help_heading = PROJECT)]
    pub project_directory: Option<PathBuf>,
    /// Enable a profile; repeat for several
    #[arg(long = "profile", value_name = "NAME", global = true, help_heading = PROJECT)]
    pub profiles: Vec<String>,
    /// Environment file; repeat for several
    #[arg(long = "env-file", value_name = "FILE", value_hint = ValueHint::FilePath, global = true, help_heading = PROJECT)]
    pub env_files: Vec<String>,
    /// Address of the engine; ssh:// and TLS need the Docker CLI [default: DOCKER_HOST, else the current context]
    #[arg(short = 'H', long, value_name = "ADDRESS", global = true, help_heading = PROJECT)]
    pub host: Option<String>,
    /// Docker context [default: DOCKER_CONTEXT, else the current one]
    #[arg(short = 'c', long, value_name = "NAME", conflicts_with = "host", global = true, help_heading = PROJECT)]
    pub context: Option<String>,
    /// Host of the project: ssh://…, tcp://…, unix://… or a Docker context, also with its wave, as 2=ssh://…; repeat for several
    #[arg(long, value_name = "[WAVE=]HOST", conflicts_with_all = ["host", "context"], global = true, help_heading = PROJECT)]
    pub on: Vec<Host>,
    /// Begin each printed line with its time [default: true in a CI: where the variable CI is set]
    #[arg(
        long,
        value_name = "BOOL",
        value_parser = boolean,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        env = "ROLLOUT_TIMESTAMPS",
        global = true,
        help_heading = PROJECT,
        hide_env_values = true
    )]
    pub timestamps: Option<bool>,
    /// Append all that happens to a service to DIR/SERVICE.log
    #[arg(
        long,
        value_name = "DIR",
        value_hint = ValueHint::DirPath,
        env = "ROLLOUT_LOG_DIR",
        global = true,
        help_heading = PROJECT,
        hide_env_values = true
    )]
    pub log_dir: Option<PathBuf>,
    /// Write a page about the run to FILE: one HTML file with its steps, its traffic and its figures
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, global = true, help_heading = PROJECT)]
    pub report: Option<PathBuf>,
    /// Log to standard error; twice for more (or RUST_LOG)
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = PROJECT)]
    pub verbose: u8,
}

impl TargetArgs {
    /// The given name of the project; Compose finds another one by itself.
    pub fn project(&self) -> Option<String> {
        let variable = || std::env::var("COMPOSE_PROJECT_NAME").ok();
        let name = self.project_name.clone().or_else(variable);
        name.filter(|name| !name.is_empty())
    }

    /// What Compose is called with.
    pub fn invocation(&self) -> Invocation {
        Invocation {
            files: self.files.clone(),
            project_name: self.project_name.clone(),
            project_directory: self.project_directory.clone(),
            profiles: self.profiles.clone(),
            env_files: self.env_files.clone(),
        }
    }

    /// Whether an option names the engine. Then no other place of hosts counts.
    pub fn names_engine(&self) -> bool {
        self.host.is_some() || self.context.is_some() || !self.on.is_empty()
    }

    /// The same project on the engine of one host.
    pub fn at(&self, host: &Host) -> Self {
        let (address, context) = match host.place.clone() {
            Place::Address(own) => (Some(own), None),
            Place::Context(own) => (None, Some(own)),
        };
        Self {
            host: address,
            context,
            on: Vec::new(),
            ..self.clone()
        }
    }

    /// The project and the engine, and what is logged, as words of another command line.
    pub fn words(&self) -> Vec<OsString> {
        let lists = [
            ("--file", &self.files),
            ("--profile", &self.profiles),
            ("--env-file", &self.env_files),
        ];
        let lists = lists.into_iter();
        let lists = lists.flat_map(|(name, all)| all.iter().map(move |own| (name, own.into())));
        let on = self.on.iter().map(|own| ("--on", own.to_string().into()));
        let path = |own: &Option<PathBuf>| own.clone().map(OsString::from);
        let text = |own: &Option<String>| own.clone().map(OsString::from);
        let single = [
            ("--project-name", text(&self.project_name)),
            ("--project-directory", path(&self.project_directory)),
            ("--host", text(&self.host)),
            ("--context", text(&self.context)),
            ("--log-dir", path(&self.log_dir)),
        ];
        let stamps = self
            .timestamps
            .map(|own| format!("--timestamps={own}").into());
        let single = single.into_iter();
        let single = single.filter_map(|(name, own)| Some((name, own?)));
        let pairs = lists.chain(on).chain(single);
        let words = pairs.flat_map(|(name, value)| [OsString::from(name), value]);
        let verbose = (0..self.verbose).map(|_| OsString::from("--verbose"));
        words.chain(stamps).chain(verbose).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Command, parse},
        TargetArgs,
    };

    #[test]
    fn the_words_of_a_target_are_read_as_the_same_target() {
        let line = "rollout agent -f a.yaml -f b.yaml -p shop --profile x --env-file e --project-directory /srv -H tcp://h \
                    --log-dir logs --timestamps -vv";
        let target = |words: Vec<std::ffi::OsString>| match parse(words) {
            Ok(Command::Agent(own)) => own.target,
            other => panic!("{other:?}"),
        };
        let first = target(line.split_whitespace().map(Into::into).collect());
        let mut words = vec!["rollout".into()];
        words.extend(first.words());
        words.push("agent".into());
        let second = target(words);
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
        assert!(first.verbose == 2 && first.files.len() == 2);
        let hosts = target(
            line.replace("-H tcp://h", "--on 2=ssh://a --on b")
                .split_whitespace()
                .map(Into::into)
                .collect(),
        );
        let words = hosts.words();
        assert!(
            words.windows(2).any(|pair| pair == ["--on", "2=ssh://a"]),
            "{words:?}"
        );
        assert_eq!(hosts.on.len(), 2);
    }

    #[test]
    fn a_target_at_a_host_names_its_engine_as_dockers_options_do() {
        let all = TargetArgs {
            on: vec!["2=ssh://a".parse().unwrap(), "b".parse().unwrap()],
            ..TargetArgs::default()
        };
        let at = |at: usize| all.at(&all.on[at]);
        assert_eq!(
            (at(0).host.as_deref(), at(0).context),
            (Some("ssh://a"), None)
        );
        assert_eq!((at(1).host, at(1).context.as_deref()), (None, Some("b")));
        assert!(at(0).on.is_empty() && at(1).names_engine());
    }
}
