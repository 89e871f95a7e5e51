//! The command line as the Docker CLI hands it to a plugin: `docker-rollout [Docker's options] rollout …`. Pure.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

use crate::error::{Error, Result};

/// The program's name in its help.
const NAME: &str = "docker rollout";
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

/// An option's name and its value; `true` for a switch.
type Given = (String, OsString);

/// A command line without Docker's own options.
#[derive(Debug)]
pub struct Call {
    /// The program's name and its own arguments.
    pub arguments: Vec<OsString>,
    /// Docker's options that have a variable: names and values.
    pub environment: Vec<(&'static str, OsString)>,
}

/// Reads the options before the plugin's name; any other command line stays as it is.
pub fn read(arguments: Vec<OsString>) -> Result<Call> {
    let program = arguments.first().map(Path::new);
    if program.and_then(Path::file_name) != Some(OsStr::new("docker-rollout")) {
        return Ok(Call::of(arguments));
    }
    // `docker help rollout`.
    if arguments.get(1..3) == Some(&["help".into(), "rollout".into()]) {
        return Ok(Call::of(vec![NAME.into(), "--help".into()]));
    }
    let Some((options, own)) = options(&arguments) else {
        return Ok(Call::of(arguments));
    };
    let mut call = Call::of(vec![NAME.into()]);
    for (name, value) in options {
        match name.as_str() {
            "context" | "host" => call.arguments.extend([format!("--{name}").into(), value]),
            "config" => call.environment.push(("DOCKER_CONFIG", value)),
            "tls" if is_on(&value) => call.environment.push(("DOCKER_TLS", "1".into())),
            "tlsverify" if is_on(&value) => {
                call.environment.push(("DOCKER_TLS_VERIFY", "1".into()));
            }
            // The option turns TLS on, whatever its value (docker/cli, `SetDefaultOptions`).
            "tlsverify" => call.environment.extend([
                ("DOCKER_TLS", "1".into()),
                ("DOCKER_TLS_VERIFY", OsString::new()),
            ]),
            "tlscacert" => call.certificate(&name, &value, "ca.pem")?,
            "tlscert" => call.certificate(&name, &value, "cert.pem")?,
            "tlskey" => call.certificate(&name, &value, "key.pem")?,
            // Docker's own log.
            "debug" | "D" | "log-level" | "tls" => {}
            // Refused by name with the rest of the command line.
            _ if name.chars().count() == 1 => call.arguments.push(format!("-{name}").into()),
            _ => call.arguments.push(format!("--{name}").into()),
        }
    }
    call.arguments.extend_from_slice(own);
    Ok(call)
}

impl Call {
    fn of(arguments: Vec<OsString>) -> Self {
        Self {
            arguments,
            environment: Vec::new(),
        }
    }

    /// The variable names a directory, in which the files have Docker's names.
    fn certificate(&mut self, option: &str, path: &OsStr, name: &str) -> Result<()> {
        let path = Path::new(path);
        let directory = match path.parent().map(Path::as_os_str) {
            Some(directory) if !directory.is_empty() => directory,
            _ => OsStr::new("."),
        };
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

/// The options before the plugin's name, by their long names where they have one, and what comes after it; `None` where
/// the first word that is neither an option nor a value is not that name. As Docker reads them (`spf13/pflag`), letters
/// may be joined.
fn options(arguments: &[OsString]) -> Option<(Vec<Given>, &[OsString])> {
    let mut found = Vec::new();
    let mut at = 1;
    loop {
        let word = arguments.get(at)?.to_str()?;
        at += 1;
        let Some(letters) = word.strip_prefix('-') else {
            return (word == "rollout").then(|| (found, &arguments[at..]));
        };
        let (names, mut value) = match letters.strip_prefix('-') {
            Some(long) => match long.split_once('=') {
                Some((name, value)) => (vec![name.to_owned()], Some(value.to_owned())),
                None => (vec![long.to_owned()], None),
            },
            None => joined(letters),
        };
        let (last, switches) = names.split_last()?;
        found.extend(switches.iter().map(|name| (name.clone(), "true".into())));
        if value.is_none() && VALUED.iter().any(|(long, _)| long == last) {
            value = Some(arguments.get(at)?.to_str()?.to_owned());
            at += 1;
        }
        found.push((
            last.clone(),
            value.unwrap_or_else(|| "true".to_owned()).into(),
        ));
    }
}

/// Joined letters: switches, up to one that takes the rest as its value.
fn joined(letters: &str) -> (Vec<String>, Option<String>) {
    let mut names = Vec::new();
    let mut rest = letters.chars();
    while let Some(letter) = rest.next() {
        let valued = VALUED.iter().find(|(_, short)| *short == Some(letter));
        names.push(valued.map_or(letter.to_string(), |(long, _)| (*long).to_owned()));
        let value = rest.as_str();
        if valued.is_some() && !value.is_empty() {
            return (
                names,
                Some(value.strip_prefix('=').unwrap_or(value).to_owned()),
            );
        }
    }
    (names, None)
}

/// As Go's `strconv.ParseBool`.
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
            (
                "--tlsverify=false",
                "",
                &[("DOCKER_TLS", "1"), ("DOCKER_TLS_VERIFY", "")],
            ),
            ("--tlskey key.pem", "", &[("DOCKER_CERT_PATH", ".")]),
            ("-DHtcp://far", "--host tcp://far", &[]),
            ("-Dc far", "--context far", &[]),
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
    fn docker_help_asks_for_the_help_of_the_plugin() {
        let found = call("/p/docker-rollout help rollout").unwrap();
        assert_eq!(found.arguments, [NAME, "--help"]);
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
