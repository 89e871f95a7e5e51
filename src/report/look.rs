//! What standard error can show: its width, colours, symbols, and whether a line can be drawn again in place.

use console::{Style, Term, measure_text_width};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Columns; `None` where lines are not read on a terminal.
    pub width: Option<usize>,
    pub colours: bool,
    /// No symbols beyond ASCII.
    pub ascii: bool,
    /// A line can be drawn again in place.
    pub redraws: bool,
}

impl Look {
    /// The look of a terminal, by the variables of the environment that programs agree on.
    pub fn of(terminal: &Term, variable: impl Fn(&str) -> Option<String>) -> Self {
        let width = terminal.size_checked();
        Self {
            width: width.map(|(_, columns)| usize::from(columns)),
            ..Self::by(terminal.is_term(), variable)
        }
    }

    fn by(is_terminal: bool, variable: impl Fn(&str) -> Option<String>) -> Self {
        let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
        let is_on = |name| is_set(name) && variable(name).is_none_or(|value| value != "0");
        let ascii = variable("TERM").as_deref() == Some("dumb");
        let redraws = is_terminal && !ascii;
        let forced = is_on("FORCE_COLOR") || is_on("CLICOLOR_FORCE");
        let refused = variable("CLICOLOR").is_some_and(|value| value == "0");
        Self {
            width: None,
            colours: !is_set("NO_COLOR") && (forced || (redraws && !refused)),
            ascii,
            redraws,
        }
    }

    pub fn style(self, style: Style, text: &str) -> String {
        style.force_styling(self.colours).apply_to(text).to_string()
    }

    /// The lines that a text takes: at most as wide as the terminal where it has spaces to break at.
    pub fn lines(self, text: &str) -> Vec<String> {
        let text = match self.ascii {
            true => text.chars().map(ascii).collect(),
            false => text.to_owned(),
        };
        match self.width {
            Some(width) if measure_text_width(&text) > width => fold(&text, width),
            _ => vec![text],
        }
    }
}

fn ascii(symbol: char) -> String {
    match symbol {
        '✓' => "+".to_owned(),
        '✗' => "x".to_owned(),
        '→' => "->".to_owned(),
        '…' => "...".to_owned(),
        // Letters of a name stay what they are.
        own if own.is_ascii() || own.is_alphanumeric() => own.to_string(),
        _ => "?".to_owned(),
    }
}

/// Breaks a line at spaces; what follows is indented by four columns more.
fn fold(text: &str, width: usize) -> Vec<String> {
    let words = text.trim_start();
    let indent = text.len() - words.len();
    let (mut words, mut lines) = (words.split(' '), Vec::new());
    let mut line = " ".repeat(indent) + words.next().unwrap_or_default();
    for word in words {
        if measure_text_width(&line) + 1 + measure_text_width(word) > width {
            lines.push(line);
            line = " ".repeat(indent + 4);
        } else {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// A number of things.
pub fn plural(count: u32, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(is_terminal: bool, variables: &[(&str, &str)]) -> (bool, bool, bool) {
        let look = Look::by(is_terminal, |name| {
            let found = variables.iter().find(|(own, _)| *own == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        (look.colours, look.ascii, look.redraws)
    }

    #[test]
    fn the_environment_decides_on_colours_symbols_and_redrawing() {
        let xterm = ("TERM", "xterm");
        let dumb = ("TERM", "dumb");
        for (is_terminal, variables, expected) in [
            (true, &[xterm][..], (true, false, true)),
            (false, &[xterm], (false, false, false)),
            (true, &[dumb], (false, true, false)),
            (false, &[dumb], (false, true, false)),
            (true, &[xterm, ("NO_COLOR", "1")], (false, false, true)),
            (true, &[xterm, ("NO_COLOR", "")], (true, false, true)),
            (true, &[xterm, ("CLICOLOR", "0")], (false, false, true)),
            (false, &[("FORCE_COLOR", "1")], (true, false, false)),
            (false, &[("FORCE_COLOR", "0")], (false, false, false)),
            (false, &[("CLICOLOR_FORCE", "1")], (true, false, false)),
            (
                false,
                &[("FORCE_COLOR", "1"), ("NO_COLOR", "1")],
                (false, false, false),
            ),
        ] {
            assert_eq!(
                look(is_terminal, variables),
                expected,
                "{is_terminal} {variables:?}"
            );
        }
    }

    #[test]
    fn a_line_that_is_too_wide_breaks_at_spaces_and_a_long_word_stays_whole() {
        let of_width = |width| Look {
            width: Some(width),
            ..Look::default()
        };
        let text = "  ! one two three four";
        assert_eq!(of_width(22).lines(text), [text]);
        assert_eq!(
            of_width(14).lines(text),
            ["  ! one two", "      three", "      four"]
        );
        assert_eq!(of_width(4).lines("abcdefgh"), ["abcdefgh"]);
        let red = Style::new().red().force_styling(true);
        let styled = format!("{} two three", red.apply_to("one"));
        assert_eq!(of_width(13).lines(&styled), [styled.as_str()]);
        assert_eq!(Look::default().lines(text), [text]);
    }

    #[test]
    fn a_dumb_terminal_gets_no_symbol_beyond_ascii_and_names_keep_their_letters() {
        let look = Look {
            ascii: true,
            ..Look::default()
        };
        assert_eq!(
            look.lines("  ✓ a → b … größe “x”"),
            ["  + a -> b ... größe ?x?"]
        );
    }
}
