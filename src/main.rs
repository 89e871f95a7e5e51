//! The binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    rollout::run(std::env::args_os().collect())
}
