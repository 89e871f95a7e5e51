//! Servers that fail the health check of their service in Traefik. Each reload takes them for healthy until the next check, so
//! a rollout of any service sends them requests for a while. Pure.

use bollard::models::ContainerSummary;

use super::{listing::provider, place_of};
use crate::{
    docker::engine::summary::{addresses_of, name},
    model::Replica,
    proxy::Hazard,
};

/// One server of a service of any provider.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Down {
    /// With its provider: `nb@docker`.
    pub service: String,
    /// As Traefik writes it: a URL or an address.
    pub server: String,
    /// The time between two checks, as Traefik writes it.
    pub interval: String,
    /// The container that has the address, where one is found.
    pub container: Option<String>,
}

impl Down {
    /// Finds the container by its address.
    #[must_use]
    pub fn found_in(mut self, running: &[ContainerSummary]) -> Self {
        let address = place_of(&self.server).map(|place| place.address.to_string());
        let has_it = |own: &&ContainerSummary| {
            let mut all = addresses_of(own);
            all.any(|known| Some(known) == address.as_deref())
        };
        self.container = running.iter().find(has_it).map(name);
        self
    }

    /// Whether it is one of these replicas.
    pub fn is_of(&self, replicas: &[Replica]) -> bool {
        let place = place_of(&self.server);
        place.is_some_and(|place| replicas.iter().any(|own| place.is_of(own)))
    }

    pub fn hazard(&self) -> Hazard {
        Hazard {
            subject: self.service.clone(),
            text: self.text(),
            command: self.command(),
        }
    }

    /// What is wrong with it, and what a rollout makes of that.
    fn text(&self) -> String {
        let Self {
            service,
            server,
            interval,
            ..
        } = self;
        format!(
            "server {server} of {service} is DOWN by its health check in Traefik: each reload, and so each rollout, sends it \
             requests for up to {interval} again"
        )
    }

    /// The command that takes it out of a Traefik that reads Docker through a socket proxy; `None` where its service does not
    /// come from labels.
    fn command(&self) -> Option<String> {
        let of_labels = provider(&self.service) == "docker";
        let container = self.container.as_ref().filter(|_| of_labels)?;
        Some(format!("rollout relabel {container} traefik.enable=false"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bollard::models::{ContainerSummaryNetworkSettings, EndpointSettings};

    use super::*;

    fn down(server: &str) -> Down {
        Down {
            service: "nb@docker".to_owned(),
            server: server.to_owned(),
            interval: "10s".to_owned(),
            container: None,
        }
    }

    #[test]
    fn the_container_is_found_by_either_of_its_addresses() {
        let endpoint = EndpointSettings {
            ip_address: Some("10.0.0.3".to_owned()),
            global_ipv6_address: Some("fd00::3".to_owned()),
            ..EndpointSettings::default()
        };
        let running = [ContainerSummary {
            names: Some(vec!["/shop-nb-2".to_owned()]),
            network_settings: Some(ContainerSummaryNetworkSettings {
                networks: Some(HashMap::from([("front".to_owned(), endpoint)])),
            }),
            ..ContainerSummary::default()
        }];
        for server in ["http://10.0.0.3:80", "h2c://[fd00::3]:80", "10.0.0.3:5432"] {
            let command = down(server).found_in(&running).command();
            let wanted = "rollout relabel shop-nb-2 traefik.enable=false";
            assert_eq!(command.as_deref(), Some(wanted), "{server}");
        }
        let elsewhere = down("http://10.0.0.30:80").found_in(&running);
        assert_eq!(elsewhere.command(), None);
        let hazard = elsewhere.hazard();
        assert!(hazard.text.contains("for up to 10s"), "{hazard:?}");
        let of_a_file = Down {
            service: "nb@file".to_owned(),
            ..down("http://10.0.0.3:80").found_in(&running)
        };
        assert_eq!(of_a_file.command(), None);
    }
}
