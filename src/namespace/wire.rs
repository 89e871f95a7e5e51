//! What is seen of a replica's traffic in all: answers by status class, requests without an answer, and latencies.

use serde::{Deserialize, Serialize};

use super::histogram::Histogram;

/// Counts since the beginning of the watch. They only grow, so the difference of two copies is what came in between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wire {
    /// By the first digit of the status: 1xx, which here is an upgrade to a tunnel, to 5xx.
    pub answers: [u64; 5],
    /// Requests whose connection the application closed without an answer.
    pub unanswered: u64,
    /// Connections that are not HTTP in plain text, and answers whose status could not be read.
    pub unread: u64,
    /// From the first byte of a request to the first byte of its answer, in microseconds.
    pub latencies: Histogram,
}

impl Wire {
    pub fn requests(&self) -> u64 {
        let answers = self.answers.iter();
        answers.fold(self.unanswered, |sum, own| sum.saturating_add(*own))
    }

    /// 5xx, and no answer.
    pub fn failed(&self) -> u64 {
        self.answers[4].saturating_add(self.unanswered)
    }

    /// The share of the requests that failed; 0 where there are none.
    pub fn failed_share(&self) -> f64 {
        self.failed() as f64 / self.requests().max(1) as f64
    }

    /// Whether too much could not be read for the counts to say anything: more than 1 %, and more than a stray connection.
    pub fn is_blind(&self) -> bool {
        let is_stray = self.unread < 3 && self.requests() > 0;
        !is_stray && self.unread.saturating_mul(100) > self.requests()
    }

    pub fn add(&mut self, other: &Self) {
        for (own, more) in self.each_mut().into_iter().zip(other.each()) {
            *own = own.saturating_add(more);
        }
        self.latencies.add(&other.latencies);
    }

    /// What came after `earlier`, a copy of this.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut more = self.clone();
        for (own, before) in more.each_mut().into_iter().zip(earlier.each()) {
            *own = own.saturating_sub(before);
        }
        more.latencies = self.latencies.since(&earlier.latencies);
        more
    }

    fn each(&self) -> [u64; 7] {
        let [a, b, c, d, e] = self.answers;
        [a, b, c, d, e, self.unanswered, self.unread]
    }

    fn each_mut(&mut self) -> [&mut u64; 7] {
        let [a, b, c, d, e] = &mut self.answers;
        [a, b, c, d, e, &mut self.unanswered, &mut self.unread]
    }
}

/// What the bytes of one time add to the counts.
#[derive(Debug, Default)]
pub struct Counter {
    /// When the bytes that are read now were captured, in microseconds.
    pub at: u64,
    pub wire: Wire,
}

impl Counter {
    /// Counts an answer of this status class, from 1 on.
    pub fn answered(&mut self, class: u16, asked_at: u64, answered_at: u64) {
        let index = usize::from(class.clamp(1, 5)) - 1;
        self.wire.answers[index] += 1;
        let latency = answered_at.saturating_sub(asked_at);
        self.wire.latencies.record(latency);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(class: u16, times: u64) -> Wire {
        let mut counter = Counter::default();
        (0..times).for_each(|_| counter.answered(class, 1000, 3000));
        counter.wire
    }

    #[test]
    fn server_errors_and_requests_without_an_answer_have_failed() {
        let mut all = counted(2, 97);
        all.add(&counted(5, 2));
        all.unanswered = 1;
        assert_eq!((all.requests(), all.failed()), (100, 3));
        assert_eq!(counted(4, 5).failed(), 0);
    }

    #[test]
    fn a_copy_and_what_came_since_add_up_to_the_whole() {
        let before = counted(2, 3);
        let mut now = before.clone();
        now.add(&counted(5, 4));
        now.unread = 2;
        let mut sum = now.since(&before);
        assert_eq!((sum.answers[4], sum.answers[1], sum.unread), (4, 0, 2));
        assert_eq!(sum.latencies.count(), 4);
        sum.add(&before);
        assert_eq!(sum, now);
    }

    #[test]
    fn more_than_one_percent_that_cannot_be_read_makes_it_blind() {
        let mut all = counted(2, 100);
        all.unread = 2;
        assert!(!all.is_blind(), "a stray connection");
        all.unread = 3;
        assert!(all.is_blind());
        let all_unread = Wire {
            unread: 1,
            ..Wire::default()
        };
        assert!(all_unread.is_blind());
        let none = Wire::default();
        assert!(!none.is_blind());
    }
}
