//! An image as people call it.

use std::collections::BTreeSet;

use super::Replica;

/// An image as people call it: by its reference, or by its short id where it has none.
pub fn image_name(reference: &str, id: &str) -> String {
    let bare = |text: &str| text.strip_prefix("sha256:").unwrap_or(text).to_owned();
    if reference.is_empty() || bare(id).starts_with(&bare(reference)) {
        return short_image(id).to_owned();
    }
    match reference.split_once("@sha256:") {
        Some((name, digest)) => format!("{name}@{}", short_image(digest)),
        None => reference.to_owned(),
    }
}

/// The last word of an image's name, and its tag, which is empty where it has none.
pub fn name_and_tag(image: &str) -> (&str, &str) {
    let image = image.split('@').next().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    name.split_once(':').unwrap_or((name, ""))
}

/// The twelve characters of an image's id that people see.
pub fn short_image(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}

/// The new image and the one that it replaces. Two images with the same name are shown with their ids.
pub fn image_change(reference: &str, id: &str, olds: &[Replica]) -> (String, Option<String>) {
    let new = image_name(reference, id);
    let moved = |old: &&Replica| old.image != id && image_name(&old.reference, &old.image) == new;
    let moved = olds.iter().any(|old| moved(&old));
    let named = |reference: &str, id: &str| match moved {
        true => format!("{} ({})", image_name(reference, id), short_image(id)),
        false => image_name(reference, id),
    };
    let all: BTreeSet<String> = olds
        .iter()
        .map(|old| named(&old.reference, &old.image))
        .collect();
    let all: Vec<String> = all.into_iter().collect();
    let replaces = (!all.is_empty()).then(|| all.join(", "));
    (named(reference, id), replaces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::simulator::old;

    #[test]
    fn an_image_goes_by_its_name_and_two_of_one_name_by_their_ids_too() {
        let (a, b) = ("sha256:aaaaaaaaaaaaaaaa", "sha256:bbbbbbbbbbbbbbbb");
        assert_eq!(image_name("app:v1", a), "app:v1");
        assert_eq!(image_name("", a), "aaaaaaaaaaaa");
        assert_eq!(image_name(a, a), "aaaaaaaaaaaa");
        assert_eq!(
            image_name("app@sha256:cccccccccccccccc", a),
            "app@cccccccccccc"
        );
        let ran = |reference: &str, id: &str| Replica {
            reference: reference.to_owned(),
            image: id.to_owned(),
            ..old("one")
        };
        let change = |reference, olds: &[Replica]| image_change(reference, b, olds);
        assert_eq!(change("app:v2", &[]), ("app:v2".to_owned(), None));
        let (new, before) = change("app:v2", &[ran("app:v1", a), ran("app:v1", a)]);
        assert_eq!(
            (new.as_str(), before.as_deref()),
            ("app:v2", Some("app:v1"))
        );
        let (new, before) = change("app", &[ran("app", a)]);
        assert_eq!(new, "app (bbbbbbbbbbbb)");
        assert_eq!(before.as_deref(), Some("app (aaaaaaaaaaaa)"));
    }
}
