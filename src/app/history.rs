//! `rollout history`: the revisions of a service, one of them whole, or the difference of two.

use comfy_table::{Table, presets::NOTHING};
use similar::TextDiff;

use super::{Opened, print, roll::Scene};
use crate::{
    cli::HistoryArgs,
    error::{Error, Result},
    event::Events,
    model::ServiceKey,
    report::Output,
    state::{
        owner,
        revisions::{Revision, Revisions},
        store,
    },
    yaml,
};

/// Tells what was asked for on standard output.
pub async fn tell(asked: &HistoryArgs, events: &Events) -> Result<()> {
    let opened = Opened::of(&asked.target, &[&asked.service]).await?;
    let Opened {
        engine, project, ..
    } = &opened;
    let scene = opened.scene(events);
    let key = opened.key(&asked.service);
    let revisions = remembered(&scene, &key).await?;
    if revisions.list.is_empty() {
        // A slip of the keyboard is told as one.
        project.service(&asked.service)?;
        events.notice(format!("nothing is recorded of {} yet", asked.service));
        return Ok(());
    }
    let json = asked.target.output == Some(Output::Json);
    let text = match (asked.revision, asked.diff) {
        (Some(number), _) if json => line(known(&revisions, number, &asked.service)?),
        (Some(number), _) => whole(known(&revisions, number, &asked.service)?),
        (None, Some(pair)) => {
            let a = known(&revisions, pair.0, &asked.service)?;
            let b = known(&revisions, pair.1, &asked.service)?;
            difference(a, b)
        }
        (None, None) if json => revisions.list.iter().map(line).collect(),
        (None, None) => {
            let tags = engine.tags(&crate::state::keep::repository(&key)).await?;
            table(&revisions, &|own| tags.contains_key(&own.image.kept))
        }
    };
    print(text.as_bytes());
    Ok(())
}

/// Every record of a service, read without its lock; what cannot be read is told.
pub async fn remembered(scene: &Scene<'_>, key: &ServiceKey) -> Result<Revisions> {
    let image = scene.any_image(key).await?;
    let files = store::look(scene.engine, &image, key).await?;
    let revisions = Revisions::read(&files);
    for trouble in &revisions.trouble {
        scene.events.notice(format!(
            "{trouble}; it is left as it is, in the volume {}",
            store::volume()
        ));
    }
    Ok(revisions)
}

/// The revision of this number, or which there are.
pub fn known<'a>(revisions: &'a Revisions, number: u64, service: &str) -> Result<&'a Revision> {
    revisions.get(number).ok_or_else(|| {
        let numbers: Vec<String> = revisions
            .list
            .iter()
            .map(|own| own.number.to_string())
            .collect();
        Error::refused(format!("revision {number} of {service} is not recorded")).hint(format!(
            "recorded are {}; see rollout history {service}",
            numbers.join(", ")
        ))
    })
}

fn line(revision: &Revision) -> String {
    // A record has nothing that JSON cannot say.
    serde_json::to_string(revision).unwrap_or_default() + "\n"
}

fn table(revisions: &Revisions, is_kept: &dyn Fn(&Revision) -> bool) -> String {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_header(["REVISION", "WHEN", "BY", "IMAGE", "REPLICAS", "WAY", "NOTE"]);
    for own in &revisions.list {
        let kept = if is_kept(own) { "" } else { "image not kept" };
        let notes = [own.note(), kept.to_owned()];
        let notes: Vec<String> = notes.into_iter().filter(|note| !note.is_empty()).collect();
        table.add_row([
            own.number.to_string(),
            owner::time(own.at),
            own.who.clone(),
            format!("{} ({})", own.image.reference, short(&own.image.id)),
            own.replicas.to_string(),
            own.strategy.clone(),
            notes.join(", "),
        ]);
    }
    let text = table.to_string();
    let lines = text.lines().map(|line| format!("{}\n", line.trim()));
    lines.collect()
}

fn whole(own: &Revision) -> String {
    let facts = [
        ("revision", own.number.to_string()),
        ("when", owner::time(own.at)),
        ("by", own.who.clone()),
        ("rollout", own.rollout.clone()),
        ("image", own.image.reference.clone()),
        ("image id", own.image.id.clone()),
        ("image digest", own.image.digests.join(", ")),
        ("kept as", own.image.kept.clone()),
        ("config hash", own.hash.clone()),
        ("compose", own.compose.clone()),
        ("replicas", own.replicas.to_string()),
        ("way", format!("{}, {}", own.strategy, own.proxy)),
        ("note", own.note()),
    ];
    let said = facts.iter().filter(|(_, value)| !value.is_empty());
    let facts: String = said
        .map(|(name, value)| format!("{name:<13}{value}\n"))
        .collect();
    format!("{facts}\n{}", own.config)
}

/// What differs: the image first, which a moved tag hides from the configuration.
fn difference(a: &Revision, b: &Revision) -> String {
    let (old, new) = (comparable(a), comparable(b));
    let diff = TextDiff::from_lines(old.as_str(), new.as_str());
    let header = |own: &Revision| format!("revision {}", own.number);
    diff.unified_diff()
        .header(&header(a), &header(b))
        .to_string()
}

fn comparable(own: &Revision) -> String {
    let image = format!("# image {}\n", own.image.id);
    // Written by one hand, whichever version of Compose wrote the record.
    let config = yaml::parse(&own.config).and_then(|value| yaml::write(&value));
    image + &config.unwrap_or_else(|_| own.config.clone())
}

/// The twelve characters that people see.
fn short(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
