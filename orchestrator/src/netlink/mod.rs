//! What the kernel tells of sockets by netlink (`sock_diag(7)`). Readers only; no decisions.

pub mod unix_diag;
