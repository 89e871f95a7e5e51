//! run() to ExitCode.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
enum Cli {
    SocketProxy(rollout::socket_proxy::SocketProxyArgs),
}

fn main() -> ExitCode {
    let Cli::SocketProxy(args) = Cli::parse();
    rollout::socket_proxy::main(args)
}
