//! After an undo: names the lines of the project's files that still ask for the replaced version.

use std::{fs, path::PathBuf};

use yamlpath::{Document, route};

use super::super::{
    include,
    opened::{Opened, read_project},
};
use crate::{dotenv, error::Result, event::Events, text_file::from_here, yaml};

/// A notice if the files ask for another version than the one that runs: by image name, and by config hash.
pub async fn warn(
    opened: &Opened,
    events: &Events,
    service: &str,
    (reference, hash): (&str, &str),
) {
    let compose = opened.compose.as_in_files();
    // The undo may have put back a variable since the project was read.
    let Ok(project) = read_project(&compose, &[service]).await else {
        return;
    };
    let Ok(asked) = project.service(service) else {
        return;
    };
    let names = asked.image.clone().unwrap_or_default();
    let up = format!("docker compose up -d {service}");
    if names == reference {
        let asked = compose.config_hash(&project, service).await;
        if let Some(notice) = difference(asked, hash, &up) {
            events.notice(notice);
        }
        return;
    }
    let files = include::files(compose.files()).into_iter();
    let files: Vec<Read> = files.map(Read::of).collect();
    let variables = compose.env_files().into_iter();
    let variables =
        variables.filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?)));
    let variables: Vec<Read> = variables.map(Read::of).collect();
    let is_set = |name: &str| std::env::var_os(name).is_some();
    events.notice(match place(service, reference, &files, &variables, &is_set) {
        Some(place) => format!(
            "{} still asks for {names}, and {up} would bring it back; change it to: {}",
            place.at, place.instead
        ),
        None => format!(
            "the Compose file still asks for {names}, and {up} would bring it back; change its image to {reference}"
        ),
    });
}

/// The notice for a Compose file with the same image but another config hash. The undo is done, so an unknown hash is no
/// failure.
fn difference(asked: Result<String>, hash: &str, up: &str) -> Option<String> {
    match asked {
        Ok(asked) if asked == hash => None,
        Ok(_) => Some(format!(
            "the Compose file still describes the replaced version; {up} would bring it back"
        )),
        Err(error) => Some(format!(
            "the Compose file may still describe the replaced version, which {up} would bring back: {}",
            error.message
        )),
    }
}

/// A file by its relative path, and its text.
struct Read {
    name: String,
    text: String,
}

impl Read {
    fn of((path, text): (PathBuf, String)) -> Self {
        let name = from_here(&path);
        Self { name, text }
    }
}

/// One line to change.
#[derive(Debug, PartialEq)]
struct Place {
    /// `file:line`, or the variable of the environment.
    at: String,
    /// The line as it should be.
    instead: String,
}

/// The line that sets the image of a service, and how to change it to `wanted`; of several files the last counts.
fn place(
    service: &str,
    wanted: &str,
    files: &[Read],
    variables: &[Read],
    is_set: &dyn Fn(&str) -> bool,
) -> Option<Place> {
    let (file, line, written) = files.iter().rev().find_map(|file| image(file, service))?;
    let in_file = |image: &str| Place {
        at: format!("{}:{line}", file.name),
        instead: format!("image: {image}"),
    };
    let Some(variable) = Variable::only_one_in(&written) else {
        return Some(in_file(wanted));
    };
    let value = wanted.strip_prefix(variable.before);
    let Some(value) = value.and_then(|rest| rest.strip_suffix(variable.after)) else {
        return Some(in_file(wanted));
    };
    let name = variable.name;
    let instead = format!("{name}={value}");
    if is_set(name) {
        let at = format!("the variable {name} of the environment");
        return Some(Place { at, instead });
    }
    let assigned = variables.iter().rev().find_map(|file| {
        let line = dotenv::line(&file.text, name)?;
        Some(format!("{}:{line}", file.name))
    });
    match assigned {
        Some(at) => Some(Place { at, instead }),
        // The default in the file counts.
        None => Some(in_file(&format!(
            "{}${{{name}:-{value}}}{}",
            variable.before, variable.after
        ))),
    }
}

/// The line of a service's image, and what is written there.
fn image<'a>(file: &'a Read, service: &str) -> Option<(&'a Read, usize, String)> {
    let whole = yaml::parse_merged(&file.text).ok()?;
    let written = whole["services"][service]["image"].as_str()?;
    let document = Document::new(file.text.as_str()).ok()?;
    let place = route!("services", service, "image");
    let found = document.query_exact(&place).ok()??;
    let line = found.location.point_span.0.0 + 1;
    Some((file, line, written.to_owned()))
}

/// The one variable in a text, and what is around it.
struct Variable<'a> {
    before: &'a str,
    name: &'a str,
    after: &'a str,
}

