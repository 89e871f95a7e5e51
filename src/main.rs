//! run() to ExitCode.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rollout::namespace::{self, NamespaceCommand};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs inside a replica's network namespace
    #[command(subcommand, hide = true)]
    Namespace(NamespaceCommand),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Namespace(command) => namespace::main(command),
    }
}
