//! The code for one kind of proxy: what it finds in front of a service, and what it objects to in the new version.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{Bypass, Hazard, Router, landscape::Landscape, none::NoProxy};
use crate::{
    context::{RunContext, ServiceContext},
    error::Result,
    model::Replica,
    namespace::traffic::Protocol,
    settings::{Settings, Strategy},
};

#[async_trait(?Send)]
pub trait Driver {
    /// Finds what is in front of a service. An error is why its traffic cannot be moved.
    async fn detect(
        &self,
        run: &RunContext<'_>,
        context: &ServiceContext<'_>,
        landscape: &mut Landscape,
    ) -> Result<Detection>;

    /// Refuses replicas that carry the traffic of rollouts themselves.
    async fn refuse_own_parts(&self, landscape: &Landscape, replicas: &[Replica]) -> Result<()>;

    /// Refuses to go on without a proxy while an unfinished rollout still moves the traffic by this kind.
    async fn refuse_left(
        &self,
        context: &ServiceContext<'_>,
        landscape: &mut Landscape,
    ) -> Result<()>;
}

/// What is in front of one service.
pub struct Detection {
    pub router: Box<dyn Router>,
    /// What an operator has to know of how the traffic is moved.
    pub notices: Vec<String>,
    pub bypasses: Vec<Bypass>,
    pub hazards: Vec<Hazard>,
    /// What the driver objects to in the names and labels of the new version: why it is refused, or else notices.
    pub objections: Result<Vec<String>>,
}

impl Detection {
    pub fn new(router: Box<dyn Router>) -> Self {
        Self {
            router,
            notices: Vec::new(),
            bypasses: Vec::new(),
            hazards: Vec::new(),
            objections: Ok(Vec::new()),
        }
    }

    /// A service that is rolled on health alone.
    pub fn without_proxy(context: &ServiceContext<'_>, landscape: &Landscape) -> Self {
        Self::new(Box::new(NoProxy::new(&landscape.engine, &context.key)))
    }

    /// What the operator reads once a rollout begins.
    pub fn all_notices(&self, settings: &Settings) -> Vec<String> {
        // Stopped first, no version answers beside the other.
        let twice = settings.strategy != Strategy::Recreate;
        let bypasses = self.bypasses.iter().filter(|_| twice);
        let hazards = self.hazards.iter().filter(|_| self.router.routes());
        let all = self.notices.iter().cloned();
        all.chain(bypasses.map(|own| own.text.clone()))
            .chain(hazards.map(Hazard::warning))
            .collect()
    }

    /// The ports that the proxy sends to without the router of the labels, and what is spoken on each.
    pub fn called_ports(&self) -> BTreeMap<u16, Protocol> {
        self.bypasses.iter().filter_map(|own| own.port).collect()
    }
}
