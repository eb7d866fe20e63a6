//! One room for each kind of kernel object: `collect` (kernel to fact), `image` (fact to record and back), `plan` (fact to
//! operations, pure). The facts themselves are in `snapshot`. One kind never calls another; `sockopt` is what all sockets have.

pub mod aio;
pub mod attributes;
pub mod bpfmap;
pub mod creds;
pub mod device;
pub mod epoll;
pub mod eventfd;
pub mod fanotify;
pub mod fifo;
pub mod inet;
pub mod inotify;
pub mod ipc;
pub mod limits;
pub mod locks;
pub mod memfd;
pub mod mqueue;
pub mod namespace;
pub mod netlink;
pub mod netns;
pub mod packet;
pub mod pidfd;
pub mod pipe;
pub mod regular;
pub mod sched;
pub mod seccomp;
pub mod shm;
pub mod signalfd;
pub mod signals;
pub mod sockopt;
pub mod timerfd;
pub mod timers;
pub mod tty;
pub mod tun;
pub mod unix;
pub mod watched;
