//! An engine behind ssh: the user's own `ssh`, which runs `docker system dial-stdio` on the far side.

mod failure;
mod pipe;

use std::{fmt, process::Stdio, time::Duration};

use tokio::{process::Command, sync::Semaphore, time::timeout};
use url::Url;

use self::{failure::explain, pipe::Pipe};
use super::{
    greeting::{Failure, greet},
    stream::Stream,
};
use crate::error::{Error, Result};

/// sshd drops connections at random once ten (`MaxStartups`) have yet to authenticate, and each of ours is one.
static MAKING: Semaphore = Semaphore::const_new(4);
/// Connection, authentication and the engine's first answer together.
const PATIENCE: Duration = Duration::from_secs(60);

/// `ssh://[USER@]HOST[:PORT][/SOCKET]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    user: Option<String>,
    host: String,
    port: Option<u16>,
    /// The engine's socket on the far side, where it is not that of docker there.
    socket: Option<String>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.socket.as_deref().unwrap_or_default())
    }
}

impl Target {
    /// Reads an address by Docker's rules (docker/cli, connhelper/ssh); the error fits "is no address: {error}".
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        if url.password().is_some() {
            return Err("it holds a password, which ssh does not take".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("it goes on after the path".to_owned());
        }
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err("it names no host".to_owned());
        }
        Ok(Self {
            user: Some(url.username().to_owned()).filter(|user| !user.is_empty()),
            host: host.to_owned(),
            port: url.port(),
            socket: Some(url.path().to_owned()).filter(|path| !path.trim_matches('/').is_empty()),
        })
    }

    /// Starts ssh, and waits until the engine has answered through it.
    pub async fn dial(&self) -> Result<Stream> {
        let _turn = MAKING.acquire().await;
        let mut command = Command::new("ssh");
        command
            .args(self.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // The terminal's Ctrl-C is ours: the connection must outlive it.
            .process_group(0)
            .kill_on_drop(true);
        match std::env::var_os("SSH_ASKPASS") {
            // Out of the foreground, a question on the terminal would stop it for ever.
            Some(_) => command.env("SSH_ASKPASS_REQUIRE", "force"),
            None => &mut command,
        };
        let mut pipe = match command.spawn().map(Pipe::new) {
            Ok(Some(pipe)) => pipe,
            Ok(None) => return Err(Error::failed("ssh has no standard streams")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::failed("ssh was not found")
                    .hint("install an ssh client (openssh-client), which carries ssh:// engines"));
            }
            Err(error) => return Err(Error::failed(format!("cannot run ssh: {error}"))),
        };
        match timeout(PATIENCE, greet(&mut pipe)).await {
            Ok(Ok(())) => Ok(Stream::new(pipe)),
            Ok(Err(Failure::Foreign(line))) => Err(Error::failed(format!(
                "{} says {line:?} where an engine should answer",
                self.host
            ))
            .hint("a login there must print nothing: see its .bashrc")),
            Ok(Err(_)) => {
                let (code, said) = pipe.end().await;
                Err(explain(self, code, &said))
            }
            Err(_) => Err(Error::failed(format!(
                "no answer through ssh within {} s",
                PATIENCE.as_secs()
            ))),
        }
    }

    /// As Docker calls it; nothing is asked on a terminal, which is the rollout's.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "-o".to_owned(),
            "ConnectTimeout=30".to_owned(),
            "-T".to_owned(),
        ];
        if std::env::var_os("SSH_ASKPASS").is_none() {
            arguments.extend(["-o".to_owned(), "BatchMode=yes".to_owned()]);
        }
        if let Some(user) = &self.user {
            arguments.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments.extend(["--".to_owned(), self.host.clone(), "docker".to_owned()]);
        if let Some(socket) = &self.socket {
            // The far side's shell reads what ssh passes on.
            let quoted = format!("unix://{socket}").replace('\'', r"'\''");
            arguments.extend(["--host".to_owned(), format!("'{quoted}'")]);
        }
        arguments.extend(["system".to_owned(), "dial-stdio".to_owned()]);
        arguments
    }

    /// What a person types to try it by hand.
    fn by_hand(&self) -> String {
        let mut words = vec!["ssh".to_owned()];
        if let Some(port) = self.port {
            words.extend(["-p".to_owned(), port.to_string()]);
        }
        words.push(match &self.user {
            Some(user) => format!("{user}@{}", self.host),
            None => self.host.clone(),
        });
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_is_called_as_docker_calls_it() {
        for (address, end) in [
            ("ssh://far", "-- far docker system dial-stdio"),
            (
                "ssh://me@far:2222",
                "-l me -p 2222 -- far docker system dial-stdio",
            ),
            ("ssh://[::1]/", "-- ::1 docker system dial-stdio"),
            (
                "ssh://far/run/other.sock",
                "-- far docker --host 'unix:///run/other.sock' system dial-stdio",
            ),
        ] {
            let target = Target::parse(address).unwrap();
            let arguments = target.arguments().join(" ");
            assert!(
                arguments.starts_with("-o ConnectTimeout=30 -T "),
                "{arguments}"
            );
            assert!(arguments.ends_with(end), "{arguments}");
            assert_eq!(target.to_string(), address.trim_end_matches('/'));
        }
    }
}
