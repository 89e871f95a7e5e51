//! `rollout socket-proxy`: what Traefik reads Docker through, read-only, and through the overlay.
//!
//! Readers come in by [`server`] and [`answer`] (lists, inspects) or [`stream`] (events). The CLI changes the overlay by
//! [`control_server`]; [`store`] makes the change durable and publishes it; each reader sees it with its next list
//! ([`snapshot`]), which a nudge on its stream brings about. [`watch`] keeps the overlay true to the engine.

pub mod answer;
pub mod control_client;
pub mod control_server;
pub mod daemon;
pub mod deadline;
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

use tracing_subscriber::EnvFilter;

use self::{
    daemon::{Daemon, Shown},
    engine::Engine,
    only::Wanted,
    store::Store,
};
use crate::{
    docker_http::Endpoint,
    error::{Error, Outcome, Result},
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

    /// Open more to readers: `env` adds the environment to inspect answers (nginx-proxy needs it)
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub expose: Vec<Expose>,

    /// Show readers only containers with this label; any of several is enough
    #[arg(long, value_name = "LABEL[=VALUE]")]
    pub only: Vec<Wanted>,

    /// Pass requests from standard input to the running daemon, and its replies to standard output
    #[arg(long, conflicts_with = "check")]
    pub control: bool,

    /// Exit with 0 if the running daemon answers and reaches the engine
    #[arg(long)]
    pub check: bool,
}

/// What readers may be told besides what Traefik needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Expose {
    /// `Config.Env`: often full of secrets.
    Env,
}

/// Where the health check looks when the daemon does not say where it listens.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 2375);

impl SocketProxyArgs {
    /// Where to listen: nothing is opened by default but in the image, whose Dockerfile sets the variable.
    fn address(&self) -> Result<SocketAddr> {
        self.listen.ok_or_else(|| {
            Error::refused("outside its image the socket proxy needs an address: Docker's API would be open to all that reach it")
                .hint(
                    "to update a service of that name: docker compose up -d socket-proxy; to run it here anyway: \
                     --listen 127.0.0.1:2375",
                )
        })
    }

    // Some write the socket's path as DOCKER_HOST is written.
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
    log();
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

// A daemon's log is on from the start; a program that has its own keeps it.
fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .try_init();
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
    let shown = Shown {
        only: args.only.clone(),
        environment: args.expose.contains(&Expose::Env),
    };
    let daemon = Daemon::new(engine, store, shown, listen);
    tracing::info!(%listen, generation, "ready");
    tokio::select! {
        () = server::serve(listener, daemon.clone()) => Ok(()),
        () = control_server::serve(control, daemon.clone()) => Ok(()),
        () = watch::watch(daemon.clone()) => Ok(()),
        signal = told_to_end(&daemon) => signal.map_err(|error| Error::failed(format!("cannot wait for signals: {error}"))),
    }
}

// PID 1 has no default action for signals: without a handler they would be ignored.
async fn told_to_end(daemon: &Daemon) -> io::Result<()> {
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

// Only whoever may change the overlay may look at it.
fn prepare(state: &Path) -> Result<()> {
    let path = state.display();
    std::fs::create_dir_all(state)
        .map_err(|error| Error::failed(format!("cannot create {path}: {error}")))?;
    let private = std::fs::Permissions::from_mode(0o700);
    if let Err(error) = std::fs::set_permissions(state, private) {
        tracing::debug!(%error, "{path} is another's and stays as it is");
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        // A container on a network of IPv6 alone.
        Err(error) if address.ip().is_unspecified() && address.is_ipv4() => {
            let everywhere = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
            TcpListener::bind(everywhere).await.map_err(|_| error)
        }
        bound => bound,
    }
}

// The engine may come later, so this only says what is wrong now.
fn explain_socket(socket: &Path) {
    let Err(error) = UnixStream::connect(socket) else {
        return;
    };
    let why = match error.kind() {
        io::ErrorKind::NotFound => {
            "there is none: mount the engine's socket there, or name it with DOCKER_SOCK"
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not: run as root, or with `user:` and `group_add:` of the socket's group"
        }
        io::ErrorKind::ConnectionRefused if socket.is_dir() => {
            "it is a directory: Docker makes one where the mounted path does not exist on the host"
        }
        io::ErrorKind::ConnectionRefused => "nobody listens: is the engine running?",
        _ => "is it the engine's socket?",
    };
    tracing::error!(%error, "cannot connect to {}: {why}", socket.display());
}
