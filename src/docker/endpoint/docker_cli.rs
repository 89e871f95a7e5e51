//! A connection through a child process `docker system dial-stdio`, which dials an engine by TLS, ssh or a context.

use std::{io, time::Duration};

use tokio::{process::Command, sync::Semaphore, time::timeout};

use super::{
    child_stream::ChildStream,
    greeting::{Failure, greet},
    stream::Stream,
};
use crate::error::{Error, Result};

/// sshd drops connections at random once ten (`MaxStartups`) have yet to authenticate.
static CONNECTING: Semaphore = Semaphore::const_new(4);
/// For the connection, the authentication and the engine's first answer together.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const CERTIFICATES: &str =
    "DOCKER_CERT_PATH names the directory that holds ca.pem, cert.pem and key.pem";

#[derive(Clone, Debug)]
pub struct DockerCli {
    /// The engine's address, as messages show it.
    pub host: String,
    /// Docker's global options that choose the engine.
    options: Vec<String>,
}

impl DockerCli {
    /// Names the engine by its address.
    pub fn new(host: String, options: &[&str]) -> Self {
        let options = [options, &["-H", &host]].concat();
        Self {
            options: options.iter().map(|&option| option.to_owned()).collect(),
            host,
        }
    }

    /// Names the engine by a context, whose certificates docker then uses.
    pub fn by_context(self, name: &str) -> Self {
        Self {
            options: vec!["--context".to_owned(), name.to_owned()],
            ..self
        }
    }

    pub async fn dial(&self) -> Result<Stream> {
        self.dial_by(Command::new("docker")).await
    }

    async fn dial_by(&self, mut docker: Command) -> Result<Stream> {
        let _turn = CONNECTING.acquire().await;
        docker.args(&self.options).args(["system", "dial-stdio"]);
        // Docker starts ssh without a terminal, so ssh can only ask through a program.
        let may_ask = std::env::var_os("SSH_ASKPASS").is_some();
        docker.env(
            "SSH_ASKPASS_REQUIRE",
            if may_ask { "force" } else { "never" },
        );
        let mut child = ChildStream::start(docker).map_err(|error| not_started(&error))?;
        match timeout(ANSWER_TIMEOUT, greet(&mut child)).await {
            Ok(Ok(())) => Ok(Stream::new(child)),
            Ok(Err(Failure::Foreign(line))) => {
                let error = Error::failed(format!("not an answer of a Docker engine: {line:?}"));
                Err(match self.ssh() {
                    Some(_) => error.hint("a login there must print nothing: see its .bashrc"),
                    None => error,
                })
            }
            Ok(Err(_)) => Err(self.explain(&child.end().await)),
            Err(_) => Err(Error::failed(format!(
                "no answer within {} s",
                ANSWER_TIMEOUT.as_secs()
            ))),
        }
    }

    /// The error that the last line of docker's standard error states.
    fn explain(&self, stderr: &[String]) -> Error {
        let message = match stderr.last() {
            // Docker quotes ssh's own message at the end of its line.
            Some(line) => match line.rsplit_once("stderr=") {
                Some((_, quoted)) if !quoted.is_empty() => quoted,
                _ => line,
            },
            None => "docker system dial-stdio ended without an answer",
        };
        let error = Error::failed(message);
        match self.remedy(&stderr.join("\n")) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    fn remedy(&self, stderr: &str) -> Option<String> {
        let has = |text: &str| stderr.contains(text);
        let Some(ssh) = self.ssh() else {
            let certificates = ["tls: ", "x509: ", ".pem"].into_iter().any(has);
            return certificates.then(|| CERTIFICATES.to_owned());
        };
        Some(if has("HOST IDENTIFICATION HAS CHANGED") {
            format!("the host key has changed: find out why, then connect once by hand: {ssh}")
        } else if has("Host key verification failed") {
            format!("connect once by hand, and compare the key: {ssh}")
        } else if has("Permission denied (") {
            format!("add your key with ssh-add, or to ~/.ssh/config; try: {ssh}")
        } else if has("docker: command not found") || has("docker: not found") {
            format!(
                "install docker there, where a shell without a terminal finds it; try: {ssh} docker version"
            )
        } else if has("is not a docker command") {
            "install Docker 18.09 or newer there".to_owned()
        } else if has("connect: permission denied") {
            format!("add that user to the group docker there; try: {ssh} docker version")
        } else {
            format!("try: {ssh}")
        })
    }

    /// The ssh command to try by hand, where docker uses ssh.
    fn ssh(&self) -> Option<String> {
        let rest = self.host.strip_prefix("ssh://")?;
        // OpenSSH takes such an address too, without the path of a socket.
        let login = rest.split_once('/').map_or(rest, |(login, _)| login);
        Some(format!("ssh ssh://{login}"))
    }
}

fn not_started(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::failed("docker was not found")
            .hint("install the Docker CLI (docker-ce-cli or docker-cli), which makes connections by TLS and ssh"),
        _ => Error::failed(format!("cannot run docker: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use testbed::has_ended;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

    use super::*;
    use crate::arbitrary::mutated_text;

    /// Answers the first request as an engine does.
    const ANSWER: &str = r#"
        while IFS= read -r line && [ "$line" != "$(printf '\r')" ]; do :; done
        printf 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'
    "#;

    fn far() -> DockerCli {
        DockerCli::new("ssh://me@far:22/run/x.sock".to_owned(), &[])
    }

    /// Dials with a script in docker's place, whose arguments are docker's.
    async fn dial(cli: &DockerCli, script: &str) -> Result<Stream> {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "docker"]);
        cli.dial_by(shell).await
    }

    #[tokio::test]
    async fn bytes_go_both_ways_and_the_end_of_what_is_sent_is_passed_on() {
        let mut stream = dial(&far(), &format!("{ANSWER}cat; echo end"))
            .await
            .unwrap();
        stream.write_all(b"there ").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "there end\n");
    }

