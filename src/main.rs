//! run() to ExitCode.

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
enum Cli {
    SocketProxy(rollout::socket_proxy::SocketProxyArgs),
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .init();
    let Cli::SocketProxy(args) = Cli::parse();
    rollout::socket_proxy::main(args)
}
