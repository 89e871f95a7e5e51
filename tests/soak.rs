//! The long runs of `make soak`: everything that can go wrong in the middle, on the real engine; each ends with a table.

mod actions;
mod calls;
pub mod dockerd;
mod hundred;
mod steps;

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};

use testbed::Run;

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    table
}

/// What a run did with what an earlier one had left.
fn settled_by(run: &Run) -> &'static str {
    match run.event("unfinished") {
        Some(event) if event["forward"] == true => "finished it",
        Some(_) => "undid it, began anew",
        None if run.event("nothing_to_do").is_some() => "nothing to do",
        None => "rolled",
    }
}
