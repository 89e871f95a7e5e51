//! Plans the services of one command, and touches nothing.

use super::{super::print, work::Work};
use crate::{
    cli::TargetArgs,
    error::{Outcome, Result},
    event::{Event, Events, Plan},
    proxy::landscape::Listed,
    report::{self, Output},
    stack::{choose::Left, graph::Order},
};

impl<'a> Work<'a> {
    /// Plans the services once all are checked, as before a rollout.
    pub async fn plan(
        &self,
        mut order: Order<'a>,
        mut left: Vec<Left>,
        listed: Result<Listed>,
    ) -> Result<Outcome> {
        let (prepared, _) = self.prepare_all(&mut order, &mut left, listed).await?;
        self.refuse_alone(&prepared)?;
        self.share_variables(&order);
        let mut outcome = Outcome::Done;
        for own in prepared {
            let name = own.scope().service();
            match self.or_left(name, own.preview().await)? {
                Ok(plan) => {
                    if !plan.steps.is_empty() {
                        outcome = Outcome::Changes;
                    }
                    show(plan, &self.of_each[name], &self.up.target);
                }
                Err(own) => self.report_left(&[own]),
            }
        }
        Ok(outcome)
    }
}

/// Reports a plan: as an event, and for people on standard output.
pub fn show(plan: Plan, events: &Events, target: &TargetArgs) {
    events.emit(Event::Plan(plan.clone()));
    if target.output != Some(Output::Json) {
        let title = events.scope().title();
        print(report::plan::human(&title, &plan).as_bytes());
    }
}
