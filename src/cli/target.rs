//! The options of every command: the project, the engine and the format of the report.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::{compose::Invocation, report::Output, settings::boolean};

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
}
