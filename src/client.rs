//! The HTTP client of every question to a server that is no engine: its time limit, and how its errors read.

use std::{error::Error, time::Duration};

use reqwest::{Client, ClientBuilder, Response, redirect::Policy};

/// How long one question may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What is said of a question that has taken too long.
pub const LATE: &str = "no answer in time";
/// The largest answer that is read, in bytes.
const MAX_BODY: usize = 16 * 1024 * 1024;

pub fn builder() -> ClientBuilder {
    // A crate that is built without a provider of its own finds the one that the process has chosen.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    Client::builder()
        .timeout(TIMEOUT)
        // Redirects are not followed: a login page is no API, and credentials are for the named server alone.
        .redirect(Policy::none())
}

/// The body of an answer.
pub async fn text(mut response: Response) -> Result<String, String> {
    let mut body = Vec::new();
    let silent = |error: reqwest::Error| reason(&error.without_url());
    while let Some(chunk) = response.chunk().await.map_err(silent)? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(format!("the answer is larger than {MAX_BODY} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// The innermost cause of an error.
pub fn reason(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    match error.is_timeout() {
        true => LATE.to_owned(),
        false => innermost.to_string(),
    }
}
