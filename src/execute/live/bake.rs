//! Watches the new replicas after the cutover, while the old ones still run.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::{Live, Memory, Sets, gates::others_changed};
use crate::{
    ask,
    engine::Engine,
    error::Result,
    model::{Baked, Desired, Facts, Replica, Run},
    proxy::Proxy,
    watch::Watch,
};

/// Between two questions to the proxy.
const ASK_EVERY: Duration = Duration::from_millis(500);

impl Live<'_> {
    /// Ends with the time that is set, with the first sign that a new replica is ill, or when somebody asks for the old
    /// version back.
    pub(super) async fn bake(
        &mut self,
        desired: &Desired,
        sets: &Sets<'_>,
        facts: &mut Facts,
    ) -> Result<()> {
        let bake = self.bake;
        let until = *self
            .memory
            .bake_until
            .get_or_insert_with(|| Instant::now() + bake);
        let (engine, watch) = (self.engine, self.watch);
        let down = reported_down(&mut *self.proxy, &sets.news);
        let baked = tokio::select! {
            () = sleep_until(until) => Baked::Well,
            why = soured(engine, watch, &sets.news) => self.memory.found_ill(why?),
            why = down => self.memory.found_ill(why),
            who = ask::heard(engine, &self.key, self.lock.epoch) => Baked::Ill(format!("undone by {who}")),
            // The planner sees what is left to go back to.
            changed = others_changed(engine, watch, &self.key, sets, desired.confirm_hold) => return changed,
        };
        facts.baked = Some(baked);
        Ok(())
    }
}

impl Memory {
    fn found_ill(&mut self, why: String) -> Baked {
        self.ill_since = Some(Instant::now());
        Baked::Ill(why)
    }
}

/// Ends when one of the replicas is not what it was when the watch began: why.
async fn soured(engine: &Engine, watch: &Watch, news: &[&Replica]) -> Result<String> {
    loop {
        let changed = watch.next();
        for new in news {
            let name = new.target_name();
            let why = match engine.replica(&new.id).await? {
                None => "was removed by somebody else".to_owned(),
                Some(now) if now.started_at != new.started_at => "restarted".to_owned(),
                Some(now) if now.serves() => continue,
                Some(now) if now.run == Run::Running => now.with_complaint("became unhealthy"),
                Some(_) => "stopped".to_owned(),
            };
            return Ok(format!("new replica {name} {why} after the cutover"));
        }
        changed.await;
    }
}

/// Ends when the proxy's own health check says that one of the replicas is down: why. That it is up proves nothing: Traefik
/// says so of every server until it has checked it.
async fn reported_down(proxy: &mut dyn Proxy, news: &[&Replica]) -> String {
    let replicas: Vec<Replica> = news.iter().map(|new| (*new).clone()).collect();
    loop {
        let observation = proxy.observed(&replicas).await.unwrap_or_default();
        if let Some(down) = observation.down_among(news) {
            return down;
        }
        sleep(ASK_EVERY).await;
    }
}
