//! Puts the segments of one direction in order, and notices what is missing among them.

use crate::namespace::packets::segment::Segment;

/// The place in one direction.
#[derive(Debug, Default)]
pub struct Direction {
    /// The sequence number of the byte that comes next.
    next: Option<u32>,
    /// The kernel may have had no room for a packet here.
    doubtful: bool,
    acknowledged: Option<u32>,
    /// The sequence number of the first byte, from which the kernel counts.
    origin: Option<u32>,
}

impl Direction {
    /// The connection's first byte has the number `first`.
    pub fn open(&mut self, first: u32) {
        self.begin(first);
        self.origin = Some(first);
    }

    /// The kernel has counted `count` bytes, and no segment is still to come; gives how many of them were not seen here.
    pub fn counted(&mut self, count: u64) -> u64 {
        // Sequence numbers wrap, so that only the low half of a count matters.
        let count = count as u32;
        if self.origin.is_none() && !self.doubtful && self.acknowledged == self.next {
            // All that was seen has been acknowledged, and nothing else was sent: the kernel has counted the same.
            self.origin = self.next.map(|next| next.wrapping_sub(count));
        }
        match self.origin {
            Some(origin) => self.reach(origin.wrapping_add(count)),
            None => 0,
        }
    }

    /// Byte `next` comes next, whatever came before.
    pub fn begin(&mut self, next: u32) {
        self.next = Some(next);
        self.doubtful = false;
    }

    /// Something may be missing at the end of what was seen.
    pub fn doubt(&mut self) {
        self.doubtful = true;
    }

    /// Nothing that matters is missing.
    pub fn trust(&mut self) {
        self.doubtful = false;
    }

    /// Whether all that came was seen, as far as can be known.
    pub fn is_whole(&self) -> bool {
        !self.doubtful
    }

    /// The other side has received everything before `acknowledged`; gives how much of that was not seen here.
    pub fn reach(&mut self, acknowledged: u32) -> u64 {
        let ahead = self.next.map_or(0, |next| distance(next, acknowledged));
        // An acknowledgement that is behind is an old one and proves nothing.
        if ahead >= 0 {
            self.doubtful = false;
            self.acknowledged = Some(acknowledged);
        }
        if ahead > 0 {
            self.next = Some(acknowledged);
        }
        u64::try_from(ahead).unwrap_or(0)
    }

    /// Gives how much was not seen before this segment, and what in it is new; the rest was sent again, or is the
    /// one byte of a keep-alive probe.
    pub fn take<'a>(&mut self, segment: &Segment<'a>) -> (u64, &'a [u8]) {
        let data = segment.data;
        if data.is_empty() && !segment.fin {
            return (0, data);
        }
        let ahead = self.next.map_or(0, |next| distance(next, segment.sequence));
        let lost = u64::try_from(ahead).unwrap_or(0);
        let known = usize::try_from(-i64::from(ahead)).unwrap_or(0);
        let new = data.get(known..).unwrap_or_default();
        let end = segment.sequence.wrapping_add(data.len() as u32);
        let end = end.wrapping_add(u32::from(segment.fin));
        if ahead >= 0 {
            self.doubtful = false;
        }
        if self.next.is_none_or(|next| distance(next, end) > 0) {
            self.next = Some(end);
        }
        (lost, new)
    }
}

/// How far `to` is ahead of `from`; sequence numbers wrap.
fn distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from).cast_signed()
}
