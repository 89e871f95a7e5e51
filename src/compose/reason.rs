//! Finds the line of Compose's standard error that explains a failure.

/// The first line explains an error in a file; the last one explains a failed run with progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    First,
    Last,
}

/// The first or last line that is neither progress nor a warning, or a plain sentence without one.
pub fn reason(errors: &[String], which: Which) -> String {
    let mut meaningful = errors.iter().filter_map(|line| message(line));
    let found = match which {
        Which::First => meaningful.next(),
        Which::Last => meaningful.next_back(),
    };
    found.unwrap_or_else(|| "docker compose failed without a message".to_owned())
}

/// The message of a line that is neither progress nor a warning.
fn message(line: &str) -> Option<String> {
    let line = line.trim();
    if line.is_empty() || is_progress(line) || line.contains("level=warning") {
        return None;
    }
    let line = line
        .split_once("level=fatal msg=")
        .or(line.split_once("level=error msg="))
        .map_or(line, |(_, message)| message.trim_matches('"'));
    let line = line.trim_start_matches("Error response from daemon: ");
    let line = line.trim_start_matches("Error: ");
    (!line.is_empty()).then(|| line.to_owned())
}

/// Such as ` Container shop-web-1  Creating`: a kind, a name, and one word.
fn is_progress(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let kind = words.next().unwrap_or_default();
    ["Container", "Network", "Volume", "Image", "Service"].contains(&kind) && words.count() <= 2
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::arbitrary::mutated_text;

    const FATAL: &str = r#"time="x" level=fatal msg="no configuration""#;

    #[test]
    fn progress_and_warnings_are_not_reasons() {
        let errors = [
            r#"time="2026-11-21T09:31:04Z" level=warning msg="the attribute `version` is obsolete""#,
            " Container shop-web-1  Creating",
            " Network shop_default  Created",
            "",
            "Error response from daemon: Conflict. The container name is in use",
        ]
        .map(str::to_owned);
        assert_eq!(
            reason(&errors, Which::Last),
            "Conflict. The container name is in use"
        );
        assert_eq!(
            reason(&errors[..3], Which::First),
            "docker compose failed without a message"
        );
    }

    #[test]
    fn a_fatal_log_line_gives_its_message() {
        let errors = [FATAL.to_owned()];
        assert_eq!(reason(&errors, Which::First), "no configuration");
        let errors = [r#"time="x" level=fatal msg="""#.to_owned()];
        let nothing = "docker compose failed without a message";
        assert_eq!(reason(&errors, Which::First), nothing);
    }

    #[test]
    fn the_first_line_explains_a_file_and_the_last_line_a_run() {
        let errors = ["yaml: line 3: mapping", "  in compose.yaml"].map(str::to_owned);
        assert_eq!(reason(&errors, Which::First), "yaml: line 3: mapping");
        assert_eq!(reason(&errors, Which::Last), "in compose.yaml");
    }

    proptest! {
        #[test]
        fn any_error_output_of_compose_has_a_reason_that_is_a_part_of_it(
            errors in vec(prop_oneof![mutated_text(FATAL), mutated_text("Error response from daemon: Error: in use")], 0..3),
        ) {
            for which in [Which::First, Which::Last] {
                let found = reason(&errors, which);
                let is_part = errors.iter().any(|line| line.contains(&found));
                prop_assert!(is_part || found == "docker compose failed without a message", "{:?}", found);
                prop_assert!(!found.is_empty());
            }
        }
    }
}
