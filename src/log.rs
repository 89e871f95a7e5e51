//! The log on standard error.

use std::io::Write as _;

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
    let filter = filter(&asked, usual).unwrap_or_else(|| {
        // A closed standard error is no failure.
        let _ = writeln!(
            std::io::stderr(),
            "RUST_LOG={asked:?} cannot be read and is ignored; write it as rollout=debug"
        );
        usual.parse().unwrap_or_default()
    });
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
}

/// `None` where what is asked for cannot be read.
fn filter(asked: &str, usual: &str) -> Option<Targets> {
    let text = if asked.is_empty() { usual } else { asked };
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn what_is_asked_for_counts_and_what_cannot_be_read_is_no_filter() {
        let shows = |asked: &str, target: &str, level| {
            let filter = filter(asked, "rollout=info").unwrap();
            filter.would_enable(target, &level)
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
        assert_eq!(filter("a=loud", "rollout=info"), None);
    }
}
