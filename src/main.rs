//! run() to ExitCode: the only exit point.

use std::process::ExitCode;

fn main() -> ExitCode {
    rollout::run(std::env::args_os().collect())
}
