//! The kernel's filter for the packet socket: passes TCP from or to a routed port, over IPv4 or IPv6.

use nix::libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD,
    BPF_LDX, BPF_MSH, BPF_RET,
};
use socket2::SockFilter;

const TCP: u32 = 6;
/// More than any packet has bytes.
const WHOLE: u32 = 0x40000;

/// The filter program; offsets count from the network header. Fragments and IPv6 extension headers do not pass: TCP avoids
/// fragments, and routed traffic has no extension headers.
pub fn tcp_ports(ports: &[u16]) -> Vec<SockFilter> {
    let mut four = vec![
        load(BPF_B, 9),
        SKIP_IF_TCP,
        REJECT,
        load(BPF_H, 6),
        op(BPF_JMP | BPF_JSET | BPF_K, 0, 1, 0x1fff),
        REJECT,
        // The length of the IPv4 header into the index register.
        op(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 0),
    ];
    four.extend(either_port(BPF_IND, 0, ports));
    let mut six = vec![load(BPF_B, 6), SKIP_IF_TCP, REJECT];
    six.extend(either_port(BPF_ABS, 40, ports));

    let version = [load(BPF_B, 0), op(BPF_ALU | BPF_AND | BPF_K, 0, 0, 0xf0)];
    let mut program = Vec::from(version);
    program.extend(only_if_equal(0x40, four));
    program.extend(only_if_equal(0x60, six));
    program.push(REJECT);
    program
}

/// Passes a packet whose source or destination port, at `offset` and two further, is one of `ports`; rejects the rest.
fn either_port(mode: u32, offset: u32, ports: &[u16]) -> Vec<SockFilter> {
    let mut program = Vec::new();
    for at in [offset, offset + 2] {
        program.push(op(BPF_LD | BPF_H | mode, 0, 0, at));
        for port in ports {
            program.push(op(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, u32::from(*port)));
            program.push(op(BPF_RET | BPF_K, 0, 0, WHOLE));
        }
    }
    program.push(REJECT);
    program
}

/// Runs `block`, which never falls through, if the accumulator is `value`.
fn only_if_equal(value: u32, block: Vec<SockFilter>) -> Vec<SockFilter> {
    // The block grows with the ports, and conditional jumps reach only 255.
    let length = u32::try_from(block.len()).unwrap_or(u32::MAX);
    let mut program = vec![
        op(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, value),
        op(BPF_JMP, 0, 0, length),
    ];
    program.extend(block);
    program
}

const REJECT: SockFilter = op(BPF_RET | BPF_K, 0, 0, 0);

/// Skips the next instruction if the accumulator is the number of TCP.
const SKIP_IF_TCP: SockFilter = op(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, TCP);

const fn load(size: u32, offset: u32) -> SockFilter {
    op(BPF_LD | size | BPF_ABS, 0, 0, offset)
}

const fn op(code: u32, if_true: u8, if_false: u8, value: u32) -> SockFilter {
    SockFilter::new(code as u16, if_true, if_false, value)
}
