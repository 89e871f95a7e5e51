//! A table for people, as wide as the terminal.

use comfy_table::{ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use console::Term;

/// As wide as the terminal that standard output is; whatever it needs elsewhere.
pub fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let width = Term::stdout().size_checked().map(|(_, columns)| columns);
    of_width(width, header, rows)
}

fn of_width<const N: usize>(
    width: Option<u16>,
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(UTF8_HORIZONTAL_ONLY)
        .set_header(header)
        .add_rows(rows);
    if let Some(width) = width {
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
        let wide = of_width(None, ["a", "b"], row());
        assert!(
            wide.contains(" one   two words and more of them\n"),
            "{wide}"
        );
        let narrow = of_width(Some(24), ["a", "b"], row());
        assert!(
            narrow.lines().all(|line| line.chars().count() <= 24),
            "{narrow}"
        );
        assert!(narrow.contains("two words and\n"), "{narrow}");
    }
}
