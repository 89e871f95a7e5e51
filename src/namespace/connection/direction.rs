//! Puts the segments of one direction in order, and finds the gaps between them.

use crate::namespace::packets::segment::Segment;

/// The position in one direction. A gap is the number of bytes that were sent and not captured.
#[derive(Debug, Default)]
pub struct Direction {
    /// The sequence number of the first byte, from which the kernel counts.
    first: Option<u32>,
    /// The sequence number of the byte that comes next.
    next: Option<u32>,
    acknowledged: Option<u32>,
    /// The kernel dropped packets, perhaps some that follow the last one captured.
    may_lack: bool,
}

impl Direction {
    /// The connection begins: its first byte has the number `first`.
    pub fn open(&mut self, first: u32) {
        self.first = Some(first);
        self.continue_at(first);
    }

    /// Byte `next` comes next, whatever came before.
    pub fn continue_at(&mut self, next: u32) {
        self.next = Some(next);
        self.may_lack = false;
    }

    /// Packets after the last one captured may be missing.
    pub fn packets_dropped(&mut self) {
        self.may_lack = true;
    }

    /// Whether everything sent so far was captured or is a known gap.
    pub fn is_complete(&self) -> bool {
        !self.may_lack
    }

    /// The other side has received everything before `number`; returns the gap before it.
    pub fn acknowledged(&mut self, number: u32) -> u64 {
        let ahead = self.next.map_or(0, |next| distance(next, number));
        // An acknowledgement that is behind is an old one and proves nothing.
        if ahead >= 0 {
            self.may_lack = false;
            self.acknowledged = Some(number);
        }
        if ahead > 0 {
            self.next = Some(number);
        }
        u64::try_from(ahead).unwrap_or(0)
    }

    /// The kernel has counted `count` bytes, and every captured packet is read; returns the gap at their end.
    pub fn counted(&mut self, count: u64) -> u64 {
        // Sequence numbers wrap, so only the low half of a count matters.
        let count = count as u32;
        if self.first.is_none() && !self.may_lack && self.acknowledged == self.next {
            // All that was captured is acknowledged, and nothing else was sent: the kernel counts up to here too.
            self.first = self.next.map(|next| next.wrapping_sub(count));
        }
        match self.first {
            Some(first) => self.acknowledged(first.wrapping_add(count)),
            None => 0,
        }
    }

    /// Returns the gap before a segment, and its new bytes. The rest was sent again, or is the one byte of a keep-alive
    /// probe.
    pub fn take<'a>(&mut self, segment: &Segment<'a>) -> (u64, &'a [u8]) {
        let data = segment.data;
        if data.is_empty() && !segment.fin {
            return (0, data);
        }
        let ahead = self.next.map_or(0, |next| distance(next, segment.sequence));
        let gap = u64::try_from(ahead).unwrap_or(0);
        let known = usize::try_from(-i64::from(ahead)).unwrap_or(0);
        let new = data.get(known..).unwrap_or_default();
        let end = segment.sequence.wrapping_add(data.len() as u32);
        let end = end.wrapping_add(u32::from(segment.fin));
        if ahead >= 0 || !new.is_empty() {
            self.may_lack = false;
        }
        if self.next.is_none_or(|next| distance(next, end) > 0) {
            self.next = Some(end);
        }
        (gap, new)
    }
}

/// How far `to` is ahead of `from`; sequence numbers wrap.
fn distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from).cast_signed()
}
