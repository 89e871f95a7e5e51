//! The command line as the Docker CLI hands it to a plugin: `docker-rollout [Docker's options] rollout …`. Pure.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

use crate::error::{Error, Result};

/// Docker's global options that take a value (docker/cli, `cli/flags/options.go`); the rest are switches.
const VALUED: [(&str, Option<char>); 7] = [
    ("config", None),
    ("context", Some('c')),
    ("host", Some('H')),
    ("log-level", Some('l')),
    ("tlscacert", None),
    ("tlscert", None),
    ("tlskey", None),
];

/// A command line without what only Docker's CLI understands.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The program's name and its own arguments.
    pub arguments: Vec<OsString>,
    /// Docker's options that are variables to everything else: names and values.
    pub environment: Vec<(&'static str, OsString)>,
}

/// Reads the options before the plugin's name; any other command line stays as it is.
pub fn read(arguments: Vec<OsString>) -> Result<Call> {
    let program = arguments.first().map(Path::new);
    let is_plugin = program.and_then(Path::file_name) == Some(OsStr::new("docker-rollout"));
    let Some(end) = is_plugin.then(|| name_at(&arguments)).flatten() else {
        return Ok(Call {
            arguments,
            ..Call::default()
        });
    };
    // What its help calls it.
    let mut call = Call {
        arguments: vec!["docker rollout".into()],
        ..Call::default()
    };
    let mut words = arguments[1..end].iter();
    while let Some(word) = words.next() {
        let (name, value) = option(word, &mut words);
        match name.as_str() {
            "context" | "host" => call.arguments.extend([format!("--{name}").into(), value]),
            "config" => call.environment.push(("DOCKER_CONFIG", value)),
            "tls" if is_on(&value) => call.environment.push(("DOCKER_TLS", "1".into())),
            "tlsverify" if is_on(&value) => {
                call.environment.push(("DOCKER_TLS_VERIFY", "1".into()));
            }
            "tlscacert" => call.certificate(&name, &value, "ca.pem")?,
            "tlscert" => call.certificate(&name, &value, "cert.pem")?,
            "tlskey" => call.certificate(&name, &value, "key.pem")?,
            // Docker's own log.
            "debug" | "log-level" | "tls" | "tlsverify" => {}
            _ => call.arguments.push(word.clone()),
        }
    }
    call.arguments.extend_from_slice(&arguments[end + 1..]);
    Ok(call)
}

impl Call {
    /// The variables know a directory, in which the files have Docker's names.
    fn certificate(&mut self, option: &str, path: &OsStr, name: &str) -> Result<()> {
        let path = Path::new(path);
        let directory = path.parent().unwrap_or(path).as_os_str();
        let mut known = self.environment.iter();
        let other = known.any(|(own, value)| *own == "DOCKER_CERT_PATH" && value != directory);
        if other || path.file_name() != Some(OsStr::new(name)) {
            let message = format!(
                "--{option} {}: rollout reads ca.pem, cert.pem and key.pem of one directory",
                path.display()
            );
            return Err(Error::refused(message).hint("name that directory: DOCKER_CERT_PATH=DIR"));
        }
        self.environment
            .push(("DOCKER_CERT_PATH", directory.to_owned()));
        Ok(())
    }
}

/// Where the plugin's name stands: the first word that is neither an option nor the value of one.
fn name_at(arguments: &[OsString]) -> Option<usize> {
    let mut at = 1;
    while let Some(word) = arguments.get(at).and_then(|word| word.to_str()) {
        match word.strip_prefix('-') {
            None => return (word == "rollout").then_some(at),
            Some(_) if takes_next(word) => at += 2,
            Some(_) => at += 1,
        }
    }
    None
}

/// Whether an option's value is the word after it.
fn takes_next(word: &str) -> bool {
    VALUED.iter().any(|(long, short)| {
        word.strip_prefix("--") == Some(*long)
            || short.is_some_and(|short| word == format!("-{short}"))
    })
}

