//! The helper program that runs inside a replica's network namespace. It reports which requests the replica has not
//! answered, whether a new replica answers at all, and leads the CLI to the ports of a Traefik.
//!
//! `watch` and `probe` write JSON lines to standard output and read lines from standard input. The helper ends with its
//! standard input, because then the CLI is gone.
//!
//! `watch` captures packets ([`packets`]) and lists sockets ([`sock_diag`]). [`connection`] puts the packets of a
//! connection in order and reads them ([`http1`], [`h2`]); [`ages`] judges its socket; [`outstanding`] decides; [`tally`]
//! adds up all connections. [`wire`] is what was counted of their requests.

mod ages;
pub mod check;
mod connection;
mod h2;
mod histogram;
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
pub mod wire;

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{copy, stdin, stdout};
use tokio::net::TcpStream;

use check::Check;
use stdio::Requests;
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
    /// Runs until its standard input ends, so that the engine can start `connect` beside it
    Wait,
    /// Carries bytes between its standard input and output and a TCP address
    Connect { address: SocketAddr },
}

/// Runs until standard input ends or a signal comes, then exits with 0. A failure is a line on standard error and the exit
/// code 1.
pub fn main(command: NamespaceCommand) -> ExitCode {
    let ran = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| {
            let ran = runtime.block_on(run(command));
            // A read of standard input cannot be cancelled, and must not delay the exit.
            runtime.shutdown_background();
            ran
        });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: NamespaceCommand) -> std::io::Result<()> {
    match command {
        NamespaceCommand::Watch { ports, quiet } => {
            let ports = ports
                .into_iter()
                .map(|routed| (routed.port.get(), routed.protocol))
                .collect();
            watch::run(Requests::listen()?, ports, Duration::from_millis(quiet)).await
        }
        NamespaceCommand::Probe {
            ports,
            http,
            checks,
        } => {
            let ports: Vec<u16> = ports.into_iter().map(NonZeroU16::get).collect();
            probe::run(Requests::listen()?, ports, http, checks).await
        }
        NamespaceCommand::Wait => {
            let mut requests = Requests::listen()?;
            while requests.next().await.is_some() {}
            Ok(())
        }
        NamespaceCommand::Connect { address } => connect(address).await,
    }
}

/// Ends with the connection: after the end of standard input, the other side still answers what it has received.
async fn connect(address: SocketAddr) -> std::io::Result<()> {
    let (mut from, mut to) = TcpStream::connect(address).await?.into_split();
    tokio::spawn(async move { copy(&mut stdin(), &mut to).await });
    copy(&mut from, &mut stdout()).await.map(drop)
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
