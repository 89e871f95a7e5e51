//! The table of several services while they are rolled: what each does now, or how it ended.

use std::time::{Duration, SystemTime};

use console::{Alignment, Style, measure_text_width, pad_str, truncate_str};

use super::{
    look::Look,
    screen::{Screen, change, span},
    stack,
};
use crate::event::{Event, ServiceResult};

/// One service.
pub struct Row {
    /// Its name, after that of its host where there are several.
    pub title: String,
    pub screen: Screen,
    /// The image that comes.
    image: String,
    /// The image that ran before.
    replaces: Option<String>,
    began: Option<SystemTime>,
    end: Option<(SystemTime, ServiceResult)>,
    /// What was rolled is being undone.
    goes_back: bool,
}

impl Row {
    pub fn new(title: String, screen: Screen) -> Self {
        Self {
            title,
            screen,
            image: String::new(),
            replaces: None,
            began: None,
            end: None,
            goes_back: false,
        }
    }

    /// Keeps up what the service does.
    pub fn follow(&mut self, at: SystemTime, event: &Event) {
        match event {
            Event::Opening { .. } | Event::StepStarted { .. } => self.begin(at),
            Event::Started {
                image, replaces, ..
            } => {
                self.begin(at);
                (self.image, self.replaces) = (image.clone(), replaces.clone());
            }
            // The images of all services are fetched before the first one begins.
            Event::StepFinished {
                step: "pull" | "build",
                ..
            } => self.began = None,
            Event::Undoing { .. } => self.goes_back = true,
            Event::Finished { .. } if self.goes_back => self.ends(at, ServiceResult::RolledBack),
            Event::Finished { .. } => self.ends(at, ServiceResult::Rolled),
            Event::Completed { image, .. } => {
                self.image.clone_from(image);
                self.ends(at, ServiceResult::Completed);
            }
            Event::NothingToDo { image, .. } => {
                self.image.clone_from(image);
                self.ends(at, ServiceResult::Unchanged);
            }
            Event::Paused { .. } => self.ends(at, ServiceResult::Paused),
            Event::Failed { .. } => self.ends(at, ServiceResult::Failed),
            _ => {}
        }
    }

    fn begin(&mut self, at: SystemTime) {
        // What begins again after its end is undone, because another service failed.
        if self.end.take().is_some() {
            (self.goes_back, self.began) = (true, None);
        }
        self.began.get_or_insert(at);
    }

    fn ends(&mut self, at: SystemTime, result: ServiceResult) {
        self.end = Some((at, result));
    }

    fn is_at_work(&self) -> bool {
        self.began.is_some() && self.end.is_none()
    }

    /// What it does now, in full where there is room, or how it ended.
    fn state(&self, now: SystemTime, room: usize) -> String {
        if let Some((_, result)) = self.end {
            return stack::result(result);
        }
        if self.began.is_none() {
            return "to come".to_owned();
        }
        let back = if self.goes_back { "rolling back: " } else { "" };
        let texts = [self.screen.activity(now), self.screen.brief(now)];
        let texts = texts.into_iter().flatten();
        fitting(texts.map(|text| format!("{back}{text}")), room).unwrap_or_default()
    }

    /// The old and the new image: in full where there is room, else the name once, else the end alone.
    fn image(&self, room: usize) -> String {
        if room == 0 {
            return String::new();
        }
        let replaces = self.replaces.as_deref();
        let whole = change(&self.image, replaces);
        let texts = [whole, name_once(&self.image, replaces)];
        let text = fitting(texts.into_iter(), room).unwrap_or_default();
        match text.chars().count() {
            all if all > room => {
                let end = text.chars().skip(all + 1 - room);
                format!("…{}", end.collect::<String>())
            }
            _ => text,
        }
    }

    fn time(&self, now: SystemTime) -> String {
        let since = |to: SystemTime| self.began.and_then(|began| to.duration_since(began).ok());
        match self.end {
            Some((at, _)) => since(at).map(|spent| span(spent.as_millis() as u64)),
            None => since(now).map(|spent| format!("{} s", spent.as_secs())),
        }
        .unwrap_or_default()
    }

    fn mark(&self, look: Look, now: SystemTime) -> String {
        use ServiceResult as R;
        match self.end {
            Some((_, R::Failed | R::RolledBack)) => look.style(Style::new().red(), "✗"),
            Some(_) => look.style(Style::new().green(), "✓"),
            None if self.is_at_work() => spinner(now).to_string(),
            None => " ".to_owned(),
        }
    }
}

