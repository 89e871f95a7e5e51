//! The figures of a rollout for a person: one line for each side and span.

use crate::figures::{Figures, Spans};

/// The lines of each side that was watched.
pub fn lines(spans: &Spans) -> Vec<String> {
    let rows = sides(spans).into_iter();
    let rows = rows.filter_map(|(name, own)| {
        let said = line(own.as_ref()?);
        Some(format!("    {name:<10}  {said}"))
    });
    rows.collect()
}

/// The same, and nothing where no side says anything of its requests.
pub fn lines_if_any(spans: &Spans) -> Vec<String> {
    let says = |own: &Figures| own.blind || own.success_rate.is_some();
    let mut sides = sides(spans).into_iter();
    match sides.any(|(_, own)| own.as_ref().is_some_and(says)) {
        true => lines(spans),
        false => Vec::new(),
    }
}

/// Each side in each span in which it is watched, by its name.
pub(super) fn sides(spans: &Spans) -> [(&'static str, &Option<Figures>); 4] {
    [
        ("old before", &spans.before.old),
        ("old during", &spans.during.old),
        ("new during", &spans.during.new),
        ("new after", &spans.after.new),
    ]
}

fn line(own: &Figures) -> String {
    let requests = match (own.blind, own.success_rate, own.requests, own.failed) {
        (true, ..) => "n/a: its traffic is TLS or no HTTP".to_owned(),
        (_, Some(rate), Some(requests), Some(failed)) => {
            format!("{requests} requests, {failed} failed ({rate} % good)")
        }
        (_, None, Some(requests), _) => format!("n/a: {requests} requests"),
        _ => "n/a".to_owned(),
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
    parts.join(", ")
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
                "    old during  n/a: 19 requests, p50 2.01 ms, cpu 0.25, 64 MiB",
                "    new during  n/a: its traffic is TLS or no HTTP, 2 restarts",
            ]
        );
        assert_eq!(lines_if_any(&spans), lines(&spans));
    }

    #[test]
    fn without_enough_requests_no_line_is_drawn() {
        let mut spans = Spans::default();
        spans.before.old = Some(figures(19));
        spans.after.new = Some(Figures::default());
        assert_eq!(lines_if_any(&spans), [""; 0]);
        assert_eq!(lines(&spans)[1], "    new after   n/a");
    }
}
