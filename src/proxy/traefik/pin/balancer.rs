//! A pinned service: the load balancer that the labels describe, with explicit servers. Pure.

use serde_json::Value;
use sha1::{Digest, Sha1};

use super::{
    definition::Service,
    naming::{References, docker},
    tree::{Object, key, section_mut, take, text},
};
use crate::proxy::traefik::labels::Protocol;

/// `label_name` is what the Docker provider calls the service.
pub fn balanced(
    label_name: &str,
    service: &Service,
    servers: Vec<Value>,
    references: &References<'_>,
) -> Value {
    let mut balancer = service.balancer.clone();
    keep_the_cookie(&mut balancer, label_name);
    qualify(&mut balancer, "serverstransport", &[]);
    balancer.insert("servers".to_owned(), servers.into());
    let mut body = service.options.clone();
    rename_all(&mut body, "middlewares", |own| {
        references.middleware(Protocol::Http, own)
    });
    body.insert("loadBalancer".to_owned(), Value::Object(balancer));
    Value::Object(body)
}

/// A cookie without a name is called after its service (Traefik's `pkg/server/cookie`), which has another name here.
fn keep_the_cookie(balancer: &mut Object, service: &str) {
    let Some(sticky) = section_mut(balancer, "sticky") else {
        return;
    };
    let Some(at) = key(sticky, "cookie") else {
        return;
    };
    let mut cookie = match sticky.get(&at) {
        Some(Value::Object(cookie)) => cookie.clone(),
        Some(Value::String(word)) if word.is_empty() || word.eq_ignore_ascii_case("true") => {
            Object::new()
        }
        _ => return,
    };
    if text(&cookie, "name").is_none_or(str::is_empty) {
        take(&mut cookie, "name");
        cookie.insert("name".to_owned(), default_cookie(service).into());
    }
    sticky.insert(at, Value::Object(cookie));
}

fn default_cookie(service: &str) -> String {
    let digest = Sha1::digest(format!("_TRAEFIK_BACKEND_{service}@docker"));
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("_{}", &hex[..5])
}

/// Gives a reference its provider, unless it is one of the words that mean the same everywhere.
pub fn qualify(section: &mut Object, name: &str, words: &[&str]) {
    let own = text(section, name).filter(|own| !own.is_empty() && !words.contains(own));
    if let (Some(full), Some(key)) = (own.map(docker), key(section, name)) {
        section.insert(key, full.into());
    }
}

/// Renames everything that a list of the section refers to.
pub fn rename_all(section: &mut Object, name: &str, to: impl Fn(&str) -> String) {
    if let Some(at) = key(section, name) {
        let renamed = items(section.get(&at)).map(|own| to(own).into()).collect();
        section.insert(at, Value::Array(renamed));
    }
}

/// The items of a list as labels write it.
pub fn items(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let text = value.and_then(Value::as_str).unwrap_or_default();
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}
