//! The log on standard error.

use tracing_subscriber::{
    Layer, Registry,
    filter::Targets,
    layer::{Layered, SubscriberExt as _},
    util::SubscriberInitExt as _,
};

/// What is logged before it is written: a level for each target. `EnvFilter` could filter by spans, too, and brings a compiler
/// of regular expressions into the program.
pub type Filtered = Layered<Targets, Registry>;

/// Logs what `RUST_LOG` asks for, else what `usual` does. A second subscriber can only come from a test; the first one stays.
pub fn start(usual: &str, lines: impl Layer<Filtered> + Send + Sync) {
    let asked = std::env::var("RUST_LOG").unwrap_or_default();
    let filter = filter(&asked, usual);
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
}

fn filter(asked: &str, usual: &str) -> Targets {
    let asked = Some(asked).filter(|own| !own.is_empty());
    let asked = asked.and_then(|own| own.parse().ok());
    asked.unwrap_or_else(|| usual.parse().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn what_is_asked_for_counts_unless_it_cannot_be_read() {
        let shows = |asked: &str, target: &str, level| {
            filter(asked, "rollout=info").would_enable(target, &level)
        };
        assert!(shows("", "rollout::app", Level::INFO));
        assert!(!shows("", "hyper", Level::ERROR));
        assert!(shows(
            "rollout::event=debug",
            "rollout::event",
            Level::DEBUG
        ));
        assert!(!shows("rollout::event=debug", "rollout::app", Level::ERROR));
        assert!(shows("warn,hyper=trace", "hyper::proto", Level::TRACE));
        assert!(shows("a=loud", "rollout::app", Level::INFO));
    }
}
