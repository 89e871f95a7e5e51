//! Leads from a port of this machine to a Traefik in another network namespace.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use nix::sched::{CloneFlags, setns};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use testbed::Stack;

type Wanted = (SocketAddr, oneshot::Sender<TcpStream>);

/// Ends with all it leads when it is dropped.
pub struct Bridge {
    tasks: Vec<JoinHandle<()>>,
}

impl Bridge {
    /// On the stack's port, to its Traefik in the namespace at this path, past what the engine publishes: its own proxies
    /// of ports end with it.
    pub async fn start(stack: &Stack, network: &str) -> Self {
        let (sender, address) = watch::channel(None);
        let leading = leading(stack.port, network, address).await;
        let name = format!("{}-traefik-1", stack.name);
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let mut inspect = stack.command("docker", &["inspect", "--format", format, &name]);
        let looking = tokio::spawn(async move {
            loop {
                let said = inspect.output().await.unwrap().stdout;
                let said = String::from_utf8_lossy(&said).into_owned();
                let found = said
                    .split_whitespace()
                    .find_map(|own| own.parse::<Ipv4Addr>().ok());
                // While the engine is away, it is where it was.
                if let Some(found) = found {
                    sender.send_replace(Some(SocketAddr::from((found, 80))));
                }
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        });
        Self {
            tasks: vec![looking, leading],
        }
    }

    /// To the same port in the namespace at this path.
    pub async fn to_port(port: u16, network: &str) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (_, address) = watch::channel(Some(address));
        Self {
            tasks: vec![leading(port, network, address).await],
        }
    }
}

/// Leads from a port to an address in the namespace at this path, which may change.
async fn leading(
    port: u16,
    network: &str,
    address: watch::Receiver<Option<SocketAddr>>,
) -> JoinHandle<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .unwrap();
    let (ask, asked) = mpsc::unbounded_channel();
    let network = File::open(network).unwrap();
    // A socket stays in the namespace in which it was made.
    std::thread::spawn(move || connect(&network, asked));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (ask, to) = (ask.clone(), *address.borrow());
            tokio::spawn(async move { lead(stream, to?, &ask).await });
        }
    })
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn lead(
    mut from: tokio::net::TcpStream,
    to: SocketAddr,
    ask: &mpsc::UnboundedSender<Wanted>,
) -> Option<()> {
    let (sender, receiver) = oneshot::channel();
    ask.send((to, sender)).ok()?;
    let stream = receiver.await.ok()?;
    stream.set_nonblocking(true).ok()?;
    let mut to = tokio::net::TcpStream::from_std(stream).ok()?;
    tokio::io::copy_bidirectional(&mut from, &mut to)
        .await
        .ok()?;
    Some(())
}

fn connect(network: &File, mut asked: mpsc::UnboundedReceiver<Wanted>) {
    setns(network, CloneFlags::CLONE_NEWNET).unwrap();
    while let Some((address, sender)) = asked.blocking_recv() {
        if let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            let _ = sender.send(stream);
        }
    }
}
