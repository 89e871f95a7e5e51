//! What Traefik makes of the labels of containers: which names they define, which ports they route to, which of them it
//! leaves out, and what clashes. Pure.

mod checks;
mod conflicts;
mod constraints;
mod fields;
mod kept;
mod names;
mod neighbour;
mod network;
mod ports;
mod preview;
mod refuse;
mod weights;

use std::collections::BTreeMap;

pub use self::{
    checks::checks,
    conflicts::{
        Clash, MIDDLEWARE, Object, Outcome, ROUTER, SERVICE, between, clashes, objects_of,
    },
    fields::{Unknown, unknown},
    names::{is_false, is_traefik, wants_traefik},
    neighbour::Neighbour,
    ports::routed,
};
pub(super) use self::{
    kept::{LeftOut, left_out},
    names::{Names, Protocol, all_names, default_name, is_label, names, names_in_swarm},
    neighbour::{is_of, is_well, labels_of},
    network::astray,
    preview::{matched_by, preview, previewed, served_by, ways},
    refuse::unknown_labels,
    weights::{set_weight, weight_labels, weight_of},
};
use crate::{
    context::ServiceContext,
    docker::engine::Image,
    error::Result,
    model::Replica,
    namespace::traffic::Protocol as Spoken,
    overlay::Labels,
    proxy::{LabelRules, ServiceCheck},
    settings::PreviewRule,
};

/// The same for every Traefik, whichever way the traffic is moved.
pub struct TraefikLabels;

impl LabelRules for TraefikLabels {
    fn routed_ports(&self, replica: &Replica) -> BTreeMap<u16, Spoken> {
        routed(&replica.labels, &replica.ports)
    }

    fn only_datagrams(&self, replica: &Replica) -> bool {
        names::only_datagrams(&replica.labels)
    }

    fn speaks_tls(&self, labels: &Labels) -> bool {
        ports::tls(labels)
    }

    fn refuse_version(&self, context: &ServiceContext<'_>, image: &Image) -> Result<()> {
        refuse::ports(context, image)
    }

    fn has_streams(&self, labels: &Labels) -> bool {
        weights::has_streams(labels)
    }

    fn against_weights(&self, labels: &Labels) -> Option<String> {
        weights::refusal(labels)
    }

    fn against_preview(&self, labels: &Labels, rule: &PreviewRule) -> Option<String> {
        preview::refusal(labels, rule)
    }

    fn checks(&self, labels: &Labels, ports: &[u16]) -> Vec<ServiceCheck> {
        checks(labels, ports)
    }
}
