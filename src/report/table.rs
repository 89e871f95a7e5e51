//! A table for people, as wide as the terminal.

use comfy_table::{
    ContentArrangement, Table,
    presets::{ASCII_HORIZONTAL_ONLY, UTF8_HORIZONTAL_ONLY},
};
use console::Term;

use super::look::Look;

/// As wide as the terminal that standard output is; whatever it needs elsewhere.
pub fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let look = Look::of(&Term::stdout(), |name| std::env::var(name).ok());
    table_in(look, header, rows)
}

/// As wide as this look.
pub(super) fn table_in<const N: usize>(
    look: Look,
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let style = match look.ascii {
        true => ASCII_HORIZONTAL_ONLY,
        false => UTF8_HORIZONTAL_ONLY,
    };
    let mut table = Table::new();
    table.load_style(style).set_header(header).add_rows(rows);
    if let Some(width) = look.width.and_then(|width| u16::try_from(width).ok()) {
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width);
    }
    let lines = table.to_string();
    let lines = lines.lines().map(|line| format!("{}\n", line.trim_end()));
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_terminal_folds_what_a_pipe_keeps_on_one_line() {
        let row = || [["one".to_owned(), "two words and more of them".to_owned()]];
        let wide = table_in(Look::default(), ["a", "b"], row());
        assert!(
            wide.contains(" one   two words and more of them\n"),
            "{wide}"
        );
        let look = Look {
            width: Some(24),
            ascii: true,
            ..Look::default()
        };
        let narrow = table_in(look, ["a", "b"], row());
        assert!(
            narrow.lines().all(|line| line.chars().count() <= 24),
            "{narrow}"
        );
        assert!(narrow.contains("two words and\n"), "{narrow}");
        assert!(narrow.is_ascii(), "{narrow}");
    }

    #[test]
    fn six_columns_with_long_texts_fit_80_columns() {
        let cells = [
            "web",
            "12",
            "registry.example.com/team/application:2026-11-29",
            "2 of 2",
            "live",
            "config: what runs differs from the Compose file; replicas: 2 running, 3 desired",
        ];
        let row = cells.map(str::to_owned);
        let header = ["service", "revision", "image", "replicas", "route", "state"];
        let look = Look {
            width: Some(80),
            ..Look::default()
        };
        let text = table_in(look, header, [row]);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        for whole in ["2 of 2", "registry", "config:"] {
            assert!(text.contains(whole), "{text}");
        }
    }
}
