//! The lines at the end of the output that are drawn again in place, below what is printed.

use console::measure_text_width;

/// Erases the line of the cursor and goes to its beginning.
const ERASE: &str = "\u{1b}[2K\r";
/// The same for the line above.
const UP: &str = "\u{1b}[A\u{1b}[2K\r";

#[derive(Default)]
pub struct Live {
    /// The columns of each line that is drawn.
    drawn: Vec<usize>,
}

impl Live {
    /// What a terminal of so many columns takes to print `printed` and to draw `live` below it. One write, so that it does
    /// not flicker.
    pub fn frame(&mut self, columns: usize, printed: &[String], live: &[String]) -> String {
        // A terminal that has become narrower wraps what was drawn.
        let height = |width: &usize| width.div_ceil(columns.max(1)).max(1);
        // Line by line: tmux keeps a screen that is erased as a whole in its history.
        let mut frame = match self.drawn.iter().map(height).sum() {
            0 => String::new(),
            lines => format!("{ERASE}{}", UP.repeat(lines)),
        };
        for line in printed.iter().chain(live) {
            frame.push_str(line);
            frame.push('\n');
        }
        self.drawn = live.iter().map(|line| measure_text_width(line)).collect();
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal that takes what a frame has.
    #[derive(Default)]
    struct Terminal {
        lines: Vec<String>,
    }

    impl Terminal {
        fn takes(&mut self, frame: &str) {
            let mut rest = frame.strip_prefix(ERASE).unwrap_or(frame);
            while let Some(after) = rest.strip_prefix(UP) {
                self.lines.pop().unwrap();
                rest = after;
            }
            assert!(!rest.contains('\u{1b}'), "{rest:?}");
            self.lines.extend(rest.lines().map(str::to_owned));
        }
    }

    fn lines(text: &[&str]) -> Vec<String> {
        text.iter().map(|&line| line.to_owned()).collect()
    }

    #[test]
    fn what_is_printed_stays_whole_above_what_is_drawn_again() {
        let (mut live, mut terminal) = (Live::default(), Terminal::default());
        for (printed, drawn) in [
            (&["first"][..], &["web 1", "api 1"][..]),
            (&[], &["web 2", "api 2"]),
            (&["second", "third"], &["web 3", "api 3", "job 3"]),
            (&[], &["web 4"]),
        ] {
            terminal.takes(&live.frame(80, &lines(printed), &lines(drawn)));
        }
        assert_eq!(terminal.lines, ["first", "second", "third", "web 4"]);
        terminal.takes(&live.frame(80, &lines(&["end"]), &[]));
        assert_eq!(terminal.lines, ["first", "second", "third", "end"]);
        assert_eq!(live.frame(80, &[], &[]), "");
    }

    #[test]
    fn what_a_narrower_terminal_has_wrapped_is_drawn_over_in_full() {
        let mut live = Live::default();
        live.frame(80, &[], &lines(&[&"a".repeat(61), "b"]));
        let frame = live.frame(30, &[], &lines(&["c"]));
        assert_eq!(frame, format!("{ERASE}{}c\n", UP.repeat(4)));
    }
}