/// The first text that fits, else the last one.
fn fitting(texts: impl Iterator<Item = String>, room: usize) -> Option<String> {
    let mut last = None;
    for text in texts {
        let fits = measure_text_width(&text) <= room;
        last = Some(text);
        if fits {
            break;
        }
    }
    last
}

fn name_once(image: &str, replaces: Option<&str>) -> String {
    let before = replaces.filter(|before| *before != image);
    match (
        before.and_then(|own| own.rsplit_once(':')),
        image.rsplit_once(':'),
    ) {
        (Some((name, old)), Some((same, new))) if name == same => format!("{name}:{old} → {new}"),
        _ => change(image, replaces),
    }
}

/// The columns of the table.
struct Columns {
    title: usize,
    state: usize,
    image: usize,
}

/// The mark, the time, and the spaces between the columns.
const AROUND: usize = 17;
/// The columns that a state is sure of, and those beyond which it does not go.
const STATE: (usize, usize) = (36, 70);

impl Columns {
    fn of(rows: &[Row], width: usize) -> Self {
        let widest = |each: fn(&Row) -> usize| rows.iter().map(each).max().unwrap_or_default();
        let title = widest(|row| measure_text_width(&row.title)).min(width / 3);
        let free = width.saturating_sub(AROUND + title);
        let image = widest(|row| measure_text_width(&row.image(usize::MAX)));
        let image = image.min(free.saturating_sub(STATE.0));
        Self {
            title,
            state: (free - image).min(STATE.1),
            image,
        }
    }

    fn line(&self, row: &Row, look: Look, now: SystemTime) -> String {
        let cell =
            |text: &str, width| pad_str(text, width, Alignment::Left, Some("…")).into_owned();
        let line = format!(
            "  {} {}  {}  {}  {:>7}",
            row.mark(look, now),
            look.style(Style::new().bold(), &cell(&row.title, self.title)),
            cell(&row.state(now, self.state), self.state),
            cell(&row.image(self.image), self.image),
            row.time(now),
        );
        line.trim_end().to_owned()
    }
}

/// The lines of the table, on a terminal of so many lines and columns. Where they are too many, what is finished or not
/// begun is one line.
pub fn table(
    rows: &[Row],
    look: Look,
    now: SystemTime,
    (height, width): (usize, usize),
) -> Vec<String> {
    // The cursor stands on the line below the table.
    let room = height.saturating_sub(1);
    let columns = Columns::of(rows, width);
    let lines = |rows: Vec<&Row>| {
        let lines = rows.into_iter().map(|row| columns.line(row, look, now));
        let lines = lines.map(|line| cut(&line, width));
        lines.collect::<Vec<_>>()
    };
    if rows.len() <= room {
        return lines(rows.iter().collect());
    }
    let at_work = rows.iter().filter(|row| row.is_at_work());
    let mut lines = lines(at_work.take(room.saturating_sub(1)).collect());
    let rest = rest(rows, lines.len());
    lines.push(cut(&format!("    {rest}"), width));
    lines
}

/// How many rows are not shown, by what they are.
fn rest(rows: &[Row], shown: usize) -> String {
    let count = |is: fn(&&Row) -> bool| rows.iter().filter(is).count();
    let has_failed = |row: &&Row| matches!(row.end, Some((_, ServiceResult::Failed)));
    let (ended, failed) = (count(|row| row.end.is_some()), count(has_failed));
    let at_work = count(|row| row.is_at_work());
    let parts = [
        (at_work - shown, "more at work"),
        (ended - failed, "done"),
        (failed, "failed"),
        (rows.len() - ended - at_work, "to come"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0);
    let parts = parts.map(|(count, what)| format!("{count} {what}"));
    parts.collect::<Vec<_>>().join(", ")
}

pub fn cut(line: &str, width: usize) -> String {
    truncate_str(line, width, "…").into_owned()
}

const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];
/// Between two frames of what is drawn.
pub const FRAME: Duration = Duration::from_millis(100);

/// The symbol that says that something goes on.
pub fn spinner(now: SystemTime) -> char {
    let since = now.duration_since(SystemTime::UNIX_EPOCH);
    let frames = since.unwrap_or_default().as_millis() / FRAME.as_millis();
    SPINNER[(frames % SPINNER.len() as u128) as usize]
}

#[cfg(test)]
#[path = "rows_tests.rs"]
mod tests;
