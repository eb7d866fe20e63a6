//! Between what a connection is in the middle of and its image, `tcp-stream-INODE.img`: one record, what was received, what was sent.

use crate::image::error::{Checked, wrong};
use crate::snapshot::TcpStream;
use proto::pb;

/// Most bytes of a queue, and bits by which a window may be scaled (RFC 7323).
const MAX_QUEUE: u32 = 1 << 30;
const MAX_SCALE: u32 = 14;
/// Options that are known.
const OPTIONS: u32 = 7;

/// Returns the record of `stream`; what was received follows it, then what was sent.
pub(crate) fn to_record(stream: &TcpStream) -> pb::TcpStreamEntry {
    let window = |place: usize| stream.window.map(|window| window[place]);
    pb::TcpStreamEntry {
        inq_len: stream.received.len() as u32,
        inq_seq: stream.receive_next,
        outq_len: stream.sent.len() as u32,
        outq_seq: stream.send_next,
        opt_mask: stream.options.into(),
        snd_wscale: stream.send_scale.into(),
        mss_clamp: stream.mss,
        rcv_wscale: Some(stream.receive_scale.into()),
        timestamp: stream.timestamp,
        cork: None,
        nodelay: None,
        unsq_len: Some(stream.unsent),
        snd_wl1: window(0),
        snd_wnd: window(1),
        max_window: window(2),
        rcv_wnd: window(3),
        rcv_wup: window(4),
    }
}

/// Returns what `record` says, without the bytes that follow it.
pub(crate) fn from_record(record: &pb::TcpStreamEntry) -> Checked<TcpStream> {
    let receive_scale = record.rcv_wscale.unwrap_or(0);
    if record.snd_wscale > MAX_SCALE || receive_scale > MAX_SCALE {
        return wrong!("windows are scaled by {} bits at most", MAX_SCALE);
    }
    if record.inq_len > MAX_QUEUE || record.outq_len > MAX_QUEUE {
        return wrong!(
            "queues of {} and {} bytes are too long",
            record.inq_len,
            record.outq_len
        );
    }
    let unsent = record.unsq_len.unwrap_or(0);
    if unsent > record.outq_len {
        return wrong!("{unsent} of {} bytes were not sent", record.outq_len);
    }
    if record.opt_mask & !OPTIONS != 0 {
        return wrong!("options {:#x} are not known", record.opt_mask);
    }
    let window = [
        record.snd_wl1,
        record.snd_wnd,
        record.max_window,
        record.rcv_wnd,
        record.rcv_wup,
    ];
    let window = window.into_iter().collect::<Option<Vec<u32>>>();
    Ok(TcpStream {
        receive_next: record.inq_seq,
        send_next: record.outq_seq,
        unsent,
        options: record.opt_mask as u8,
        send_scale: record.snd_wscale as u8,
        receive_scale: receive_scale as u8,
        mss: record.mss_clamp,
        timestamp: record.timestamp,
        window: window.and_then(|window| window.try_into().ok()),
        ..TcpStream::default()
    })
}
