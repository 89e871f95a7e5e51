//! What a load has seen, and the figures that a rollout is judged by.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

const ERRORS_SHOWN: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Steady,
    Slow,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub version: Option<String>,
}

/// One request; times count from the start of the load.
#[derive(Clone, Debug)]
pub struct Record {
    pub kind: Kind,
    /// Right before it was written.
    pub sent: Duration,
    /// When the head of the answer was there.
    pub answered: Duration,
    pub ended: Duration,
    pub outcome: Result<Answer, String>,
}

impl Record {
    pub fn lost(error: &str, at: Duration) -> Self {
        Self {
            kind: Kind::Slow,
            sent: at,
            answered: at,
            ended: at,
            outcome: Err(error.into()),
        }
    }

    pub fn version(&self) -> Option<&str> {
        self.outcome.as_ref().ok()?.version.as_deref()
    }

    pub fn error(&self) -> Option<String> {
        match &self.outcome {
            Ok(answer) if (200..300).contains(&answer.status) => None,
            Ok(answer) => Some(format!(
                "status {} at {:.3} s",
                answer.status,
                self.ended.as_secs_f64()
            )),
            Err(error) => Some(format!("{error} at {:.3} s", self.ended.as_secs_f64())),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct WebSocketReport {
    /// The version it was opened to.
    pub version: Option<String>,
    pub messages: usize,
    pub messages_after_cutover: usize,
    pub error: Option<String>,
}

impl WebSocketReport {
    pub fn survived_cutover(&self) -> bool {
        self.error.is_none() && self.messages_after_cutover > 0
    }
}

#[derive(Clone, Debug)]
pub struct SlowReport {
    pub requests: usize,
    pub failed: usize,
    /// Sent before the first answer of the newest version and answered after it.
    pub across_cutover: usize,
}

#[derive(Clone, Debug)]
pub struct LoadReport {
    pub requests: usize,
    pub failed: usize,
    /// The first few.
    pub errors: Vec<String>,
    /// Each version and its first answer, in that order.
    pub first_answers: Vec<(String, Duration)>,
    /// Requests sent after the first answer of a newer version and answered by an older one all the same.
    pub mixed: usize,
    pub longest_gap: Duration,
    pub p99: Duration,
    pub rate: f64,
    pub slow: Option<SlowReport>,
    pub websocket: Option<WebSocketReport>,
    pub records: Vec<Record>,
}

impl LoadReport {
    pub fn of(mut records: Vec<Record>, websocket: Option<WebSocketReport>) -> Self {
        records.sort_by_key(|record| record.ended);
        let first_answers = first_answers(&records);
        let errors: Vec<String> = records.iter().filter_map(Record::error).collect();
        let of_kind = |kind| records.iter().filter(move |record| record.kind == kind);
        let steady: Vec<&Record> = of_kind(Kind::Steady).collect();
        let slow: Vec<&Record> = of_kind(Kind::Slow).collect();
        Self {
            requests: records.len(),
            failed: errors.len(),
            errors: errors.into_iter().take(ERRORS_SHOWN).collect(),
            mixed: records
                .iter()
                .filter(|record| is_mixed(record, &first_answers))
                .count(),
            longest_gap: longest_gap(&steady),
            p99: p99(&steady),
            rate: rate(&steady),
            slow: (!slow.is_empty()).then(|| slow_report(&slow, &first_answers)),
            websocket,
            first_answers,
            records,
        }
    }

    pub fn first_answer_of(&self, version: &str) -> Option<Duration> {
        self.first_answers
            .iter()
            .find(|(name, _)| name == version)
            .map(|(_, first)| *first)
    }

    /// Nothing failed and the versions never answered side by side.
    pub fn nothing_lost(&self) -> bool {
        self.requests > 0 && self.failed == 0 && self.mixed == 0
    }
}

impl Display for LoadReport {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let versions: Vec<&str> = self
            .first_answers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        write!(
            f,
            "{} requests at {:.0}/s, {} failed, {} mixed, versions {}, longest gap {:?}, p99 {:?}",
            self.requests,
            self.rate,
            self.failed,
            self.mixed,
            versions.join(" → "),
            self.longest_gap,
            self.p99
        )?;
        self.errors
            .iter()
            .try_for_each(|error| write!(f, "\n  {error}"))
    }
}

fn first_answers(records: &[Record]) -> Vec<(String, Duration)> {
    let mut firsts: Vec<(String, Duration)> = Vec::new();
    for record in records {
        let Some(version) = record.version() else {
            continue;
        };
        match firsts.iter_mut().find(|(name, _)| name == version) {
            Some((_, first)) => *first = record.answered.min(*first),
            None => firsts.push((version.into(), record.answered)),
        }
    }
    firsts.sort_by_key(|(_, first)| *first);
    firsts
}

fn is_mixed(record: &Record, first_answers: &[(String, Duration)]) -> bool {
    let Some(version) = record.version() else {
        return false;
    };
    let newer = first_answers
        .iter()
        .skip_while(|(name, _)| name != version)
        .skip(1);
    newer.into_iter().any(|(_, first)| record.sent > *first)
}

fn slow_report(slow: &[&Record], first_answers: &[(String, Duration)]) -> SlowReport {
    let cutover = first_answers
        .get(1..)
        .and_then(<[_]>::last)
        .map(|(_, first)| *first);
    let across =
        |record: &&&Record| cutover.is_some_and(|at| record.sent < at && record.ended > at);
    SlowReport {
        requests: slow.len(),
        failed: slow
            .iter()
            .filter(|record| record.error().is_some())
            .count(),
        across_cutover: slow.iter().filter(across).count(),
    }
}

/// The longest time in which no request was answered well.
fn longest_gap(steady: &[&Record]) -> Duration {
    let answered: Vec<Duration> = steady
        .iter()
        .filter(|record| record.error().is_none())
        .map(|record| record.ended)
        .collect();
    answered
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .max()
        .unwrap_or_default()
}

fn p99(steady: &[&Record]) -> Duration {
    let mut times: Vec<Duration> = steady
        .iter()
        .map(|record| record.ended - record.sent)
        .collect();
    times.sort_unstable();
    times
        .get(times.len().saturating_sub(1) * 99 / 100)
        .copied()
        .unwrap_or_default()
}

fn rate(steady: &[&Record]) -> f64 {
    match (steady.first(), steady.last()) {
        (Some(first), Some(last)) if last.ended > first.ended => {
            steady.len() as f64 / (last.ended - first.ended).as_secs_f64()
        }
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(version: &str, sent: u64, ended: u64) -> Record {
        let (sent, ended) = (Duration::from_millis(sent), Duration::from_millis(ended));
        let answer = Answer {
            status: 200,
            version: Some(version.into()),
        };
        Record {
            kind: Kind::Steady,
            sent,
            answered: ended,
            ended,
            outcome: Ok(answer),
        }
    }

    #[test]
    fn an_old_answer_to_a_request_sent_before_the_first_new_answer_is_not_mixed() {
        let report = LoadReport::of(
            vec![
                answered("v1", 0, 5),
                answered("v1", 9, 90),
                answered("v2", 8, 10),
            ],
            None,
        );
        assert_eq!(report.mixed, 0);
        assert_eq!(
            report.first_answer_of("v2"),
            Some(Duration::from_millis(10))
        );
    }

    #[test]
    fn an_old_answer_to_a_request_sent_after_the_first_new_answer_is_mixed() {
        let report = LoadReport::of(
            vec![
                answered("v1", 0, 5),
                answered("v2", 8, 10),
                answered("v1", 11, 12),
            ],
            None,
        );
        assert_eq!(report.mixed, 1);
        assert!(!report.nothing_lost());
    }

    #[test]
    fn an_error_status_and_a_lost_answer_both_count_as_failed() {
        let mut refused = answered("v1", 3, 4);
        refused.outcome = Ok(Answer {
            status: 502,
            version: None,
        });
        let lost = Record::lost("connection reset", Duration::from_millis(5));
        let report = LoadReport::of(vec![answered("v1", 0, 1), refused, lost], None);
        assert_eq!((report.requests, report.failed), (3, 2));
        assert_eq!(
            report.errors,
            ["status 502 at 0.004 s", "connection reset at 0.005 s"]
        );
    }
}
