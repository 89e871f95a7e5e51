//! How one Traefik is configured: its static configuration from wherever it is read, its version, how it reads Docker, and
//! the lines to add to it.

pub mod advice;
mod container;
mod providers;
mod static_config;
mod summary;
mod tree;
mod version;

pub use self::{
    container::{Holder, Reads, TraefikContainer},
    static_config::{Given, Source, StaticConfig, Written, arguments, candidates, read},
    summary::{looks_like_traefik, tagged_version},
    version::Version,
};
pub(in crate::proxy) use self::{
    container::{Inspected, Sighting},
    providers::{Reference, references, refuse_absent},
    static_config::{Docker, FilePlace, REFRESH, THROTTLE},
    tree::{Node, Tree},
};
