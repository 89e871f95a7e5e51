//! `rollout socket-proxy`: the read-only Docker API for Traefik, whose answers the overlay changes.
//!
//! [`server`] accepts readers; [`answer`] answers lists and inspects, [`stream`] events. The CLI changes the overlay through
//! [`control_server`]. [`store`] makes a change durable and publishes it. Each reader sees it with its next list
//! ([`snapshot`]); an event on its stream makes it list. [`watch`] adapts the overlay to the engine's containers.

pub mod answer;
pub mod control_client;
pub mod control_server;
pub mod daemon;
pub mod engine;
pub mod events;
pub mod fetch;
pub mod limits;
pub mod only;
pub mod privileges;
pub mod rebuild;
pub mod request;
pub mod rounds;
pub mod server;
pub mod snapshot;
pub mod store;
pub mod stream;
pub mod watch;

#[cfg(test)]
mod fixture_tests;
#[cfg(test)]
mod generation_tests;
#[cfg(test)]
mod swarm_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod visible_tests;

use std::{
    io::{self, IsTerminal},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use self::{daemon::Daemon, engine::Engine, only::Wanted, store::Store};
use crate::{
    docker::http::Endpoint,
    error::{Error, Outcome, Result},
    log,
    overlay::control,
};

/// Reads Docker for Traefik: read-only, and as a rollout says.
#[derive(Clone, Debug, clap::Args)]
pub struct SocketProxyArgs {
    /// Address and port for readers; never publish it on the host
    #[arg(long, env = "ROLLOUT_SOCKET_PROXY_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// The engine's socket
    #[arg(
        long,
        env = "DOCKER_SOCK",
        default_value = "/var/run/docker.sock",
        value_name = "PATH"
    )]
    pub socket: PathBuf,

    /// Where the overlay is kept; belongs in a volume
    #[arg(long, default_value = "/var/lib/rollout", value_name = "DIR")]
    pub state_dir: PathBuf,

    /// Accepted and ignored: readers never see the environment of containers
    #[arg(long, value_parser = ["env"], value_delimiter = ',', value_name = "WHAT")]
    pub expose: Vec<String>,

    /// Show readers only containers with this label; any of several is enough
    #[arg(long, value_name = "LABEL[=VALUE]")]
    pub only: Vec<Wanted>,

    /// Show readers Swarm's services, tasks and nodes, for Traefik's Swarm provider
    #[arg(long, env = "ROLLOUT_SWARM")]
    pub swarm: bool,

    /// Pass requests from standard input to the running daemon, and its replies to standard output
    #[arg(long, conflicts_with = "check")]
    pub control: bool,

    /// Exit with 0 if the running daemon answers and reaches the engine
    #[arg(long)]
    pub check: bool,
}

/// The address for `--check` if no other is given.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 2375);

impl SocketProxyArgs {
    /// The address for readers. Only the image has a default: its Dockerfile sets the variable.
    fn address(&self) -> Result<SocketAddr> {
        self.listen.ok_or_else(|| {
            Error::refused("outside its image the socket proxy needs an address: Docker's API would be open to all that reach it")
                .hint(
                    "to update a service of that name: docker compose up -d socket-proxy; to run it here anyway: \
                     --listen 127.0.0.1:2375",
                )
        })
    }

    // The path may have the form of DOCKER_HOST.
    fn socket(&self) -> &Path {
        let path = self.socket.to_str();
        path.and_then(|path| path.strip_prefix("unix://"))
            .map_or(&self.socket, Path::new)
    }
}

/// Runs the daemon, or one of its helpers; must be called while the process has one thread.
pub fn main(args: SocketProxyArgs) -> ExitCode {
    let control = args.state_dir.join(control::SOCKET);
    let done = if args.control {
        control_client::pass(&control)
    } else if args.check {
        control_client::check(&control, args.listen.unwrap_or(LISTEN))
    } else {
        run(&args)
    };
    match done {
        Ok(()) => Outcome::Done.into(),
        Err(error) => {
            eprintln!("error: {error}");
            if let Some(hint) = &error.hint {
                eprintln!("{hint}");
            }
            error.outcome.into()
        }
    }
}