impl<'a> Variable<'a> {
    fn only_one_in(text: &'a str) -> Option<Self> {
        let (before, rest) = text.split_once('$')?;
        let is_name = |own: char| own.is_ascii_alphanumeric() || own == '_';
        let (name, after) = match rest.strip_prefix('{') {
            Some(inner) => {
                let (inner, after) = inner.split_once('}')?;
                (inner.split(|own| !is_name(own)).next()?, after)
            }
            None => rest.split_at(rest.find(|own| !is_name(own)).unwrap_or(rest.len())),
        };
        let one = !name.is_empty() && !after.contains(['$', '}']);
        one.then_some(Self {
            before,
            name,
            after,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{arbitrary::mutated_text, error::Error};

    fn files(all: &[(&str, &str)]) -> Vec<Read> {
        let one = |(name, text): &(&str, &str)| Read {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        };
        all.iter().map(one).collect()
    }

    fn change(
        compose: &[(&str, &str)],
        env: &[(&str, &str)],
        set: &str,
    ) -> Option<(String, String)> {
        let is_set = |name: &str| name == set;
        let found = place(
            "web",
            "reg:5000/app:v1",
            &files(compose),
            &files(env),
            &is_set,
        )?;
        Some((found.at, found.instead))
    }

    fn own(at: &str, instead: &str) -> Option<(String, String)> {
        Some((at.to_owned(), instead.to_owned()))
    }

    #[test]
    fn a_config_hash_that_differs_or_cannot_be_had_is_a_notice() {
        let up = "docker compose up -d web";
        assert_eq!(difference(Ok("a".to_owned()), "a", up), None);
        let differs = difference(Ok("b".to_owned()), "a", up).unwrap();
        assert!(differs.contains("still describes"), "{differs}");
        let unknown = difference(Err(Error::refused("no file")), "a", up).unwrap();
        assert!(unknown.contains("may still describe"), "{unknown}");
        assert!(unknown.ends_with(": no file"), "{unknown}");
    }

    #[test]
    fn an_image_that_is_written_out_is_found_in_the_last_file_that_has_one() {
        let base = "services:\n  web:\n    image: reg:5000/app:v2\n";
        let plain = own("a.yaml:3", "image: reg:5000/app:v1");
        assert_eq!(change(&[("a.yaml", base)], &[], ""), plain);
        let more = "# more\nservices: {web: {image: 'reg:5000/app:v3'}}\n";
        let later = own("b.yaml:2", "image: reg:5000/app:v1");
        assert_eq!(
            change(&[("a.yaml", base), ("b.yaml", more)], &[], ""),
            later
        );
        let built = "services: {web: {build: .}}";
        assert_eq!(change(&[("a.yaml", built)], &[], ""), None);
    }

    #[test]
    fn an_image_with_a_variable_is_found_where_that_gets_its_value() {
        let compose = [(
            "a.yaml",
            "services:\n  web:\n    image: reg:5000/app:${TAG:-v2}\n",
        )];
        let env = [(".env", "# versions\nOTHER=1\nexport TAG=v2\n")];
        assert_eq!(change(&compose, &env, ""), own(".env:3", "TAG=v1"));
        let shell = own("the variable TAG of the environment", "TAG=v1");
        assert_eq!(change(&compose, &env, "TAG"), shell);
        let default = own("a.yaml:3", "image: reg:5000/app:${TAG:-v1}");
        assert_eq!(change(&compose, &[(".env", "OTHER=1")], ""), default);
        // Another name, or several variables: the line itself is to be written out.
        for image in ["other:$TAG", "$REPO:$TAG", "reg:5000/${NAME:-${TAG}}:v1"] {
            let text = format!("services:\n  web:\n    image: {image}\n");
            let whole = own("a.yaml:3", "image: reg:5000/app:v1");
            assert_eq!(change(&[("a.yaml", &text)], &env, ""), whole, "{image}");
        }
    }

    proptest! {
        #[test]
        fn in_files_of_any_text_a_place_is_one_of_their_lines_and_what_comes_instead_is_one_line(
            compose in mutated_text("services:\n  web:\n    image: reg:5000/app:${TAG:-v2}\n"),
            env in mutated_text("# versions\nexport TAG=v2\n"),
        ) {
            if let Some((at, instead)) = change(&[("a.yaml", &compose)], &[(".env", &env)], "") {
                let (name, line) = at.rsplit_once(':').unwrap();
                let text = if name == ".env" { &env } else { &compose };
                prop_assert!((1..=text.lines().count()).contains(&line.parse().unwrap()), "{}", at);
                prop_assert!(!instead.is_empty() && !instead.contains('\n'), "{}", instead);
            }
        }
    }
}
