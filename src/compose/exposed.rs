//! The ports that the containers of a service expose. Pure.

use std::collections::BTreeSet;

use super::Service;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exposed {
    pub port: u16,
    /// False is TCP.
    pub udp: bool,
}

impl Exposed {
    /// Reads `80`, `80/tcp`, `53/udp`, and ranges such as `8000-8002/tcp`. Other texts give no port.
    pub fn read(text: &str) -> Vec<Self> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else {
            return Vec::new();
        };
        let udp = protocol == "udp";
        (first..=last).map(|port| Self { port, udp }).collect()
    }
}

/// The ports of the image, of `expose` and of `ports`.
pub fn exposed(service: &Service, image_ports: &[String]) -> Vec<Exposed> {
    let published = service.published_ports.iter().map(|own| Exposed {
        port: own.target,
        udp: own.protocol == "udp",
    });
    let texts = image_ports.iter().chain(&service.expose);
    let exposed = texts.flat_map(|text| Exposed::read(text));
    // A set, because an image may have any number of overlapping ranges.
    let exposed: BTreeSet<Exposed> = exposed.chain(published).collect();
    exposed.into_iter().collect()
}

pub fn tcp(exposed: &[Exposed]) -> Vec<u16> {
    let tcp = exposed.iter().filter(|own| !own.udp);
    tcp.map(|own| own.port).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        arbitrary::mutated_text,
        compose::{HostPorts, PublishedPort},
    };

    #[test]
    fn ports_of_the_image_the_file_and_the_host_are_exposed() {
        let published = |target, protocol: &str| PublishedPort {
            host_ip: None,
            host: HostPorts::Ephemeral,
            target,
            protocol: protocol.to_owned(),
        };
        let service = Service {
            expose: vec!["81".to_owned()],
            published_ports: vec![published(82, "tcp"), published(53, "udp")],
            ..Service::default()
        };
        let all = exposed(&service, &["80/tcp".to_owned()]);
        assert_eq!(tcp(&all), [80, 81, 82]);
        assert!(all.contains(&Exposed {
            port: 53,
            udp: true
        }));
    }

    proptest! {
        #[test]
        fn any_text_is_a_range_of_ports_or_none(text in mutated_text("8000-8002/udp")) {
            let read = Exposed::read(&text);
            prop_assert!(read.windows(2).all(|two| two[1].port == two[0].port + 1 && two[1].udp == two[0].udp));
            let ends = read.first().zip(read.last());
            let shown = |own: &Exposed| text.contains(&own.port.to_string());
            prop_assert!(ends.is_none_or(|(first, last)| shown(first) && shown(last)), "{:?}", ends);
        }
    }

    #[test]
    fn a_port_of_many_ranges_counts_once() {
        let ranges: Vec<String> = (0..5)
            .map(|zeros| format!("{}-65535/tcp", "0".repeat(zeros + 1)))
            .collect();
        assert_eq!(exposed(&Service::default(), &ranges).len(), 65_536);
    }
}
