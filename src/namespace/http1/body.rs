//! Finds the end of a body without keeping any of it.

use httparse::{Status, parse_chunk_size};

use super::{OutOfSync, take_line};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// After this number of bytes; never 0.
    Counted(u64),
    Chunked(Chunked),
    /// At the end of the connection.
    UntilClose,
}

/// The position in a chunked body (RFC 9112, section 7.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunked {
    part: Part,
    /// The part of the current line that has arrived.
    line: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Part {
    /// The line with the size of a chunk.
    #[default]
    Size,
    /// The bytes of a chunk that are still to come; never 0.
    Data(u64),
    /// The line break after the data.
    DataEnd,
    /// The lines after the last chunk.
    Trailer,
}

impl Body {
    /// Takes the body's bytes from the front of `bytes`; true if the body is complete.
    pub fn take(&mut self, bytes: &mut &[u8]) -> Result<bool, OutOfSync> {
        match self {
            Self::UntilClose => {
                *bytes = &[];
                Ok(false)
            }
            Self::Counted(left) => {
                skip(left, bytes);
                Ok(*left == 0)
            }
            Self::Chunked(chunked) => chunked.take(bytes),
        }
    }

    /// Continues after `lost` bytes that were not captured; true if the body ended with them.
    pub fn lose(&mut self, lost: u64) -> Result<bool, OutOfSync> {
        match self {
            Self::UntilClose => Ok(false),
            Self::Counted(left) => {
                *left = left.checked_sub(lost).ok_or(OutOfSync)?;
                Ok(*left == 0)
            }
            Self::Chunked(Chunked {
                part: Part::Data(left),
                ..
            }) if *left > lost => {
                *left -= lost;
                Ok(false)
            }
            Self::Chunked(_) => Err(OutOfSync),
        }
    }
}

impl Chunked {
    fn take(&mut self, bytes: &mut &[u8]) -> Result<bool, OutOfSync> {
        while !bytes.is_empty() {
            if let Part::Data(left) = &mut self.part {
                skip(left, bytes);
                if *left == 0 {
                    self.part = Part::DataEnd;
                }
            } else if take_line(&mut self.line, bytes)? {
                let is_blank = matches!(self.line.as_slice(), b"\r\n" | b"\n");
                self.part = match self.part {
                    Part::Size => size(&self.line)?,
                    Part::DataEnd if is_blank => Part::Size,
                    Part::Trailer if is_blank => return Ok(true),
                    Part::Trailer => Part::Trailer,
                    Part::DataEnd | Part::Data(_) => return Err(OutOfSync),
                };
                self.line.clear();
            }
        }
        Ok(false)
    }
}

/// What follows the line with a chunk's size.
fn size(line: &[u8]) -> Result<Part, OutOfSync> {
    // `parse_chunk_size` reads an empty size as 0, which would end the body.
    let has_digit = line.first().is_some_and(u8::is_ascii_hexdigit);
    match parse_chunk_size(line) {
        Ok(Status::Complete((_, 0))) if has_digit => Ok(Part::Trailer),
        Ok(Status::Complete((_, size))) if has_digit => Ok(Part::Data(size)),
        _ => Err(OutOfSync),
    }
}

fn skip(left: &mut u64, bytes: &mut &[u8]) {
    let here = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    *bytes = &bytes[here..];
    *left -= here as u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunked(text: &[u8]) -> Result<Option<usize>, OutOfSync> {
        let mut rest = text;
        let done = Body::Chunked(Chunked::default()).take(&mut rest)?;
        Ok(done.then_some(rest.len()))
    }

    #[test]
    fn a_chunked_body_ends_after_its_trailer_and_not_before() {
        assert_eq!(chunked(b"3\r\nabc\r\n0\r\n\r\nHTTP"), Ok(Some(4)));
        assert_eq!(chunked(b"3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n"), Ok(Some(0)));
        assert_eq!(chunked(b"00A\r\nabcdefghij\n0\r\n\n"), Ok(Some(0)));
        assert_eq!(chunked(b"3\r\nabc\r\n0\r\n"), Ok(None));
        assert_eq!(chunked(b"3\r\n\r\n0\r\n\r\n"), Err(OutOfSync));
    }

    #[test]
    fn a_line_that_is_no_size_of_a_chunk_is_out_of_sync() {
        for wrong in [
            &b"x\r\n"[..],
            b"\r\n",
            b";x=y\r\n",
            b"3\n",
            b"3;x\n",
            b"3\r\nabcd\r\n",
            b"12345678901234567\r\n",
        ] {
            assert_eq!(chunked(wrong), Err(OutOfSync), "{wrong:?}");
        }
    }

    #[test]
    fn a_gap_inside_counted_data_is_harmless_and_one_across_its_end_is_not() {
        let mut body = Body::Counted(10);
        assert_eq!(body.lose(4), Ok(false));
        assert_eq!(body.lose(6), Ok(true));
        assert_eq!(Body::Counted(10).lose(11), Err(OutOfSync));
        let mut body = Body::Chunked(Chunked {
            part: Part::Data(10),
            line: Vec::new(),
        });
        assert_eq!(body.lose(9), Ok(false));
        assert_eq!(body.lose(1), Err(OutOfSync));
        assert_eq!(Body::Chunked(Chunked::default()).lose(1), Err(OutOfSync));
    }
}
