//! Finds the end of a body without keeping any of it.

use super::OutOfSync;

/// How the end of a body is known, and how far off it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes are still to come; never 0.
    Counted(u64),
    /// Chunks (RFC 9112, section 7.1).
    Chunked(Chunk),
    /// Everything up to the end of the connection.
    UntilClose,
}

/// The place inside a chunked body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// In the line with the size: what it says so far, and whether its digits are over.
    Size {
        size: u64,
        digits: u8,
        extension: bool,
    },
    /// So many bytes of data are still to come; never 0.
    Data(u64),
    /// At the line break that follows the data.
    DataEnd,
    /// After the last chunk, with the length of the trailer's current line so far.
    Trailer(usize),
}

impl Chunk {
    /// Before the first chunk, and before each further one.
    pub const START: Self = Self::Size {
        size: 0,
        digits: 0,
        extension: false,
    };
}

impl Body {
    /// Takes from the front of `bytes` what belongs to the body; true when it is complete.
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
            Self::Chunked(chunk) => {
                while !bytes.is_empty() {
                    if chunk.step(bytes)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }

    /// Goes on where `lost` bytes were not seen; true when the body ended with them.
    pub fn lose(&mut self, lost: u64) -> Result<bool, OutOfSync> {
        match self {
            Self::UntilClose => Ok(false),
            Self::Counted(left) => {
                *left = left.checked_sub(lost).ok_or(OutOfSync)?;
                Ok(*left == 0)
            }
            Self::Chunked(Chunk::Data(left)) if *left > lost => {
                *left -= lost;
                Ok(false)
            }
            Self::Chunked(_) => Err(OutOfSync),
        }
    }
}

impl Chunk {
    /// Takes at least one byte; true when the body is complete.
    fn step(&mut self, bytes: &mut &[u8]) -> Result<bool, OutOfSync> {
        if let Self::Data(left) = self {
            skip(left, bytes);
            if *left == 0 {
                *self = Self::DataEnd;
            }
            return Ok(false);
        }
        let Some((byte, rest)) = bytes.split_first() else {
            return Ok(false);
        };
        *bytes = rest;
        self.line(*byte)
    }

    fn line(&mut self, byte: u8) -> Result<bool, OutOfSync> {
        match (&mut *self, byte) {
            (Self::Size { digits: 0, .. }, b'\n' | b';' | b' ' | b'\t' | b'\r') => {
                return Err(OutOfSync);
            }
            (Self::Size { size: 0, .. }, b'\n') => *self = Self::Trailer(0),
            (Self::Size { size, .. }, b'\n') => *self = Self::Data(*size),
            (
                Self::Size {
                    extension: true, ..
                },
                _,
            ) => {}
            (Self::Size { extension, .. }, b';' | b' ' | b'\t' | b'\r') => *extension = true,
            (Self::Size { size, digits, .. }, _) => {
                let digit = char::from(byte).to_digit(16).ok_or(OutOfSync)?;
                *digits += 1;
                *size = *size << 4 | u64::from(digit);
                // Sixteen digits would wrap a sum; no chunk is that long.
                if *digits > 15 {
                    return Err(OutOfSync);
                }
            }
            (Self::DataEnd, b'\r') => {}
            (Self::DataEnd, b'\n') => *self = Self::START,
            (Self::DataEnd, _) => return Err(OutOfSync),
            (Self::Trailer(0), b'\n') => return Ok(true),
            (Self::Trailer(length), b'\n') => *length = 0,
            (Self::Trailer(0), b'\r') => {}
            (Self::Trailer(length), _) => *length += 1,
            (Self::Data(_), _) => {}
        }
        Ok(false)
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
        let done = Body::Chunked(Chunk::START).take(&mut rest)?;
        Ok(done.then_some(rest.len()))
    }

    #[test]
    fn a_chunked_body_ends_after_its_trailer_and_not_before() {
        assert_eq!(chunked(b"3\r\nabc\r\n0\r\n\r\nHTTP"), Ok(Some(4)));
        assert_eq!(chunked(b"3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n"), Ok(Some(0)));
        assert_eq!(chunked(b"00A\nabcdefghij\n0\n\n"), Ok(Some(0)));
        assert_eq!(chunked(b"3\r\nabc\r\n0\r\n"), Ok(None));
        assert_eq!(chunked(b"3\r\n\r\n0\r\n\r\n"), Err(OutOfSync));
    }

    #[test]
    fn what_is_no_chunk_is_out_of_sync() {
        for wrong in [&b"x"[..], b"\r\n", b"3\r\nabcd", b"1234567890123456\r\n"] {
            assert_eq!(chunked(wrong), Err(OutOfSync));
        }
    }

    #[test]
    fn a_hole_inside_counted_data_is_harmless_and_one_across_its_end_is_not() {
        let mut body = Body::Counted(10);
        assert_eq!(body.lose(4), Ok(false));
        assert_eq!(body.lose(6), Ok(true));
        assert_eq!(Body::Counted(10).lose(11), Err(OutOfSync));
        let mut body = Body::Chunked(Chunk::Data(10));
        assert_eq!(body.lose(9), Ok(false));
        assert_eq!(body.lose(1), Err(OutOfSync));
        assert_eq!(Body::Chunked(Chunk::START).lose(1), Err(OutOfSync));
    }
}
