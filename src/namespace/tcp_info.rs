//! Reads the kernel's `struct tcp_info`. Older kernels leave out fields at its end, which are then zero.

/// The fields that show the order of request and answer. Ages are in milliseconds, in steps of a jiffy (up to 10 ms).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpInfo {
    /// Age of the last data sent; age of the connection if none was sent.
    pub last_data_sent: u32,
    /// Age of the last data received; age of the connection if none was received.
    pub last_data_recv: u32,
    /// Age of the last acknowledgement received, with or without data.
    pub last_ack_recv: u32,
    /// Bytes that the other side has acknowledged; in the kernel's own structure a FIN counts as one.
    pub bytes_acked: u64,
    /// Bytes received in order; in the kernel's own structure a FIN counts as one.
    pub bytes_received: u64,
    /// Segments sent, of any kind.
    pub segs_out: u32,
    /// Segments sent that carry data.
    pub data_segs_out: u32,
}

impl TcpInfo {
    /// Offsets are those of `include/uapi/linux/tcp.h`, which grows only at its end.
    pub fn parse(bytes: &[u8]) -> Self {
        Self {
            last_data_sent: u32::from_ne_bytes(field(bytes, 44)),
            last_data_recv: u32::from_ne_bytes(field(bytes, 52)),
            last_ack_recv: u32::from_ne_bytes(field(bytes, 56)),
            bytes_acked: u64::from_ne_bytes(field(bytes, 120)),
            bytes_received: u64::from_ne_bytes(field(bytes, 128)),
            segs_out: u32::from_ne_bytes(field(bytes, 136)),
            data_segs_out: u32::from_ne_bytes(field(bytes, 156)),
        }
    }
}

/// A field; zeros if the structure ends before it.
fn field<const SIZE: usize>(bytes: &[u8], offset: usize) -> [u8; SIZE] {
    let field = bytes.get(offset..).and_then(<[u8]>::first_chunk);
    field.copied().unwrap_or([0; SIZE])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_beyond_the_end_of_the_structure_are_zero() {
        let mut bytes = vec![0; 232];
        bytes[44..48].copy_from_slice(&1516_u32.to_ne_bytes());
        bytes[52..56].copy_from_slice(&1496_u32.to_ne_bytes());
        bytes[120..128].copy_from_slice(&(5_u64 << 32).to_ne_bytes());
        bytes[156..160].copy_from_slice(&3_u32.to_ne_bytes());
        let info = TcpInfo::parse(&bytes);
        assert_eq!((info.last_data_sent, info.last_data_recv), (1516, 1496));
        assert_eq!((info.bytes_acked, info.data_segs_out), (5 << 32, 3));
        assert_eq!(TcpInfo::parse(&bytes[..104]).last_data_recv, 1496);
        assert_eq!(TcpInfo::parse(&bytes[..104]).data_segs_out, 0);
        assert_eq!(TcpInfo::parse(&[]), TcpInfo::default());
    }
}
