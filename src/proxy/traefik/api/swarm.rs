//! The servers that a Traefik has for services of its Swarm provider.

use std::{collections::BTreeMap, net::IpAddr};

use super::{Api, SWARM, Service, places};
use crate::{error::Result, proxy::traefik::labels::Names};

impl Api {
    /// The address of each server of each of these services, and whether it is up. A service that Traefik does not have
    /// has no servers.
    pub async fn servers_of_swarm(&self, names: &Names) -> Result<Vec<BTreeMap<IpAddr, bool>>> {
        let mut all = Vec::new();
        for (protocol, name) in &names.services {
            let service: Option<Service> = self.item_of(SWARM, "services", *protocol, name).await?;
            let places = service.map(places).unwrap_or_default();
            let own = places.into_iter().map(|(place, up)| (place.address, up));
            all.push(own.collect());
        }
        Ok(all)
    }
}
