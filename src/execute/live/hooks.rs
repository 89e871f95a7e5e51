//! Runs the hooks of a phase while the new replicas are watched.

use super::{
    Live, Sets,
    traffic::{serving, until_one_fails},
};
use crate::{
    ask::{Request, requested},
    execute::hook::Runner,
    model::{Desired, Facts, Goal, HookEnd, HookPhase},
};

impl Live<'_> {
    /// Ends the hooks as soon as a new replica fails, or another service of a joint cutover, or another run asks to go back: a
    /// rollback must not wait for them.
    pub(super) async fn hook(
        &mut self,
        phase: HookPhase,
        desired: &Desired,
        sets: &Sets<'_>,
        facts: &mut Facts,
    ) {
        let Some(about) = &self.about else { return };
        let runner = Runner {
            run: self.run,
            context: self.context,
            lock: self.lock,
            events: self.events,
            about,
        };
        let (engine, watch) = (self.run.engine, self.watch);
        let member = self.member;
        let others = async {
            match member {
                Some(member) => drop(member.failed().await),
                None => std::future::pending().await,
            }
        };
        let (key, since) = (&self.context.key, self.lock.epoch);
        let mut undo = None;
        let failed = async {
            tokio::select! {
                () = until_one_fails(engine, watch, serving(&sets.new)) => {
                    "was ended: a new replica failed".to_owned()
                }
                () = others => "was ended: another service goes back".to_owned(),
                open = requested(engine, key, since, &[Request::Undo]), if desired.goal == Goal::Roll => {
                    let why = format!("was ended: undone by {}", open.asked.who);
                    undo = Some(open);
                    why
                }
            }
        };
        let replica = sets.new.first().map(|new| &new.id);
        let ended = runner.run(phase, (replica, None), failed).await;
        if ended.end != HookEnd::Passed {
            self.memory.logs = ended.lines;
        }
        if let Some(open) = undo {
            facts.is_undone = open.receive().await.is_some();
        }
        facts.hooks.insert(phase, ended.end);
    }
}
