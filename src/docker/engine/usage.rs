//! What a container uses of the machine.

use std::{collections::HashMap, time::Duration};

use bollard::{models::ContainerStatsResponse, query_parameters as query};
use futures_util::{Stream, StreamExt};

use super::{Engine, failed, since_1970};
use crate::{
    error::Result,
    model::{ContainerId, Usage},
};

impl Engine {
    /// What a container uses, as often as the engine reads it. Nothing comes of one that does not run.
    pub fn usages(&self, id: &ContainerId) -> impl Stream<Item = Usage> + Send + Unpin + use<> {
        let options = query::StatsOptionsBuilder::default().stream(true).build();
        let all = self.docker.stats(&id.0, Some(options));
        Box::pin(all.filter_map(async |read| usage(read.ok()?)))
    }

    /// Bytes received and sent by a container, summed over its networks.
    pub async fn network_bytes(&self, id: &ContainerId) -> Result<(u64, u64)> {
        let options = query::StatsOptionsBuilder::default()
            .stream(false)
            .one_shot(true)
            .build();
        let mut stats = Box::pin(self.docker.stats(&id.0, Some(options)));
        let read = stats.next().await.transpose();
        let read = read.map_err(|error| failed("read a container's counters", &error))?;
        let networks = read.and_then(|stats| stats.networks).unwrap_or_default();
        let sum = |of: fn(&bollard::models::ContainerNetworkStats) -> Option<u64>| {
            networks.values().filter_map(of).sum::<u64>()
        };
        Ok((
            sum(|network| network.rx_bytes),
            sum(|network| network.tx_bytes),
        ))
    }
}

/// Without the part of the page cache that the kernel can take back, as `docker stats` shows it.
fn usage(stats: ContainerStatsResponse) -> Option<Usage> {
    let at = since_1970(&stats.read?)?;
    let cpu = stats.cpu_stats?.cpu_usage?.total_usage?;
    let memory = stats.memory_stats?;
    let details: HashMap<String, u64> = memory.stats.unwrap_or_default();
    let cache = details.get("total_inactive_file");
    let cache = cache.or_else(|| details.get("inactive_file"));
    let memory = memory.usage?.saturating_sub(cache.copied().unwrap_or(0));
    Some(Usage {
        at,
        cpu: Duration::from_nanos(cpu),
        memory,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(stats: serde_json::Value) -> Option<Usage> {
        usage(serde_json::from_value(stats).unwrap())
    }

    #[test]
    fn the_cache_that_the_kernel_can_take_back_is_not_in_use() {
        for key in ["inactive_file", "total_inactive_file"] {
            let stats = json!({
                "read": "1970-01-01T01:00:02.5+01:00",
                "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000_u64}},
                "memory_stats": {"usage": 5000, "stats": {key: 1000}},
            });
            let usage = Usage {
                at: Duration::from_millis(2500),
                cpu: Duration::from_millis(1500),
                memory: 4000,
            };
            assert_eq!(read(stats), Some(usage));
        }
    }

    #[test]
    fn a_container_that_does_not_run_uses_nothing_that_is_known() {
        let read_at = "0001-01-01T00:00:00Z";
        let stopped = json!({"read": read_at, "cpu_stats": {}, "memory_stats": {}});
        assert_eq!(read(stopped), None);
    }
}
