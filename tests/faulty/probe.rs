//! Measures outages: a new connection ten times a second, each on its own, so that one that hangs delays none.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, interval, timeout},
};

use testbed::Stack;

const EVERY: Duration = Duration::from_millis(100);
/// A client that has waited for this long gives up.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks until it is stopped.
pub struct Probe {
    /// When those were sent that were answered well, since the beginning.
    good: Arc<Mutex<BTreeSet<Duration>>>,
    began: Instant,
    asking: JoinHandle<()>,
}

impl Probe {
    pub fn start(stack: &Stack) -> Self {
        let (port, host) = (stack.port, stack.host.clone());
        let good: Arc<Mutex<BTreeSet<Duration>>> = Arc::default();
        let (answered, began) = (good.clone(), Instant::now());
        let asking = tokio::spawn(async move {
            let mut ticks = interval(EVERY);
            loop {
                ticks.tick().await;
                let (answered, host, sent) = (answered.clone(), host.clone(), began.elapsed());
                tokio::spawn(async move {
                    if timeout(PATIENCE, ask(port, &host))
                        .await
                        .ok()
                        .flatten()
                        .is_some()
                    {
                        let mut good = answered.lock().unwrap_or_else(PoisonError::into_inner);
                        good.insert(sent);
                    }
                });
            }
        });
        Self {
            good,
            began,
            asking,
        }
    }

    /// The longest time between two that were answered.
    pub async fn stop(self) -> Duration {
        self.asking.abort();
        let end = self.began.elapsed();
        tokio::time::sleep(PATIENCE).await;
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<Duration> = [Duration::ZERO]
            .into_iter()
            .chain(good.iter().copied())
            .chain([end])
            .collect();
        let gaps = all.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }
}

async fn ask(port: u16, host: &str) -> Option<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    answer.starts_with(b"HTTP/1.1 200 ").then_some(())
}
