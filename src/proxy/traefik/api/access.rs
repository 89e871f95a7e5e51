//! What a guarded Traefik API requires: user and password, and the authority of its certificate.

use std::fmt;

use reqwest::Certificate;

use crate::{
    error::{Error, Result},
    settings::{Settings, TRAEFIK_AUTH},
};

/// What to add where an API asks for a password.
pub const HOW_TO_GIVE: &str = "put user:password into the variable ROLLOUT_TRAEFIK_AUTH, or into the first line of a file named by \
     --traefik-auth-file; for the whole project: x-rollout: { traefik-auth-file: FILE } at the top level of the Compose file";
/// What to do where it refuses the one that it was given.
pub const CHECK_THEM: &str = "correct user:password there; what Traefik expects stands with the middleware of the router to its API";

/// A user and a password; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub password: String,
    /// Where they come from, fit for a message.
    pub place: String,
}

/// Whether an API asks for a user and password, or for others.
pub fn is_guarded(error: &Error) -> bool {
    let hint = error.hint.as_deref();
    hint == Some(HOW_TO_GIVE) || hint == Some(CHECK_THEM)
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(user and password)")
    }
}

impl Credentials {
    /// Reads `user:password`, as far as the first line goes.
    fn of(text: &str, place: &str) -> Option<Self> {
        let (user, password) = text.lines().next()?.trim_end().split_once(':')?;
        (!user.is_empty()).then(|| Self {
            user: user.to_owned(),
            password: password.to_owned(),
            place: place.to_owned(),
        })
    }

    /// Takes them out of a URL, where they are only in the way of printing it.
    pub fn out_of(url: &mut url::Url) -> Option<Self> {
        let text = |part: &str| {
            percent_encoding::percent_decode_str(part)
                .decode_utf8_lossy()
                .into_owned()
        };
        let credentials = Self {
            user: text(url.username()),
            password: text(url.password().unwrap_or_default()),
            place: "--traefik-url".to_owned(),
        };
        // Neither can fail for a URL that has a host, and one without has no user.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        (!credentials.user.is_empty()).then_some(credentials)
    }
}

/// What an API may require.
#[derive(Clone, Debug, Default)]
pub struct Access {
    pub credentials: Option<Credentials>,
    /// Certificates that a TLS server's own must come from; the system's where there is none.
    pub authorities: Vec<Certificate>,
}

impl Access {
    /// Reads the files that the settings name, and the environment.
    pub fn read(settings: &Settings) -> Result<Self> {
        let variable = std::env::var(TRAEFIK_AUTH).ok();
        let credentials = match (&settings.traefik_auth_file, variable) {
            (Some(path), _) => {
                let text = file(path).map_err(|error| error.hint(HOW_TO_GIVE))?;
                Some((format!("the first line of {path}"), text))
            }
            (None, Some(text)) if !text.is_empty() => Some((TRAEFIK_AUTH.to_owned(), text)),
            (None, _) => None,
        };
        let credentials = credentials.map(|(place, text)| {
            Credentials::of(&text, &place).ok_or_else(|| {
                Error::refused(format!("{place} is not user:password")).hint(HOW_TO_GIVE)
            })
        });
        let authorities = match &settings.traefik_ca {
            Some(path) => certificates(path, &file(path)?)?,
            None => Vec::new(),
        };
        Ok(Self {
            credentials: credentials.transpose()?,
            authorities,
        })
    }
}

fn file(path: &str) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Error::refused(format!("cannot read {path}: {error}")))
}

fn certificates(path: &str, text: &str) -> Result<Vec<Certificate>> {
    match Certificate::from_pem_bundle(text.as_bytes()) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(
            Error::refused(format!("{path} holds no certificate in PEM form"))
                .hint("--traefik-ca names the certificate of your own authority"),
        ),
    }
}

/// A URL as it may be printed: without whatever stands before an `@` in it.
pub fn printable(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_password_are_read_from_the_first_line_and_never_printed() {
        let own = Credentials::of("admin:se:cret \n# a comment\n", "x").unwrap();
        assert_eq!(
            (own.user.as_str(), own.password.as_str()),
            ("admin", "se:cret")
        );
        assert!(!format!("{own:?}").contains("cret"));
        for text in ["", "admin", ":secret", "\nadmin:secret"] {
            assert_eq!(Credentials::of(text, "x"), None, "{text:?}");
        }
    }

    #[test]
    fn a_url_loses_its_password_before_anybody_sees_it() {
        let mut url: url::Url = "https://a%40b:p%3Aw@traefik.test/x".parse().unwrap();
        let own = Credentials::out_of(&mut url).unwrap();
        assert_eq!((own.user.as_str(), own.password.as_str()), ("a@b", "p:w"));
        assert_eq!(url.as_str(), "https://traefik.test/x");
        assert_eq!(Credentials::out_of(&mut url), None);
        assert_eq!(printable("htp://me:secret@host:80"), "…@host:80");
    }
}
