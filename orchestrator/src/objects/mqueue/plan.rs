//! From the fact to operations. Pure.

use crate::plan::Builder;
use crate::snapshot::{PosixQueue, QueueNotice};

/// Bytes of `struct sigevent`, and where its parts are (`include/uapi/asm-generic/siginfo.h`).
const SIGEVENT: usize = 64;
const SIGNO: usize = 8;
const NOTIFY: usize = 12;
/// What a description of a queue has of flags: direction and O_NONBLOCK.
const FLAGS: u32 = (libc::O_ACCMODE | libc::O_NONBLOCK) as u32;

/// Adds a new queue of this name, empty, and returns a description of it that never waits.
pub fn plan_create(b: &mut Builder, queue: &PosixQueue, name: &[u8]) -> i32 {
    let name = b.put_cstr(name);
    let attributes = [0, queue.max_messages, queue.message_size, 0, 0, 0, 0, 0];
    let attributes = b.put_words(&attributes);
    let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_CREAT | libc::O_EXCL;
    b.open(libc::SYS_mq_open, &[name, flags as u64, 0o600, attributes])
}

/// Adds the permissions of a queue.
pub fn plan_mode(b: &mut Builder, queue: &PosixQueue, fd: i32) {
    b.call_returns(libc::SYS_fchmod, &[fd as u64, u64::from(queue.mode)], 0);
}

/// Adds the messages, the first to be received first: those of one priority stay in their order.
pub fn plan_fill(b: &mut Builder, queue: &PosixQueue, fd: i32) {
    for message in &queue.messages {
        let (at, len) = (b.put(&message.bytes), message.bytes.len() as u64);
        let args = [fd as u64, at, len, u64::from(message.priority), 0];
        b.call_returns(libc::SYS_mq_timedsend, &args, 0);
    }
}

/// Adds that so many messages are taken out and thrown away.
pub fn plan_empty(b: &mut Builder, queue: &PosixQueue, fd: i32, messages: u64) {
    if messages > 0 {
        let at = b.put(&vec![0; queue.message_size as usize]);
        for _ in 0..messages {
            b.call(
                libc::SYS_mq_timedreceive,
                &[fd as u64, at, queue.message_size, 0, 0],
            );
        }
    }
}

/// Adds a description of the queue of this name, which is closed on exec as it comes.
pub fn plan_open(b: &mut Builder, name: &[u8], flags: u32) -> i32 {
    let name = b.put_cstr(name);
    b.open(libc::SYS_mq_open, &[name, u64::from(flags & FLAGS), 0, 0])
}

/// Adds the end of a name.
pub fn plan_unlink(b: &mut Builder, name: &[u8]) {
    let name = b.put_cstr(name);
    b.call_returns(libc::SYS_mq_unlink, &[name], 0);
}

/// Adds that the calling process is told of the next message.
pub fn plan_notice(b: &mut Builder, fd: i32, notice: &QueueNotice) {
    let mut event = vec![0; SIGEVENT];
    event[SIGNO..SIGNO + 4].copy_from_slice(&notice.signal.to_le_bytes());
    event[NOTIFY..NOTIFY + 4].copy_from_slice(&notice.kind.to_le_bytes());
    let at = b.put(&event);
    b.call_returns(libc::SYS_mq_notify, &[fd as u64, at], 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::PosixMessage;

    #[test]
    fn messages_are_sent_in_the_order_in_which_they_are_received() {
        let mut b = Builder::for_test();
        let message = |priority, bytes: &[u8]| PosixMessage {
            priority,
            bytes: bytes.to_vec(),
        };
        let queue = PosixQueue {
            messages: vec![message(9, b"urgent"), message(1, b"first"), message(1, b"")],
            ..PosixQueue::default()
        };
        plan_fill(&mut b, &queue, 5);
        let sent: Vec<_> = b
            .calls()
            .iter()
            .map(|(_, args)| (args[2], args[3]))
            .collect();
        assert_eq!(sent, [(6, 9), (5, 1), (0, 1)]);
    }
}
