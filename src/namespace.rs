//! The helper program that runs inside a replica's network namespace. It reports which requests the replica has not
//! answered, and whether a new replica answers at all.
//!
//! It writes JSON lines to standard output and reads lines from standard input. It ends with its standard input, because
//! then the CLI is gone.
//!
//! `watch` captures packets ([`packets`]) and lists sockets ([`sock_diag`]). [`connection`] puts the packets of a
//! connection in order and reads them ([`http1`], [`h2`]); [`ages`] judges its socket; [`outstanding`] decides; [`tally`]
//! adds up all connections.

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
mod unverified_tls;
mod watch;

use std::num::NonZeroU16;
use std::process::ExitCode;
use std::time::Duration;

use check::Check;
use traffic::RoutedPort;

/// The version of what this program takes and prints in a container of its own, here and in [`crate::state::folders`]. It is
/// also a label of this program's image.
pub const PROTOCOL: &str = "3";

/// What the helper does. The CLI gives the options, never a person.
#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum NamespaceCommand {
    /// Reports how many requests the replica has not answered yet
    Watch {
        /// A port that the proxy routes to, and its protocol: http1, h2c or stream; every port that listens on a network
        /// address if none is given
        #[arg(long = "port", value_name = "PORT[=PROTOCOL]")]
        ports: Vec<RoutedPort>,
        /// Milliseconds of silence after which a stream counts as drained
        #[arg(long, value_name = "MS", default_value_t = 5000)]
        quiet: u64,
    },
    /// Reports whether a new replica answers on its own network address
    Probe {
        /// A port that the proxy routes to; any listening port if none is given
        #[arg(long = "port", value_name = "PORT")]
        ports: Vec<NonZeroU16>,
        /// Requests this path over HTTP and expects 2xx or 3xx; without it, a TCP connection is enough
        #[arg(long, value_name = "PATH")]
        http: Option<String>,
        /// A further check that the replica has to pass, as JSON
        #[arg(long = "check", value_name = "JSON")]
        checks: Vec<Check>,
    },
}

/// Runs until standard input ends or a signal comes, then exits with 0. After a failure the last line is
/// `{"error":"…"}` and the exit code 1.
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
    let requests = stdio::Requests::listen()?;
    match command {
        NamespaceCommand::Watch { ports, quiet } => {
            let ports = ports
                .into_iter()
                .map(|routed| (routed.port.get(), routed.protocol))
                .collect();
            watch::run(requests, ports, Duration::from_millis(quiet)).await
        }
        NamespaceCommand::Probe {
            ports,
            http,
            checks,
        } => {
            let ports: Vec<u16> = ports.into_iter().map(NonZeroU16::get).collect();
            probe::run(requests, ports, http, checks).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PROTOCOL;
    use crate::model::label;

    #[test]
    fn the_image_has_the_version_of_its_program_as_a_label() {
        let label = format!("{}={PROTOCOL:?}", label::HELPER);
        assert!(include_str!("../Dockerfile").contains(&label), "{label}");
    }
}
