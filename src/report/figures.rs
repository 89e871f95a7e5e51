//! The figures of a rollout for a person: at most one line for each side and span.

use crate::figures::{Figures, Spans};

/// One line where too few requests came to say anything.
pub fn lines(spans: &Spans) -> Vec<String> {
    let rows = [
        ("old before", &spans.before.old),
        ("old during", &spans.during.old),
        ("new during", &spans.during.new),
        ("new after", &spans.after.new),
    ];
    let rows = rows.into_iter().filter_map(|(name, own)| {
        let said = own.as_ref().and_then(line)?;
        Some(format!("    {name:<10}  {said}"))
    });
    let rows: Vec<String> = rows.collect();
    match rows.is_empty() {
        true => vec!["    figures     n/a: too few requests were seen".to_owned()],
        false => rows,
    }
}

/// `None` where there is nothing to say.
fn line(own: &Figures) -> Option<String> {
    let requests = match (own.blind, own.success_rate, own.requests, own.failed) {
        (true, ..) => "n/a: its traffic is TLS or no HTTP".to_owned(),
        (_, Some(rate), Some(requests), Some(failed)) => {
            format!("{requests} requests, {failed} failed ({rate} % good)")
        }
        _ => return None,
    };
    let percentiles = [
        ("p50", own.p50_ms),
        ("p95", own.p95_ms),
        ("p99", own.p99_ms),
    ];
    let percentiles = percentiles
        .into_iter()
        .filter_map(|(name, ms)| Some(format!("{name} {} ms", ms?)));
    let used = [
        own.cpu.map(|cpu| format!("cpu {cpu}")),
        own.memory.map(|bytes| format!("{} MiB", bytes >> 20)),
        (own.restarts > 0).then(|| format!("{} restarts", own.restarts)),
        (own.oom_kills > 0).then(|| format!("{} out of memory", own.oom_kills)),
    ];
    let parts = [requests].into_iter().chain(percentiles);
    let parts: Vec<String> = parts.chain(used.into_iter().flatten()).collect();
    Some(parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Sides;

    fn figures(requests: u64) -> Figures {
        Figures {
            requests: Some(requests),
            failed: Some(2),
            success_rate: (requests >= 20).then_some(99.5),
            p50_ms: Some(2.01),
            cpu: Some(0.25),
            memory: Some(64 << 20),
            ..Figures::default()
        }
    }

    #[test]
    fn each_side_that_answered_enough_has_a_line() {
        let blind = Figures {
            blind: true,
            restarts: 2,
            ..Figures::default()
        };
        let spans = Spans {
            before: Sides {
                old: Some(figures(400)),
                new: None,
            },
            during: Sides {
                old: Some(figures(19)),
                new: Some(blind),
            },
            after: Sides::default(),
        };
        assert_eq!(
            lines(&spans),
            [
                "    old before  400 requests, 2 failed (99.5 % good), p50 2.01 ms, cpu 0.25, 64 MiB",
                "    new during  n/a: its traffic is TLS or no HTTP, 2 restarts",
            ]
        );
    }

    #[test]
    fn without_enough_requests_one_line_says_so() {
        let said = lines(&Spans::default());
        assert_eq!(said, ["    figures     n/a: too few requests were seen"]);
    }
}
