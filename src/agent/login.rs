//! The credentials of registries in a Docker config file.

use std::path::PathBuf;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bollard::auth::DockerCredentials;
use serde_json::Value;

/// The key of Docker Hub in the file.
const HUB: &str = "https://index.docker.io/v1/";

/// The file that the Docker CLI reads; null where there is none.
pub fn config() -> Value {
    let folder = std::env::var_os("DOCKER_CONFIG").map(PathBuf::from);
    let folder = folder.or_else(|| Some(std::env::home_dir()?.join(".docker")));
    let text = folder.and_then(|folder| std::fs::read(folder.join("config.json")).ok());
    text.and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

/// The credentials for the registry of an image; `None` where the file itself has none.
pub fn of(config: &Value, reference: &str) -> Option<DockerCredentials> {
    let registry = registry(reference);
    let all = config["auths"].as_object()?;
    let (key, own) = all.iter().find(|(key, _)| host(key) == host(registry))?;
    let text = |name: &str| own[name].as_str().filter(|text| !text.is_empty());
    let decoded = text("auth").and_then(|text| String::from_utf8(STANDARD.decode(text).ok()?).ok());
    let pair = decoded.as_deref().and_then(|pair| pair.split_once(':'));
    let (user, password) = pair
        .or_else(|| Some((text("username")?, text("password")?)))
        .unzip();
    let token = text("identitytoken");
    (password.is_some() || token.is_some()).then(|| DockerCredentials {
        username: user.map(str::to_owned),
        password: password.map(str::to_owned),
        identitytoken: token.map(str::to_owned),
        serveraddress: Some(key.clone()),
        ..DockerCredentials::default()
    })
}

/// Whether the credentials of the image's registry are in a program that is not asked.
pub fn is_elsewhere(config: &Value, reference: &str) -> bool {
    let helpers = config["credHelpers"].as_object().into_iter().flatten();
    let mut helpers = helpers.map(|(key, _)| host(key));
    config["credsStore"].is_string() || helpers.any(|own| own == host(registry(reference)))
}

/// As Docker reads a name: the first part is a registry if it can be a host (distribution, `splitDockerDomain`).
fn registry(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => match first {
            "docker.io" | "index.docker.io" => HUB,
            other => other,
        },
        _ => HUB,
    }
}

/// Keys of the file may have a scheme and a path.
fn host(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_registry_of_an_image_is_found_by_its_host() {
        let config = json!({
            "auths": {
                "https://index.docker.io/v1/": {"auth": STANDARD.encode("hub:a:b")},
                "registry.example.com:5000": {"username": "me", "password": "c"},
                "https://ghcr.io/v2/": {"identitytoken": "d"},
                "kept.example.com": {},
            },
            "credHelpers": {"kept.example.com": "pass"},
        });
        let login = |reference| {
            let own = of(&config, reference)?;
            let [user, password] = [own.username, own.password].map(Option::unwrap_or_default);
            Some(format!(
                "{user} {password} {}",
                own.identitytoken.unwrap_or_default()
            ))
        };
        for (reference, expected) in [
            ("traefik:v3", Some("hub a:b ")),
            ("shop/web", Some("hub a:b ")),
            ("docker.io/shop/web:v1", Some("hub a:b ")),
            ("registry.example.com:5000/web:v1", Some("me c ")),
            ("ghcr.io/shop/web", Some("  d")),
            ("registry.example.com/web", None),
            ("localhost/web", None),
            ("kept.example.com/web", None),
        ] {
            assert_eq!(login(reference).as_deref(), expected, "{reference}");
        }
        assert!(is_elsewhere(&config, "kept.example.com/web"));
        assert!(!is_elsewhere(&config, "ghcr.io/web"));
        assert!(is_elsewhere(
            &json!({"credsStore": "desktop"}),
            "ghcr.io/web"
        ));
        assert!(of(&Value::Null, "web").is_none());
    }

    #[test]
    fn what_is_no_credential_is_none() {
        for auth in [
            "%%%",
            &STANDARD.encode("no colon"),
            &STANDARD.encode([0xff, b':']),
        ] {
            let config = json!({"auths": {"a.example": {"auth": auth}}});
            assert!(of(&config, "a.example/web").is_none(), "{auth}");
        }
    }
}
