//! Why ssh gave no connection, from its exit code and its own words.

use super::Target;
use crate::error::Error;

/// What a shell answers with for a command that it does not have.
const NOT_FOUND: i32 = 127;

/// One line, and what to do about it.
pub fn explain(target: &Target, code: Option<i32>, said: &[String]) -> Error {
    let has = |text: &str| said.iter().any(|line| line.contains(text));
    let host = &target.host;
    let by_hand = target.by_hand();
    if has("REMOTE HOST IDENTIFICATION HAS CHANGED") {
        return Error::failed(format!("the host key of {host} has changed"))
            .hint(format!("find out why, and run once by hand: {by_hand}"));
    }
    if has("Host key verification failed") || has("host key is known") {
        return Error::failed(format!("the host key of {host} is not known"))
            .hint(format!("run once by hand, and compare the key: {by_hand}"));
    }
    if let Some(line) = said
        .iter()
        .find(|line| line.contains("Permission denied ("))
    {
        return Error::failed(format!("ssh lets nobody in: {line}")).hint(format!(
            "add your key with ssh-add, or to ~/.ssh/config; try: {by_hand}"
        ));
    }
    if code == Some(NOT_FOUND) {
        return Error::failed(format!("docker was not found on {host}")).hint(format!(
            "install it there, and see that a shell without a terminal finds it: {by_hand} docker version"
        ));
    }
    if has("is not a docker command") {
        return Error::failed(format!("docker on {host} is too old for ssh://"))
            .hint("18.09 is the first that serves it");
    }
    match said.last() {
        Some(line) => Error::failed(line.clone()).hint(format!("try: {by_hand}")),
        None => Error::failed(format!("ssh to {host} ended without a word"))
            .hint(format!("try: {by_hand} docker version")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    const SAID: &str =
        "me@far: Permission denied (publickey).\ndocker: 'x' is not a docker command.\n";

    fn explained(code: i32, said: &[&str]) -> Error {
        let target = Target::parse("ssh://me@far:22").unwrap();
        let said: Vec<String> = said.iter().map(|&line| line.to_owned()).collect();
        explain(&target, Some(code), &said)
    }

    /// The message, whose hint has a command to try by hand.
    fn why(code: i32, said: &[&str]) -> String {
        let error = explained(code, said);
        let hint = error.hint.unwrap();
        assert!(hint.contains("me@far"), "{hint}");
        error.message
    }

    #[test]
    fn each_failure_has_its_line() {
        assert_eq!(
            why(
                255,
                &[
                    "No ED25519 host key is known for [far]:22 and you have requested strict checking.",
                    "Host key verification failed."
                ]
            ),
            "the host key of far is not known"
        );
        assert_eq!(
            why(
                255,
                &[
                    "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @",
                    "Host key verification failed."
                ]
            ),
            "the host key of far has changed"
        );
        assert_eq!(
            why(255, &["me@far: Permission denied (publickey)."]),
            "ssh lets nobody in: me@far: Permission denied (publickey)."
        );
        assert_eq!(
            why(127, &["bash: line 1: docker: command not found"]),
            "docker was not found on far"
        );
        let old = explained(1, &["docker: 'dial-stdio' is not a docker command."]);
        assert_eq!(old.message, "docker on far is too old for ssh://");
        let first = "18.09 is the first that serves it";
        assert_eq!(old.hint.as_deref(), Some(first));
        assert_eq!(
            why(
                255,
                &["ssh: connect to host far port 22: Connection refused"]
            ),
            "ssh: connect to host far port 22: Connection refused"
        );
        assert_eq!(why(255, &[]), "ssh to far ended without a word");
    }

    proptest! {
        #[test]
        fn any_output_of_ssh_is_a_failure_of_one_line_with_a_hint(said in mutated_text(SAID), code in any::<u8>()) {
            let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            let error = explained(code.into(), &said);
            let longest = said.iter().map(|line| line.len()).max().unwrap_or(0);
            prop_assert!(!error.message.is_empty() && !error.message.contains('\n'), "{:?}", error.message);
            prop_assert!(error.message.len() <= longest + 40, "{:?}", error.message);
            prop_assert!(error.hint.is_some_and(|hint| !hint.contains('\n')));
        }
    }
}
