//! One connection of a reader, and the reader behind one of its requests.

use std::net::IpAddr;

use hyper::{Request, body::Incoming, header};

use super::snapshot::{ConnectionId, Reader};

const MAX_USER_AGENT: usize = 128;

pub struct Peer {
    /// Unique in this process.
    pub connection: ConnectionId,
    /// Without a port.
    pub address: IpAddr,
}

impl Peer {
    pub fn reader(&self, request: &Request<Incoming>) -> Reader {
        let agent = request.headers().get(header::USER_AGENT);
        let agent = agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()));
        let agent = agent.unwrap_or_default();
        Reader {
            address: self.address,
            user_agent: agent.chars().take(MAX_USER_AGENT).collect(),
        }
    }
}
