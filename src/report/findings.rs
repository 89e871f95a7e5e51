//! What `rollout doctor` has found: a table, and below it what to paste.

pub use super::lines as json;
use super::{table::table, word};
use crate::doctor::{Finding, Fix, Level};

/// A table of all findings, then the fix of each that is not well.
pub fn human(findings: &[Finding]) -> String {
    let rows = findings.iter().map(|own| {
        [
            word(&own.level).to_uppercase(),
            word(&own.check),
            own.subject.clone(),
            own.text.clone(),
        ]
    });
    let mut text = table(["level", "check", "of", "finding"], rows);
    let mut fixes: Vec<(&Fix, Vec<String>)> = Vec::new();
    for own in findings.iter().filter(|own| own.level != Level::Ok) {
        let Some(fix) = &own.fix else { continue };
        let about = format!("{} of {}", word(&own.check), own.subject);
        match fixes.iter_mut().find(|(known, _)| *known == fix) {
            Some((_, abouts)) => abouts.push(about),
            None => fixes.push((fix, vec![about])),
        }
    }
    for (fix, abouts) in fixes {
        text += &format!("\n{}: {}\n", abouts.join(", "), fix.text);
        text += &format_fix(fix);
    }
    text
}

/// The snippets as they are pasted, and the command that comes last.
fn format_fix(fix: &Fix) -> String {
    let mut text = String::new();
    for (what, snippet) in fix.instructions() {
        text += &format!("  {what}\n");
        text.extend(snippet.lines().map(|line| format!("      {line}\n")));
    }
    if let Some(command) = &fix.run {
        text += &format!("  then: {command}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Check;

    #[test]
    fn one_fix_of_two_findings_is_printed_once_below_the_table() {
        let finding = |check, level| Finding {
            level,
            check,
            subject: "web".to_owned(),
            text: "so it is".to_owned(),
            fix: Some(Fix::run("mend it", "rollout web")),
        };
        let text = human(&[
            finding(Check::Api, Level::Fail),
            finding(Check::Socket, Level::Warn),
            finding(Check::Engine, Level::Ok),
        ]);
        let below = "\napi of web, socket of web: mend it\n  then: rollout web\n";
        assert!(text.ends_with(below), "{text}");
        assert!(
            text.contains(" FAIL    api      web   so it is\n"),
            "{text}"
        );
    }
}