    #[tokio::test]
    async fn docker_gets_the_options_that_choose_the_engine() {
        let https = DockerCli::new("tcp://far:2376".to_owned(), &["--tlsverify"]);
        for (cli, arguments) in [
            (far(), "-H ssh://me@far:22/run/x.sock system dial-stdio\n"),
            (https, "--tlsverify -H tcp://far:2376 system dial-stdio\n"),
            (far().by_context("vm"), "--context vm system dial-stdio\n"),
        ] {
            let script = format!("{ANSWER}read -r go; echo \"$@\"");
            let mut stream = dial(&cli, &script).await.unwrap();
            stream.write_all(b"go\n").await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            assert_eq!(text, arguments);
        }
    }

    #[tokio::test]
    async fn a_dropped_connection_ends_docker() {
        let script = format!("{ANSWER}read -r go; echo $$; exec sleep 600");
        let mut stream = BufReader::new(dial(&far(), &script).await.unwrap());
        stream.write_all(b"go\n").await.unwrap();
        let mut pid = String::new();
        stream.read_line(&mut pid).await.unwrap();
        let pid = pid.trim();
        assert!(std::fs::exists(format!("/proc/{pid}/stat")).unwrap());
        drop(stream);
        has_ended(pid).await;
    }

    #[tokio::test]
    async fn the_last_line_of_standard_error_is_the_message() {
        let script = "echo WARNING: odd >&2; echo 'command [ssh far] has exited: stderr=banner' >&2; \
                      echo 'ssh: connect to host far port 22: Connection refused' >&2; exit 1";
        let error = dial(&far(), script).await.unwrap_err();
        assert_eq!(
            error.message,
            "ssh: connect to host far port 22: Connection refused"
        );
        assert_eq!(error.hint.as_deref(), Some("try: ssh ssh://me@far:22"));
        let silent = dial(&far(), "exit 1").await.unwrap_err();
        assert!(silent.message.contains("without an answer"), "{silent}");
    }

    #[tokio::test]
    async fn what_is_not_an_engine_is_quoted() {
        let error = dial(&far(), "echo Welcome to far").await.unwrap_err();
        assert!(error.message.contains("\"Welcome to far\""), "{error}");
        assert!(error.hint.unwrap().contains(".bashrc"));
    }

    #[tokio::test]
    async fn a_missing_docker_cli_is_named() {
        let error = far()
            .dial_by(Command::new("/nowhere/docker"))
            .await
            .unwrap_err();
        assert_eq!(error.message, "docker was not found");
        assert!(error.hint.unwrap().contains("install the Docker CLI"));
    }

    #[test]
    fn known_failures_have_a_remedy() {
        let tls = DockerCli::new("tcp://far:2376".to_owned(), &[]);
        for (cli, stderr, message, hint) in [
            (
                far(),
                "error while Copy: command [ssh far] has exited with exit status 255: stderr=Host key verification failed.",
                "Host key verification failed.",
                Some("compare the key: ssh ssh://me@far:22"),
            ),
            (
                far(),
                "stderr=me@far: Permission denied (publickey).",
                "me@far: Permission denied (publickey).",
                Some("ssh-add"),
            ),
            (
                far(),
                "stderr=bash: line 1: docker: command not found",
                "bash: line 1: docker: command not found",
                Some("install docker there"),
            ),
            (
                far(),
                "stderr=dial unix /run/x.sock: connect: permission denied",
                "dial unix /run/x.sock: connect: permission denied",
                Some("group docker"),
            ),
            (
                tls.clone(),
                "remote error: tls: certificate required",
                "remote error: tls: certificate required",
                Some("DOCKER_CERT_PATH"),
            ),
            (
                tls,
                "dial tcp 10.0.0.1:2376: connect: connection refused",
                "dial tcp 10.0.0.1:2376: connect: connection refused",
                None,
            ),
        ] {
            let error = cli.explain(&[stderr.to_owned()]);
            assert_eq!(error.message, message);
            let given = error.hint.unwrap_or_default();
            assert_eq!(given.is_empty(), hint.is_none(), "{given}");
            assert!(given.contains(hint.unwrap_or_default()), "{given}");
        }
    }

    proptest! {
        #[test]
        fn any_standard_error_becomes_one_line_with_a_hint(text in mutated_text("a\ncommand: stderr=Permission denied (publickey).\n")) {
            let lines: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
            let error = far().explain(&lines);
            prop_assert!(!error.message.is_empty() && !error.message.contains('\n'), "{:?}", error.message);
            prop_assert!(error.hint.is_some_and(|hint| !hint.contains('\n')));
        }
    }
}
