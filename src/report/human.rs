//! Draws the screen on standard error: in place on a terminal, plain lines elsewhere.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant, SystemTime},
};

use console::Term;

use super::{live::Live, look::Look, rows::FRAME, screens::Screens};
use crate::event::{Event, Scope, Sink};

/// The columns of a time and the space behind it.
const TIME: usize = "2026-01-01T00:00:00Z ".len();

/// Standard output stays free for what a command was asked to print.
pub struct Human(Arc<Mutex<Drawn>>);

struct Drawn {
    screens: Screens,
    terminal: Term,
    /// What goes on, where lines can be drawn again.
    live: Live,
    look: Look,
    /// Each line begins with its time.
    has_times: bool,
    /// When the last line was printed.
    printed: Instant,
    /// The lines in a row that say only what goes on.
    repeats: u32,
}

impl Human {
    /// `verbose` shows every line that Compose prints; `has_times` puts the time before each line; the services have their log
    /// files in `log_dir`.
    pub fn new(verbose: bool, has_times: bool, log_dir: Option<PathBuf>) -> Self {
        let terminal = Term::stderr();
        let mut look = Look::of(&terminal, |name| std::env::var(name).ok());
        if has_times {
            look.width = look.width.map(|all| all.saturating_sub(TIME));
        }
        let drawn = Arc::new(Mutex::new(Drawn {
            screens: Screens::new(look, verbose, log_dir),
            terminal,
            live: Live::default(),
            look,
            has_times,
            printed: Instant::now(),
            repeats: 0,
        }));
        let weak = Arc::downgrade(&drawn);
        thread::spawn(move || keep_up(&weak));
        Self(drawn)
    }
}

fn lock(drawn: &Mutex<Drawn>) -> MutexGuard<'_, Drawn> {
    drawn.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink for Human {
    fn event(&mut self, at: SystemTime, scope: &Scope, event: &Event) {
        let mut drawn = lock(&self.0);
        let lines = drawn.screens.lines(at, scope, event);
        if !lines.is_empty() {
            drawn.repeats = 0;
        }
        drawn.print(&lines);
    }
}

impl Drop for Human {
    fn drop(&mut self) {
        let mut drawn = lock(&self.0);
        drawn.screens.end();
        drawn.print(&[]);
    }
}

/// Shows what goes on for as long as the sink lives.
fn keep_up(drawn: &Weak<Mutex<Drawn>>) {
    while let Some(drawn) = drawn.upgrade() {
        lock(&drawn).frame();
        drop(drawn);
        thread::sleep(FRAME);
    }
}

impl Drawn {
    /// Prints lines, and draws what goes on below them.
    fn print(&mut self, lines: &[String]) {
        let time = match self.has_times {
            true => format!("{} ", humantime::format_rfc3339_seconds(SystemTime::now())),
            false => String::new(),
        };
        let lines: Vec<String> = lines.iter().map(|line| format!("{time}{line}")).collect();
        let text = match self.look.redraws {
            true => {
                let (height, width) = self.terminal.size();
                let size = (usize::from(height), usize::from(width));
                let live = self.screens.live(SystemTime::now(), size);
                self.live.frame(size.1, &lines, &live)
            }
            false => lines.iter().map(|line| format!("{line}\n")).collect(),
        };
        // A terminal that has gone away is no reason to stop half-way through a rollout.
        drop(self.terminal.write_str(&text));
        if !lines.is_empty() {
            self.printed = Instant::now();
        }
    }

    /// Shows what goes on: in place, or as lines after a silence.
    fn frame(&mut self) {
        if self.look.redraws {
            return self.print(&[]);
        }
        if self.printed.elapsed() < silence(self.repeats) {
            return;
        }
        let lines = self.screens.waiting(SystemTime::now());
        if !lines.is_empty() {
            self.print(&lines);
            self.repeats += 1;
        }
    }
}

/// After how much silence a line says what goes on; after half a minute of such lines alone less often.
fn silence(repeats: u32) -> Duration {
    match repeats {
        0..15 => Duration::from_secs(2),
        _ => Duration::from_secs(10),
    }
}