fn run(args: &SocketProxyArgs) -> Result<()> {
    let listen = args.address()?;
    start_log();
    if !args.expose.is_empty() {
        tracing::warn!("--expose is ignored: readers never see the environment of containers");
    }
    privileges::drop_root(args.socket(), &args.state_dir);
    explain_socket(args.socket());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::failed(format!("cannot start: {error}")))?;
    let served = runtime.block_on(serve(args, listen));
    runtime.shutdown_timeout(Duration::from_millis(200));
    served
}

fn start_log() {
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    log::start("info", lines);
}

async fn serve(args: &SocketProxyArgs, listen: SocketAddr) -> Result<()> {
    let state = &args.state_dir;
    prepare(state)?;
    let store = Store::open(state)?;
    if let Err(error) = store.probe().await {
        tracing::warn!(%error, "serving as before, but no rollout can begin");
    }
    let control = state.join(control::SOCKET);
    let control = control_server::bind(&control).map_err(|error| {
        Error::failed(format!("cannot listen on {}: {error}", control.display()))
    })?;
    let listener = bind(listen)
        .await
        .map_err(|error| Error::failed(format!("cannot listen on {listen}: {error}")))?;
    let listen = listener.local_addr().unwrap_or(listen);
    let engine = Engine::new(Endpoint::Unix(args.socket().to_owned()));
    let generation = store.current().generation;
    let daemon = Daemon::new(engine, store, args.only.clone(), args.swarm, listen);
    tracing::info!(%listen, generation, "ready");
    tokio::select! {
        () = server::serve(listener, daemon.clone()) => Ok(()),
        () = control_server::serve(control, daemon.clone()) => Ok(()),
        () = watch::watch(daemon.clone()) => Ok(()),
        signal = end_signal(&daemon) => signal.map_err(|error| Error::failed(format!("cannot wait for signals: {error}"))),
    }
}

// PID 1 has no default action for signals: without a handler they would be ignored.
async fn end_signal(daemon: &Daemon) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!("{name}: ending");
    daemon.rounds.end().await;
    Ok(())
}

// Only the owner may read the overlay, because only the owner may change it.
fn prepare(state: &Path) -> Result<()> {
    let path = state.display();
    std::fs::create_dir_all(state)
        .map_err(|error| Error::failed(format!("cannot create {path}: {error}")))?;
    let private = std::fs::Permissions::from_mode(0o700);
    if let Err(error) = std::fs::set_permissions(state, private) {
        tracing::debug!(%error, "{path} belongs to another user and keeps its mode");
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        // The network of the container may have IPv6 only.
        Err(error) if address.ip().is_unspecified() && address.is_ipv4() => {
            let everywhere = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
            TcpListener::bind(everywhere).await.map_err(|_| error)
        }
        bound => bound,
    }
}

// The engine may start later, so this only logs the problem.
fn explain_socket(socket: &Path) {
    let Err(error) = UnixStream::connect(socket) else {
        return;
    };
    let why = match error.kind() {
        io::ErrorKind::NotFound => {
            "it does not exist: mount the engine's socket there, or set its path in DOCKER_SOCK"
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied: run as root, or set `user:` and `group_add:` to the socket's group"
        }
        io::ErrorKind::ConnectionRefused if socket.is_dir() => {
            "it is a directory: Docker creates one if the mounted path does not exist on the host"
        }
        io::ErrorKind::ConnectionRefused => "no process listens on it: is the engine running?",
        _ => "is it the engine's socket?",
    };
    tracing::error!(%error, "cannot connect to {}: {why}", socket.display());
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: SocketProxyArgs,
    }

    #[test]
    fn a_compose_file_with_expose_env_still_starts_the_daemon() {
        let started = |what| Command::try_parse_from(["socket-proxy", "--expose", what]);
        assert_eq!(started("env").ok().unwrap().args.expose, ["env"]);
        assert!(started("mounts").is_err());
    }
}
