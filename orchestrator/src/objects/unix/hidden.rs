//! Empty messages that no look shows: with an offset the kernel shows each only once (`__skb_try_recv_from_queue`,
//! `net/core/datagram.c`), and an earlier dump has looked. It still charges them to their senders, and tells what is
//! charged (`SIOCOUTQ`). What the messages that are seen cost is measured with a pair of our own.

use crate::snapshot::UnixMessage;
use crate::sys::socket;
use std::io;
use std::os::unix::net::UnixDatagram;

/// Returns the memory that a sender of these messages is charged for them, until they are read.
///
/// # Errors
/// One of them is longer than we may send.
pub fn charge_of<'a>(messages: impl IntoIterator<Item = &'a UnixMessage>) -> io::Result<usize> {
    let (from, to) = UnixDatagram::pair()?;
    from.set_nonblocking(true)?;
    let mut all = 0;
    for message in messages {
        if let Ok(len) = i32::try_from(message.data.len())
            && len > 64 << 10
        {
            socket::set_option(&from, libc::SO_SNDBUF, len.saturating_add(4 << 10))
                .map_err(io::Error::other)?;
        }
        from.send(&message.data)?;
        all += socket::unread_by_others(&from).map_err(io::Error::other)?;
        to.recv(&mut [])?;
    }
    Ok(all)
}

/// What was found out about a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hidden {
    /// All that its senders are charged for is seen.
    Nothing,
    /// They are charged for more.
    Something,
    /// Not all that waits is of senders that can be asked.
    Unknown,
}

/// Compares what waits with what the sockets that are connected to it are charged for. `names` are theirs.
pub fn find(queue: &[UnixMessage], names: &[&[u8]], charged: usize) -> Hidden {
    let theirs = queue
        .iter()
        .filter(|message| message.sender.is_empty() || names.contains(&&message.sender[..]));
    let are_all_theirs = theirs.clone().count() == queue.len();
    match charge_of(theirs) {
        Ok(seen) if seen < charged => Hidden::Something,
        Ok(seen) if seen == charged && are_all_theirs => Hidden::Nothing,
        _ => Hidden::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(len: usize, sender: &[u8]) -> UnixMessage {
        UnixMessage {
            data: vec![1; len],
            sender: sender.to_vec(),
            ..UnixMessage::default()
        }
    }

    #[test]
    fn messages_cost_the_same_again() {
        let (from, _to) = UnixDatagram::pair().expect("a pair");
        let all: Vec<_> = [5, 0, 300, 5000, 40000].map(|len| message(len, b"")).into();
        for message in &all {
            from.send(&message.data).expect("sent");
        }
        let charged = socket::unread_by_others(&from).expect("SIOCOUTQ");
        assert_eq!(find(&all, &[], charged), Hidden::Nothing);
        for missing in 0..all.len() {
            let mut seen = all.clone();
            seen.remove(missing);
            assert_eq!(find(&seen, &[], charged), Hidden::Something, "{missing}");
        }
    }

    #[test]
    fn what_others_have_sent_cannot_be_told() {
        let named = message(5, b"\0me");
        let charged = charge_of([&named]).expect("a pair");
        let queue = [named, message(5, b"\0other")];
        assert_eq!(find(&queue, &[b"\0me"], charged), Hidden::Unknown);
        assert_eq!(find(&queue[..1], &[b"\0me"], charged), Hidden::Nothing);
        assert_eq!(find(&queue[..1], &[], 0), Hidden::Unknown);
    }
}