/// An option's long name and its value; `true` for a switch.
fn option<'a>(word: &OsStr, rest: &mut impl Iterator<Item = &'a OsString>) -> (String, OsString) {
    let text = word.to_string_lossy();
    let (name, given) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text.as_ref(), None),
    };
    if let Some(long) = name.strip_prefix("--") {
        let value = match takes_next(name) {
            true => given.map(OsString::from).or_else(|| rest.next().cloned()),
            false => Some(given.unwrap_or_else(|| "true".to_owned()).into()),
        };
        return (long.to_owned(), value.unwrap_or_default());
    }
    let mut letters = text[1..].chars();
    let letter = letters.next();
    let valued = VALUED
        .iter()
        .find(|(_, short)| short.is_some() && *short == letter);
    match (letter, valued) {
        (_, Some((long, _))) if letters.as_str().is_empty() => {
            ((*long).to_owned(), rest.next().cloned().unwrap_or_default())
        }
        (_, Some((long, _))) => {
            let value = letters.as_str();
            (
                (*long).to_owned(),
                value.strip_prefix('=').unwrap_or(value).into(),
            )
        }
        (Some('D'), None) => ("debug".to_owned(), "true".into()),
        _ => (String::new(), OsString::new()),
    }
}

/// What Go's `strconv.ParseBool` takes for true.
fn is_on(value: &OsStr) -> bool {
    ["1", "t", "T", "true", "True", "TRUE"]
        .iter()
        .any(|on| value == *on)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::mutated_text;

    fn call(line: &str) -> Result<Call> {
        read(line.split_whitespace().map(OsString::from).collect())
    }

    #[test]
    fn every_option_of_docker_is_taken_before_the_name() {
        for (options, own, environment) in [
            ("", "", &[][..]),
            ("-D", "", &[]),
            ("--debug --log-level debug -l info -lwarn", "", &[]),
            ("-c rollout", "--context rollout", &[]),
            ("-cfar -H=tcp://far", "--context far --host tcp://far", &[]),
            ("--config /x", "", &[("DOCKER_CONFIG", "/x")]),
            (
                "--config=/x --tls",
                "",
                &[("DOCKER_CONFIG", "/x"), ("DOCKER_TLS", "1")],
            ),
            ("--tlsverify=false", "", &[]),
            (
                "--tlsverify --tlscacert=/c/ca.pem --tlscert /c/cert.pem",
                "",
                &[
                    ("DOCKER_TLS_VERIFY", "1"),
                    ("DOCKER_CERT_PATH", "/c"),
                    ("DOCKER_CERT_PATH", "/c"),
                ],
            ),
            ("--unknown -x", "--unknown -x", &[]),
        ] {
            let found = call(&format!("/p/docker-rollout {options} rollout -D web")).unwrap();
            let own = own.split_whitespace().map(OsString::from);
            let name = std::iter::once(OsString::from("docker rollout"));
            let expected: Vec<OsString> =
                name.chain(own).chain(["-D".into(), "web".into()]).collect();
            assert_eq!(found.arguments, expected, "{options}");
            let environment: Vec<(&str, OsString)> = environment
                .iter()
                .map(|(name, value)| (*name, value.into()))
                .collect();
            assert_eq!(found.environment, environment, "{options}");
        }
    }

    #[test]
    fn without_the_name_nothing_is_read() {
        for line in [
            "/p/docker-rollout docker-cli-plugin-metadata",
            "rollout -D rollout",
            "docker-rollout --host",
        ] {
            let found = call(line).unwrap();
            assert_eq!(found.environment, []);
            assert_eq!(found.arguments.len(), line.split(' ').count(), "{line}");
        }
    }

    #[test]
    fn certificates_of_other_names_or_places_are_refused() {
        for options in [
            "--tlskey /c/own.key",
            "--tlscacert /a/ca.pem --tlskey /c/key.pem",
        ] {
            let error = call(&format!("docker-rollout {options} rollout web")).unwrap_err();
            assert!(error.message.contains("one directory"), "{}", error.message);
        }
    }

    proptest! {
        #[test]
        fn any_options_are_read_or_refused(options in mutated_text("--tlscert=/c/cert.pem -H tcp://x -D --config /x")) {
            let _ = call(&format!("docker-rollout {options} rollout web"));
        }
    }
}
