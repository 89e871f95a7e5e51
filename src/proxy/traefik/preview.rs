//! What a preview makes of a new version: which requests reach it, and as what Traefik sees its replicas.

use std::collections::BTreeMap;

use super::{
    config::{StaticConfig, TraefikContainer},
    labels::ways,
};
use crate::{model::ContainerId, overlay::Labels, settings::PreviewRule};

/// The preview of one service.
pub struct Preview {
    /// Which requests it gets, if there is one.
    pub rule: Option<PreviewRule>,
    /// How every Traefik that shows it is configured.
    fronts: Vec<StaticConfig>,
    /// The labels by which Traefik sees previewed replicas, as they were last.
    pub labels: BTreeMap<ContainerId, Labels>,
}

impl Preview {
    /// One that these Traefiks show.
    pub fn new<'a>(
        rule: Option<PreviewRule>,
        traefiks: impl Iterator<Item = &'a TraefikContainer>,
    ) -> Self {
        Self {
            rule,
            fronts: traefiks.map(|own| own.config.clone()).collect(),
            labels: BTreeMap::new(),
        }
    }

    /// How to reach it: a line each.
    pub fn ways(&self) -> Vec<String> {
        let fronts = &self.fronts;
        let is_secured = |names: &[&str]| {
            let mut all = fronts.iter();
            !fronts.is_empty() && all.all(|own| own.are_secured(names))
        };
        let first = self.labels.values().next();
        first.map_or_else(Vec::new, |labels| ways(labels, is_secured))
    }
}
