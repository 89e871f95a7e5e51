//! run() to ExitCode.
fn main() {}
