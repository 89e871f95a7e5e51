//! Draws the screen on standard error: in place on a terminal, plain lines elsewhere.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant, SystemTime},
};

use console::Term;
use indicatif::{ProgressBar, ProgressStyle};

use super::{look::Look, screens::Screens};
use crate::event::{Event, Scope, Sink};

/// Standard output stays free for what a command was asked to print.
pub struct Human(Arc<Mutex<Drawn>>);

struct Drawn {
    screens: Screens,
    terminal: Term,
    /// What goes on, drawn in place; none where lines cannot be drawn again, and while nothing goes on.
    spinner: Option<ProgressBar>,
    look: Look,
    /// When the last line was printed.
    printed: Instant,
    /// The lines in a row that say only what goes on.
    repeats: u32,
}

/// Between two frames of the spinner.
const FRAME: Duration = Duration::from_millis(100);

impl Human {
    /// `verbose` shows every line that Compose prints.
    pub fn new(verbose: bool) -> Self {
        let terminal = Term::stderr();
        let look = Look::of(&terminal, |name| std::env::var(name).ok());
        let drawn = Arc::new(Mutex::new(Drawn {
            screens: Screens::new(look, verbose),
            terminal,
            spinner: None,
            look,
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
        if drawn.screens.activity(at).is_none() {
            drawn.clear();
        }
        for line in lines {
            drawn.line(&line);
            drawn.repeats = 0;
        }
        drawn.frame();
    }
}

impl Drop for Human {
    fn drop(&mut self) {
        let mut drawn = lock(&self.0);
        drawn.screens.end();
        drawn.clear();
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
    fn line(&mut self, text: &str) {
        match &self.spinner {
            Some(spinner) => spinner.println(text),
            // A terminal that has gone away is no reason to stop half-way through a rollout.
            None => drop(self.terminal.write_line(text)),
        }
        self.printed = Instant::now();
    }

    /// What goes on: in place, or as a line after a silence.
    fn frame(&mut self) {
        let now = SystemTime::now();
        let Some(text) = self.screens.activity(now) else {
            return self.clear();
        };
        if self.look.redraws {
            let spinner = self.spinner.get_or_insert_with(spinner);
            spinner.set_message(text);
            spinner.tick();
        } else if self.printed.elapsed() >= silence(self.repeats) {
            for line in self.screens.waiting(now) {
                self.line(&line);
            }
            self.repeats += 1;
        }
    }

    fn clear(&mut self) {
        if let Some(spinner) = self.spinner.take() {
            spinner.finish_and_clear();
        }
    }
}

fn spinner() -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    match ProgressStyle::with_template("  {spinner} {wide_msg}") {
        Ok(style) => spinner.with_style(style),
        Err(_) => spinner,
    }
}

/// After how much silence a line says what goes on; after half a minute of such lines alone less often.
fn silence(repeats: u32) -> Duration {
    match repeats {
        0..15 => Duration::from_secs(2),
        _ => Duration::from_secs(10),
    }
}
