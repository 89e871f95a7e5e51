//! Goes through one direction of an HTTP/2 connection from frame to frame. It reads their nine-byte headers and keeps the
//! payload of those with header fields.

/// The first bytes from a client (RFC 9113, section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADER: usize = 9;
/// No implementation accepts longer frames; the default of the protocol is 16 KiB.
const LONGEST: usize = 1 << 20;
/// The longest payload that is kept.
const MOST_KEPT: usize = 64 * 1024;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Frames that open, move or close a stream, and all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Data,
    Headers,
    Continuation,
    Reset,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    flags: u8,
    pub stream: u32,
    length: usize,
}

/// A part of a frame that was passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Begins(Frame),
    /// With its payload, if that consists of header fields and was captured whole.
    Ends(Frame, Vec<u8>),
}

/// The position in one direction.
#[derive(Debug, Default)]
pub enum Frames {
    /// In a header, of which these bytes have arrived.
    Header(Vec<u8>),
    /// In the payload of a frame, this number of bytes before its end; never 0. With the bytes that are kept of it.
    Payload(Frame, u64, Vec<u8>),
    /// In the preface, this number of bytes before its end.
    Preface(u64),
    /// Unknown, until a segment consists of whole frames.
    #[default]
    Lost,
}

impl Frame {
    /// Whether it is the last frame of its stream in this direction.
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, Kind::Data | Kind::Headers) && self.flags & END_STREAM != 0
    }

    /// Whether it is the last frame of its header fields.
    pub fn ends_headers(&self) -> bool {
        self.flags & END_HEADERS != 0
    }

    fn has_fields(&self) -> bool {
        matches!(self.kind, Kind::Headers | Kind::Continuation)
    }

    /// The header fields in its payload (RFC 9113, section 6.2); `None` if the payload is incomplete.
    pub fn fields<'a>(&self, payload: &'a [u8]) -> Option<&'a [u8]> {
        let flags = match self.kind {
            Kind::Headers => self.flags,
            _ => 0,
        };
        let mut fields = payload;
        let mut padding = 0;
        if payload.len() != self.length {
            return None;
        }
        if flags & PADDED != 0 {
            padding = usize::from(*fields.first()?);
            fields = &fields[1..];
        }
        if flags & PRIORITY != 0 {
            fields = fields.get(5..)?;
        }
        fields.get(..fields.len().checked_sub(padding)?)
    }

    /// Reads a header; `None` if RFC 9113, section 6, does not allow it.
    fn parse(header: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER] = header.first_chunk()?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & 0x7fff_ffff;
        let (kind, allowed) = match header[3] {
            0x0 => (Kind::Data, stream != 0),
            0x1 => (Kind::Headers, stream != 0 && length > 0),
            0x2 => (Kind::Other, stream != 0 && length == 5),
            0x3 => (Kind::Reset, stream != 0 && length == 4),
            0x4 => (Kind::Other, stream == 0 && length.is_multiple_of(6)),
            0x5 => (Kind::Other, stream != 0),
            0x9 => (Kind::Continuation, stream != 0),
            0x6 => (Kind::Other, stream == 0 && length == 8),
            0x7 => (Kind::Other, stream == 0 && length >= 8),
            0x8 => (Kind::Other, length == 4),
            _ => (Kind::Other, true),
        };
        let frame = Self {
            kind,
            flags: header[4],
            stream,
            length,
        };
        (allowed && length <= LONGEST).then_some(frame)
    }
}

impl Frames {
    pub fn at_preface() -> Self {
        Self::Preface(PREFACE.len() as u64)
    }

    pub fn at_frame() -> Self {
        Self::Header(Vec::new())
    }

    /// Whether the position is known.
    pub fn is_followed(&self) -> bool {
        !matches!(self, Self::Lost)
    }

    /// Goes through the bytes of one segment.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        if matches!(self, Self::Lost) && is_chain(bytes) {
            *self = Self::at_frame();
        }
        while !bytes.is_empty() && self.step(&mut bytes, &mut events).is_some() {}
        events
    }

    /// Continues after `lost` bytes that were not captured.
    pub fn lose(&mut self, lost: u64) {
        match self {
            // The end of a frame must be captured, because an answer may end with it.
            Self::Payload(_, left, _) if *left > lost => *left -= lost,
            _ => *self = Self::Lost,
        }
    }

    /// Takes at least one byte; `None` if the position is lost.
    fn step(&mut self, bytes: &mut &[u8], events: &mut Vec<Event>) -> Option<()> {
        match self {
            Self::Lost => return None,
            Self::Preface(left) => {
                if skip(left, bytes) {
                    *self = Self::at_frame();
                }
            }
            Self::Payload(frame, left, kept) => {
                let before = *bytes;
                let is_end = skip(left, bytes);
                let passed = &before[..before.len() - bytes.len()];
                if frame.has_fields() && kept.len() + passed.len() <= MOST_KEPT {
                    kept.extend_from_slice(passed);
                }
                if is_end {
                    events.push(Event::Ends(*frame, std::mem::take(kept)));
                    *self = Self::at_frame();
                }
            }
            Self::Header(header) => {
                let missing = (HEADER - header.len()).min(bytes.len());
                header.extend_from_slice(&bytes[..missing]);
                *bytes = &bytes[missing..];
                if header.len() == HEADER {
                    let frame = Frame::parse(header);
                    *self = frame.map_or(Self::Lost, |frame| begin(frame, events));
                }
            }
        }
        Some(())
    }
}

fn begin(frame: Frame, events: &mut Vec<Event>) -> Frames {
    events.push(Event::Begins(frame));
    if frame.length == 0 {
        events.push(Event::Ends(frame, Vec::new()));
        return Frames::at_frame();
    }
    Frames::Payload(frame, frame.length as u64, Vec::new())
}

/// Skips up to `left` bytes; true if none are left.
fn skip(left: &mut u64, bytes: &mut &[u8]) -> bool {
    let here = usize::try_from(*left)
        .unwrap_or(usize::MAX)
        .min(bytes.len());
    *bytes = &bytes[here..];
    *left -= here as u64;
    *left == 0
}

/// Whether a segment consists of whole frames of known types; the middle of a payload does not look like that.
fn is_chain(mut bytes: &[u8]) -> bool {
    if bytes.is_empty() {
        return false;
    }
    while !bytes.is_empty() {
        let known = bytes.get(3).is_some_and(|kind| *kind <= 9)
            && bytes.get(5).is_some_and(|high| high >> 7 == 0);
        match Frame::parse(bytes) {
            Some(frame) if known && bytes.len() >= HEADER + frame.length => {
                bytes = &bytes[HEADER + frame.length..];
            }
            _ => return false,
        }
    }
    true
}
