//! Reads the status from the header blocks of answers (HPACK, RFC 7541), and keeps no other header.

use std::collections::VecDeque;

/// The first index of the table that the encoder fills.
const FIRST_ADDED: u64 = 62;
/// Statuses that are kept of that table; a connection uses few of them.
const MOST: usize = 64;
/// The indices of `:status` in the table of the standard, and the class of each.
const STATUSES: std::ops::RangeInclusive<u64> = 8..=14;
const CLASSES: [u16; 7] = [2, 2, 2, 3, 4, 4, 5];

/// The block does not follow the standard, or is cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// The statuses in the table of one direction.
#[derive(Debug, Default)]
pub struct Statuses {
    /// How many fields the encoder has added to its table. An index counts back from the newest, so older fields need
    /// not be known.
    added: u64,
    /// The numbers of those that are a status, and its class.
    known: VecDeque<(u64, u16)>,
}

impl Statuses {
    /// The status class in a block, from 1 to 5; `None` where it has none, or one that was added before the capture.
    pub fn read(&mut self, block: &[u8]) -> Result<Option<u16>, Unreadable> {
        let mut rest = block;
        let mut found = None;
        while let Some(first) = rest.first().copied() {
            let class = match first {
                0x80.. => {
                    let index = integer(&mut rest, 7)?;
                    self.class_at(index)
                }
                0x20..0x40 => {
                    integer(&mut rest, 5)?;
                    None
                }
                0x40.. => {
                    let class = self.literal(&mut rest, 6)?;
                    self.keep(class);
                    class
                }
                _ => self.literal(&mut rest, 4)?,
            };
            found = found.or(class);
        }
        Ok(found)
    }

    fn class_at(&self, index: u64) -> Option<u16> {
        if STATUSES.contains(&index) {
            return Some(CLASSES[(index - STATUSES.start()) as usize]);
        }
        let number = self.added.checked_sub(index.checked_sub(FIRST_ADDED)?)?;
        let mut known = self.known.iter();
        known.find(|own| own.0 == number).map(|own| own.1)
    }

    fn keep(&mut self, class: Option<u16>) {
        self.added += 1;
        if let Some(class) = class {
            self.known.push_back((self.added, class));
        }
        if self.known.len() > MOST {
            self.known.pop_front();
        }
    }

    /// The class, if the field with this value is a status.
    fn literal(&self, rest: &mut &[u8], prefix: u32) -> Result<Option<u16>, Unreadable> {
        let name = integer(rest, prefix)?;
        if name == 0 {
            text(rest)?;
        }
        let is_status = self.class_at(name).is_some();
        let (packed, value) = text(rest)?;
        Ok(is_status.then(|| class_of(packed, value)).flatten())
    }
}

/// An integer whose first byte has a prefix of this number of bits (RFC 7541, section 5.1).
fn integer(rest: &mut &[u8], prefix: u32) -> Result<u64, Unreadable> {
    let most = (1_u64 << prefix) - 1;
    let mut value = u64::from(byte(rest)?) & most;
    if value < most {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let next = u64::from(byte(rest)?);
        value += (next & 0x7f) << shift;
        if next < 0x80 {
            return Ok(value);
        }
    }
    Err(Unreadable)
}

/// A text, and whether its letters are packed (RFC 7541, section 5.2).
fn text<'a>(rest: &mut &'a [u8]) -> Result<(bool, &'a [u8]), Unreadable> {
    let packed = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = usize::try_from(integer(rest, 7)?).map_err(|_| Unreadable)?;
    let (value, after) = rest.split_at_checked(length).ok_or(Unreadable)?;
    *rest = after;
    Ok((packed, value))
}

fn byte(rest: &mut &[u8]) -> Result<u8, Unreadable> {
    let (first, after) = rest.split_first().ok_or(Unreadable)?;
    *rest = after;
    Ok(*first)
}

/// The first digit of a status. Packed, the digits up to 2 have five bits, the others six (RFC 7541, appendix B).
fn class_of(packed: bool, value: &[u8]) -> Option<u16> {
    let first = *value.first()?;
    let digit = match packed {
        false => first.wrapping_sub(b'0'),
        true if first >> 3 <= 2 => first >> 3,
        true => (first >> 2).wrapping_sub(0x19).wrapping_add(3),
    };
    (1..=5).contains(&digit).then_some(u16::from(digit))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn read(block: &[u8]) -> Result<Option<u16>, Unreadable> {
        Statuses::default().read(block)
    }

    #[test]
    fn a_status_is_read_in_each_form_that_the_standard_allows() {
        for (block, class) in [
            (&b"\x88"[..], 2),
            (b"\x8e", 5),
            // A change of the table's size comes first.
            (b"\x3f\xe1\x1f\x8d", 4),
            // Literals: kept in the table, not kept, never kept.
            (b"\x48\x03503", 5),
            (b"\x08\x03404", 4),
            (b"\x18\x03302", 3),
            // RFC 7541, appendix C.6: "302" and "307" as packed letters.
            (b"\x48\x82\x64\x02", 3),
            (b"\x48\x83\x64\x0e\xff", 3),
            // "503" packed: 011011 00000 011001.
            (b"\x48\x83\x6c\x0c\xff", 5),
            (b"\x48\x82\x10\x01", 2),
        ] {
            assert_eq!(read(block), Ok(Some(class)), "{block:x?}");
        }
    }

    #[test]
    fn a_status_in_the_table_is_found_again_behind_other_fields() {
        let mut all = Statuses::default();
        assert_eq!(all.read(b"\x48\x03503\x40\x01a\x01b"), Ok(Some(5)));
        // Two fields were added: the status is the second newest.
        assert_eq!(all.read(b"\xbf\xbe"), Ok(Some(5)));
        assert_eq!(all.read(b"\xbe"), Ok(None), "trailers");
        assert_eq!(all.read(b"\x7f\x00\x03404"), Ok(Some(4)), "its name alone");
        assert_eq!(all.read(b"\xc0"), Ok(Some(5)));
    }

    #[test]
    fn a_field_from_before_the_capture_is_no_status() {
        assert_eq!(read(b"\xbe"), Ok(None));
        assert_eq!(read(b"\xff\xff\xff\x7f"), Ok(None));
    }

    #[test]
    fn a_block_that_is_cut_short_is_unreadable() {
        for block in [
            &b"\x48\x03"[..],
            b"\x40",
            b"\x48\x0350",
            b"\xff",
            b"\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(read(block), Err(Unreadable), "{block:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_blocks_are_read_or_refused_and_keep_few_statuses(
            blocks in vec(vec(any::<u8>(), 0..40), 0..20), repeated in 0_usize..200,
        ) {
            let mut all = Statuses::default();
            for block in &blocks {
                if let Ok(Some(class)) = all.read(block) {
                    prop_assert!((1..=5).contains(&class));
                }
            }
            for _ in 0..repeated {
                all.read(b"\x48\x03200").unwrap();
            }
            prop_assert!(all.known.len() <= MOST);
        }
    }
}
