//! Sockets of netlink: their number, groups, what they are connected to, and options (netlink(7)).
//!
//! What waits in one has come from the kernel, which says it once: such a socket is refused. One of `NETLINK_NETFILTER` may own tables
//! and queues that go with it, and nobody tells of those: it is refused too.

pub mod collect;
pub mod image;
pub mod plan;

/// Options of netlink.
pub const SOL_NETLINK: i32 = 270;
/// Those that can be read and set, each a number: `NETLINK_PKTINFO`, `BROADCAST_ERROR`, `NO_ENOBUFS`, `LISTEN_ALL_NSID`, `CAP_ACK`,
/// `EXT_ACK`, `GET_STRICT_CHK`.
pub const OPTIONS: [i32; 7] = [3, 4, 5, 8, 10, 11, 12];
/// `NETLINK_ADD_MEMBERSHIP`, `NETLINK_LIST_MEMBERSHIPS`.
const ADD_MEMBERSHIP: i32 = 1;
const LIST_MEMBERSHIPS: i32 = 9;
/// Most groups of a protocol, in words of 32: more than any has.
const MOST_WORDS: usize = 64;
/// Most protocols (`MAX_LINKS`).
const MAX_PROTOCOL: u32 = 32;
