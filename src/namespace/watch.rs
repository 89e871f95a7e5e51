//! Looks at the replica's sockets again and again, and says what changed.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::sock_diag::SockDiag;
use super::stdio::{Orders, emit};
use super::tally::Tally;
use super::traffic::{Protocol, Traffic};

/// Between looks while something is unsettled, and while nothing is.
const SOON: Duration = Duration::from_millis(5);
const LATER: Duration = Duration::from_millis(20);
/// A look costs what the host's connection table is long; this is how much longer than a look the pause after it is.
const REST: u32 = 10;

/// Writes a line for the first look, for each change, and for each question, until told to leave.
pub async fn run(
    mut orders: Orders,
    ports: Vec<u16>,
    protocol: Protocol,
    quiet: Duration,
) -> io::Result<()> {
    let mut watch = Watch::open(ports, protocol, quiet)?;
    let mut said = None;
    loop {
        let answer_to = tokio::select! {
            biased;
            order = orders.next() => match order {
                Some(ask) => Some(ask),
                None => return Ok(()),
            },
            () = sleep_until(watch.next_look) => None,
        };
        let traffic = watch.look()?;
        if answer_to.is_some() || said != Some(traffic.counts()) {
            said = Some(traffic.counts());
            if emit(&Traffic {
                answer_to,
                ..traffic
            })
            .is_err()
            {
                return Ok(());
            }
        }
    }
}

struct Watch {
    began: Instant,
    sock_diag: SockDiag,
    tally: Tally,
    next_look: Instant,
}

impl Watch {
    fn open(ports: Vec<u16>, protocol: Protocol, quiet: Duration) -> io::Result<Self> {
        let quiet = u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX);
        let began = Instant::now();
        Ok(Self {
            began,
            sock_diag: SockDiag::open()?,
            tally: Tally::new(ports, protocol, quiet),
            next_look: began,
        })
    }

    fn look(&mut self) -> io::Result<Traffic> {
        let start = Instant::now();
        let sockets = self.sock_diag.connections()?;
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let traffic = self.tally.look(now, &sockets);
        let pause = if traffic.busy() { SOON } else { LATER };
        self.next_look = Instant::now() + pause.max(start.elapsed() * REST);
        Ok(traffic)
    }
}
