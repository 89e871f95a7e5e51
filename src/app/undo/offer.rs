//! `rollout undo` without a service: what could be undone.

use super::target;
use crate::{
    app::Opened,
    cli::TargetArgs,
    error::{Error, Result},
    event::Events,
    state::{revisions::Revisions, store},
};

/// The refusal of a command that names no service.
pub async fn offer(target: &TargetArgs, events: &Events) -> Result<Error> {
    let opened = Opened::of_records(target, &[], events).await?;
    let (engine, run) = (&opened.engine, opened.run(events));
    let landscape = run.landscape().await?;
    let image = run.image_in(&landscape).await?;
    let files = store::look_project(engine, &image, &opened.project.name).await?;
    let mut possible = Vec::new();
    for (service, files) in files {
        let (revisions, key) = (Revisions::read(&files), opened.project.key(&service));
        let replicas = engine.replicas_among(&landscape.containers, &key).await?;
        if replicas.is_empty() {
            continue;
        }
        if let Ok((back, _)) = self::target(&revisions, &replicas, None, &service) {
            possible.push((service, back.number));
        }
    }
    Ok(refusal(&possible))
}

fn refusal(possible: &[(String, u64)]) -> Error {
    let Some((first, _)) = possible.first() else {
        return Error::refused("no service named, and none has an earlier revision")
            .hint("rollout history lists the revisions; the next rollout records one");
    };
    let each = possible.iter();
    let each: Vec<String> = each
        .map(|(service, to)| format!("{service} to revision {to}"))
        .collect();
    Error::refused(format!(
        "no service named; can be undone: {}",
        each.join(", ")
    ))
    .hint(format!("write: rollout undo {first}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_undone_is_named_in_one_line() {
        let possible = [("api".to_owned(), 3), ("web".to_owned(), 7)];
        let error = refusal(&possible);
        assert_eq!(
            error.message,
            "no service named; can be undone: api to revision 3, web to revision 7"
        );
        assert_eq!(error.hint.unwrap(), "write: rollout undo api");
        assert!(
            refusal(&[])
                .message
                .ends_with("none has an earlier revision")
        );
    }
}
