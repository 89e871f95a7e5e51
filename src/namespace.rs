//! The program that runs inside a replica's network namespace: it tells what the replica has not answered yet, and
//! whether a new replica answers at all.
//!
//! It speaks JSON lines on standard output and reads lines on standard input, whose end means that the CLI is gone.

mod ages;
pub mod check;
mod connection;
mod h2;
mod http1;
mod outstanding;
mod packets;
mod probe;
pub mod readiness;
#[cfg(test)]
pub(crate) mod segmentation;
mod sock_diag;
mod stdio;
mod tally;
mod tcp_info;
pub mod traffic;
mod watch;

use std::num::NonZeroU16;
use std::process::ExitCode;
use std::time::Duration;

use check::Check;
use traffic::RoutedPort;

/// Changes with each change of what the helper is given or tells; the image that holds this program has it as a label.
pub const PROTOCOL: &str = "2";

/// What the helper does; every option is given by the CLI, never by a person.
#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum NamespaceCommand {
    /// Tells how many requests the replica has not answered yet
    Watch {
        /// A port that the proxy routes to, and what is spoken on it: http1, h2c or stream; every port that listens on a
        /// network address when none is given
        #[arg(long = "port", value_name = "PORT[=PROTOCOL]")]
        ports: Vec<RoutedPort>,
        /// Milliseconds of silence after which a stream counts as drained
        #[arg(long, value_name = "MS", default_value_t = 5000)]
        quiet: u64,
    },
    /// Tells whether a new replica answers on its own network address
    Probe {
        /// A port that the proxy routes to; any listening port when none is given
        #[arg(long = "port", value_name = "PORT")]
        ports: Vec<NonZeroU16>,
        /// Asks for this path over HTTP, where 2xx and 3xx count as an answer; a TCP connection is enough without it
        #[arg(long, value_name = "PATH")]
        http: Option<String>,
        /// A check that the replica has to pass besides, as JSON
        #[arg(long = "check", value_name = "JSON")]
        checks: Vec<Check>,
    },
}

/// Runs until standard input ends or a signal comes, which is 0; a failure is a last line `{"error":"…"}` and 1.
pub fn main(command: NamespaceCommand) -> ExitCode {
    let ran = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(run(command)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = stdio::emit(&traffic::Failure {
                error: error.to_string(),
            });
            ExitCode::FAILURE
        }
    }
}

async fn run(command: NamespaceCommand) -> std::io::Result<()> {
    let orders = stdio::Orders::listen()?;
    match command {
        NamespaceCommand::Watch { ports, quiet } => {
            let ports = ports
                .into_iter()
                .map(|routed| (routed.port.get(), routed.protocol))
                .collect();
            watch::run(orders, ports, Duration::from_millis(quiet)).await
        }
        NamespaceCommand::Probe {
            ports,
            http,
            checks,
        } => {
            let ports: Vec<u16> = ports.into_iter().map(NonZeroU16::get).collect();
            probe::run(orders, ports, http, checks).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PROTOCOL;
    use crate::model::label;

    #[test]
    fn the_image_says_what_its_program_speaks() {
        let said = format!("{}={PROTOCOL:?}", label::HELPER);
        assert!(include_str!("../Dockerfile").contains(&said), "{said}");
    }
}
