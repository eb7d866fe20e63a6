//! Between the fact and its records: the socket in `files.img`, what waits in it in `sk-queues.img`.

use super::collect::KEPT;
use crate::image::error::{Checked, wrong};
use crate::snapshot::{OpenFile, SocketOptions, UnixSocket};
use proto::pb;

/// `TCP_ESTABLISHED`.
const ESTABLISHED: u32 = 1;
/// Id of the network namespace within the image set.
const NET_NS: u32 = 2;
const MICROS: u64 = 1_000_000;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(
    file: &OpenFile,
    fown: pb::FownEntry,
    fact: &UnixSocket,
) -> pb::UnixSkEntry {
    pb::UnixSkEntry {
        id: file.id.0,
        ino: fact.ino,
        r#type: fact.kind as u32,
        state: ESTABLISHED,
        flags: file.flags,
        uflags: 0,
        backlog: 0,
        peer: fact.peer,
        fown,
        opts: options_to_record(&fact.options),
        name: Vec::new(),
        shutdown: (fact.shutdown != 0).then_some(i32::from(fact.shutdown)),
        ns_id: Some(NET_NS),
        ..Default::default()
    }
}

fn options_to_record(options: &SocketOptions) -> pb::SkOptsEntry {
    let value = |option: i32| {
        let set = options.values.iter().find(|(number, _)| *number == option);
        let default = KEPT.iter().find(|(number, _)| *number == option);
        set.or(default).map_or(0, |(_, value)| *value)
    };
    let flag = |option| Some(value(option) != 0);
    pb::SkOptsEntry {
        so_sndbuf: options.send_buffer,
        so_rcvbuf: options.receive_buffer,
        so_snd_tmo_sec: options.send_timeout[0] as u64,
        so_snd_tmo_usec: options.send_timeout[1] as u64,
        so_rcv_tmo_sec: options.receive_timeout[0] as u64,
        so_rcv_tmo_usec: options.receive_timeout[1] as u64,
        reuseaddr: flag(libc::SO_REUSEADDR),
        so_priority: Some(value(libc::SO_PRIORITY) as u32),
        so_rcvlowat: Some(value(libc::SO_RCVLOWAT) as u32),
        so_mark: Some(value(libc::SO_MARK) as u32).filter(|&mark| mark != 0),
        so_passcred: flag(libc::SO_PASSCRED),
        so_passsec: flag(libc::SO_PASSSEC),
        so_dontroute: flag(libc::SO_DONTROUTE),
        so_no_check: Some(false),
        so_reuseport: flag(libc::SO_REUSEPORT),
        so_broadcast: flag(libc::SO_BROADCAST),
        so_keepalive: flag(libc::SO_KEEPALIVE),
        so_oobinline: Some(value(libc::SO_OOBINLINE) as u32),
        so_buf_lock: Some(options.locked_buffers),
        ..Default::default()
    }
}

/// Returns the fact in `record`, or the name of what it is that is not restored yet.
pub(crate) fn from_record(record: &pb::UnixSkEntry) -> Checked<Result<UnixSocket, String>> {
    let kinds = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET];
    if !kinds.contains(&(record.r#type as i32)) {
        return wrong!("type {} is none of a Unix socket", record.r#type);
    }
    if !record.name.is_empty() || record.peer == 0 || record.state != ESTABLISHED {
        return Ok(Err("Unix socket".into()));
    }
    let shutdown = record.shutdown.unwrap_or(0);
    if !(0..=3).contains(&shutdown) {
        return wrong!("shutdown {shutdown} is not known");
    }
    let options = options_from_record(&record.opts)?;
    Ok(options.map(|options| UnixSocket {
        ino: record.ino,
        kind: record.r#type as i32,
        peer: record.peer,
        shutdown: shutdown as u8,
        options,
        queue: Vec::new(),
    }))
}

fn options_from_record(record: &pb::SkOptsEntry) -> Checked<Result<SocketOptions, String>> {
    let timeout = |seconds: u64, micros: u64| match micros < MICROS && seconds <= i64::MAX as u64 {
        true => Ok([seconds as i64, micros as i64]),
        false => wrong!("a time limit of {seconds} s and {micros} us is none"),
    };
    let others = [
        (record.so_no_check == Some(true), "SO_NO_CHECK"),
        (record.so_bound_dev.is_some(), "SO_BINDTODEVICE"),
        (!record.so_filter.is_empty(), "a filter"),
        (
            record.so_linger.is_some_and(|linger| linger != 0),
            "SO_LINGER",
        ),
    ];
    if let Some((_, name)) = others.iter().find(|(is_set, _)| *is_set) {
        return Ok(Err(format!("Unix socket with {name}")));
    }
    let number = |value: Option<bool>| value.map(i32::from);
    let values = [
        number(record.reuseaddr),
        number(record.so_dontroute),
        number(record.so_broadcast),
        number(record.so_keepalive),
        record.so_oobinline.map(|value| value as i32),
        record.so_priority.map(|value| value as i32),
        number(record.so_reuseport),
        number(record.so_passcred),
        record.so_rcvlowat.map(|value| value as i32),
        number(record.so_passsec),
        record.so_mark.map(|value| value as i32),
    ];
    let set = KEPT
        .iter()
        .zip(values)
        .filter_map(|((option, default), value)| {
            let value = value.filter(|value| value != default)?;
            Some((*option, value))
        });
    Ok(Ok(SocketOptions {
        send_buffer: record.so_sndbuf,
        receive_buffer: record.so_rcvbuf,
        locked_buffers: record.so_buf_lock.unwrap_or(0),
        send_timeout: timeout(record.so_snd_tmo_sec, record.so_snd_tmo_usec)?,
        receive_timeout: timeout(record.so_rcv_tmo_sec, record.so_rcv_tmo_usec)?,
        values: set.collect(),
    }))
}
