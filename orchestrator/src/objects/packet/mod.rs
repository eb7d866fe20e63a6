//! Sockets of packets: what they are bound to, memberships, rings, fanout and options (packet(7)).
//!
//! A ring that is mapped is refused with its mapping: where the kernel is in it, nobody can set.

pub mod collect;
pub mod image;
pub mod plan;

/// Options of sockets of packets (`linux/if_packet.h`).
pub const SOL_PACKET: i32 = 263;
const ADD_MEMBERSHIP: i32 = 1;
const RINGS: [i32; 2] = [5, 13];
const COPY_THRESH: i32 = 7;
const AUXDATA: i32 = 8;
const ORIGDEV: i32 = 9;
const VERSION: i32 = 10;
const RESERVE: i32 = 12;
const LOSS: i32 = 14;
const VNET_HDR: i32 = 15;
const TIMESTAMP: i32 = 17;
const FANOUT: i32 = 18;
/// Those that are numbers and can be read and set, in the order in which they are set; all come before the rings: beside them
/// `PACKET_TX_HAS_OFF`, `QDISC_BYPASS`, `IGNORE_OUTGOING`, `VNET_HDR_SZ`.
pub const OPTIONS: [i32; 12] = [
    VERSION,
    RESERVE,
    LOSS,
    VNET_HDR,
    24,
    19,
    COPY_THRESH,
    AUXDATA,
    ORIGDEV,
    TIMESTAMP,
    20,
    23,
];
/// Options that a peer's record has fields for.
const PEERS: [i32; 8] = [
    VERSION,
    RESERVE,
    LOSS,
    VNET_HDR,
    COPY_THRESH,
    AUXDATA,
    ORIGDEV,
    TIMESTAMP,
];
/// Most memberships, and bytes of an address.
const MOST_MEMBERS: usize = 1024;
const MAX_ADDRESS: usize = 32;
/// Words of `struct tpacket_req` and `tpacket_req3`, and the version that has the latter.
const WORDS: usize = 4;
const VERSION_3: u32 = 2;
