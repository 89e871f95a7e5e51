//! Refuses labels of a new version by which Traefik would not route to it, or send to the wrong port. Pure.

use super::{
    fields::{Unknown, unknown},
    ports::{fixed_address, trap},
};
use crate::{
    compose::exposed::exposed,
    context::ServiceContext,
    docker::engine::Image,
    error::{Error, Result},
    model::Order,
};

/// Refuses a new version that Traefik would send to the wrong port of, or leave out for want of one.
pub fn ports(context: &ServiceContext<'_>, image: &Image) -> Result<()> {
    let exposed = exposed(context.service, &image.ports);
    let labels = context.labels(Some(image));
    let name = &context.service.name;
    if let Some((own, url)) = fixed_address(&labels)
        && context.settings.order() == Order::StartFirst
    {
        let message = format!(
            "Traefik sends to {url} for {name}, whichever version is there (loadbalancer.server.url of {own})"
        );
        return Err(Error::refused(message).hint(
            "give it loadbalancer.server.port and server.scheme instead, or roll with --strategy recreate",
        ));
    }
    let Some(trap) = trap(&labels, &exposed) else {
        return Ok(());
    };
    let message = match trap.taken {
        Some(taken) => format!(
            "Traefik would send to port {}/{} of {name}, the lowest that it exposes",
            taken.port,
            if taken.udp { "udp" } else { "tcp" }
        ),
        None => format!("Traefik would leave {name} out: it exposes no port"),
    };
    let port = trap
        .meant
        .map_or("PORT".to_owned(), |port| port.to_string());
    Err(Error::refused(message).hint(format!(
        "add the label {}: \"{port}\" to {name}",
        trap.label
    )))
}

/// Refuses a label for which Traefik would leave the new version out, unless what runs has it already: then there is
/// nothing to lose.
pub fn unknown_labels(context: &ServiceContext<'_>) -> Result<()> {
    let olds = context.olds.iter();
    let before: Vec<Unknown> = olds.flat_map(|old| unknown(&old.labels)).collect();
    let added = |own: &Unknown| own.is_certain && !before.contains(own);
    let found = unknown(&context.labels(context.image.as_ref()));
    let Some(own) = found.into_iter().find(added) else {
        return Ok(());
    };
    let name = &context.service.name;
    let meant = own
        .meant
        .map_or_else(String::new, |word| format!("did you mean {word}? "));
    Err(Error::refused(format!(
        "Traefik has no option {}: it would leave {name} out because of this label",
        own.label
    ))
    .hint(format!(
        "{meant}Correct the label or remove it; where a Traefik newer than v3.7 has it: rollout {name} --ignore labels"
    )))
}
