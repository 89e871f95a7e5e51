//! Which Traefiks and socket proxies are in front of a service, and what else those Traefiks read.

mod in_front;
mod instances;
mod neighbours;
mod readers;
mod traefiks;

use self::traefiks::sightings;
pub use self::{
    in_front::{Wanted, concerns},
    neighbours::{neighbours, new_versions},
    readers::is_traefik,
    traefiks::traefiks,
};
pub(super) use self::{
    in_front::{refuse_lost, refuse_unwatched},
    instances::{Instance, Instances},
    neighbours::is_unknown,
    readers::{may_matter, readers, refuse_own_parts, traefik_itself},
};
