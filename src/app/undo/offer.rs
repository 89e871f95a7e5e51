//! `rollout undo` without a service: what could be undone.

use super::target;
use crate::{
    app::{
        records::{Owner, Records},
        stacks::option,
    },
    cli::TargetArgs,
    error::{Error, Result},
    event::Events,
    state::revisions::Revisions,
};

/// The refusal of a command that names no service.
pub async fn offer(target: &TargetArgs, events: &Events) -> Result<Error> {
    let records = Records::of(target, &[], events).await?;
    let mut possible = Vec::new();
    for (service, files) in records.all_files().await? {
        if let Some(back) = earlier(&records, &service, &Revisions::read(&files)).await? {
            possible.push((service, back));
        }
    }
    Ok(refusal(&possible, records.stack()))
}

/// The number of the revision that an undo goes back to.
async fn earlier(records: &Records, service: &str, revisions: &Revisions) -> Result<Option<u64>> {
    let key = records.key(service);
    let back = match &records.owner {
        Owner::Stack(stack) => stack.earlier(&key, revisions),
        Owner::Project(opened) => {
            let listed = &records.landscape.containers;
            let replicas = opened.engine.replicas_among(listed, &key).await?;
            let back = self::target(revisions, &replicas, None, service).ok();
            back.filter(|_| !replicas.is_empty()).map(|(own, _)| own)
        }
    };
    Ok(back.map(|own| own.number))
}

fn refusal(possible: &[(String, u64)], stack: Option<&str>) -> Error {
    let option = option(stack);
    let Some((first, _)) = possible.first() else {
        return Error::refused("no service named, and none has an earlier revision").hint(format!(
            "rollout history{option} lists the revisions; the next rollout records one"
        ));
    };
    let each = possible.iter();
    let each: Vec<String> = each
        .map(|(service, to)| format!("{service} to revision {to}"))
        .collect();
    Error::refused(format!(
        "no service named; can be undone: {}",
        each.join(", ")
    ))
    .hint(format!("write: rollout undo {first}{option}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_undone_is_named_in_one_line() {
        let possible = [("api".to_owned(), 3), ("web".to_owned(), 7)];
        let error = refusal(&possible, None);
        assert_eq!(
            error.message,
            "no service named; can be undone: api to revision 3, web to revision 7"
        );
        assert_eq!(error.hint.unwrap(), "write: rollout undo api");
        let of_stack = refusal(&possible, Some("shop"));
        assert_eq!(of_stack.hint.unwrap(), "write: rollout undo api -p shop");
        assert!(
            refusal(&[], None)
                .message
                .ends_with("none has an earlier revision")
        );
    }
}
