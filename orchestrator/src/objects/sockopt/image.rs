//! Between the fact and its record. What the peer's record has no field for is in a message of our own, by number.

use super::{TABLE, row};
use crate::image::error::{Checked, wrong};
use crate::snapshot::SocketOptions;
use proto::pb;

const MICROS: u64 = 1_000_000;
/// `BPF_MAXINSNS`, `IFNAMSIZ`.
const MAX_FILTER: usize = 4096;
const MAX_DEVICE: usize = 16;
/// Options that the peer's record has a field for.
const PEERS: [i32; 12] = [
    libc::SO_REUSEADDR,
    libc::SO_PRIORITY,
    libc::SO_RCVLOWAT,
    libc::SO_MARK,
    libc::SO_PASSCRED,
    libc::SO_PASSSEC,
    libc::SO_DONTROUTE,
    libc::SO_NO_CHECK,
    libc::SO_REUSEPORT,
    libc::SO_BROADCAST,
    libc::SO_KEEPALIVE,
    libc::SO_OOBINLINE,
];

/// Returns the record of a socket's options.
pub(crate) fn to_record(options: &SocketOptions) -> pb::SkOptsEntry {
    let value = |option: i32| {
        let set = options.values.iter().find(|(number, _)| *number == option);
        let default = row(option).map_or(0, |row| row.default);
        set.map_or(default, |(_, value)| *value)
    };
    let flag = |option| Some(value(option) != 0);
    let linger = value(libc::SO_LINGER);
    let is_lingering = linger as u32 != 0;
    let others = options.values.iter().filter(|(number, _)| {
        !(PEERS.contains(number) || *number == libc::SO_LINGER && is_lingering)
    });
    let others: Vec<_> = others
        .map(|&(number, value)| pb::ExtSkOption {
            number: number as u32,
            value,
        })
        .collect();
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
        so_no_check: flag(libc::SO_NO_CHECK),
        so_bound_dev: (!options.device.is_empty()).then(|| options.device.clone()),
        so_filter: options.filter.clone(),
        so_reuseport: flag(libc::SO_REUSEPORT),
        so_broadcast: flag(libc::SO_BROADCAST),
        so_keepalive: flag(libc::SO_KEEPALIVE),
        so_oobinline: Some(value(libc::SO_OOBINLINE) as u32),
        so_linger: is_lingering.then_some((linger >> 32) as u32),
        so_buf_lock: Some(options.locked_buffers),
        ext: (!others.is_empty()).then_some(pb::ExtSkOpts { option: others }),
        ..Default::default()
    }
}

/// Returns the options in a record.
pub(crate) fn from_record(record: &pb::SkOptsEntry) -> Checked<SocketOptions> {
    let timeout = |seconds: u64, micros: u64| match micros < MICROS && seconds <= i64::MAX as u64 {
        true => Ok([seconds as i64, micros as i64]),
        false => wrong!("a time limit of {seconds} s and {micros} us is none"),
    };
    let device = record.so_bound_dev.clone().unwrap_or_default();
    if device.len() >= MAX_DEVICE || device.contains(&0) {
        return wrong!("a name of {} bytes is none of a device", device.len());
    }
    if record.so_filter.len() > MAX_FILTER {
        return wrong!("a filter has no {} instructions", record.so_filter.len());
    }
    Ok(SocketOptions {
        send_buffer: record.so_sndbuf,
        receive_buffer: record.so_rcvbuf,
        locked_buffers: record.so_buf_lock.unwrap_or(0),
        send_timeout: timeout(record.so_snd_tmo_sec, record.so_snd_tmo_usec)?,
        receive_timeout: timeout(record.so_rcv_tmo_sec, record.so_rcv_tmo_usec)?,
        values: values_from(record)?,
        device,
        filter: record.so_filter.clone(),
    })
}

fn values_from(record: &pb::SkOptsEntry) -> Checked<Vec<(i32, u64)>> {
    let flag = |value: Option<bool>| value.map(u64::from);
    let number = |value: Option<u32>| value.map(u64::from);
    let linger = record.so_linger.map(|time| u64::from(time) << 32 | 1);
    let mut given = vec![
        (libc::SO_REUSEADDR, flag(record.reuseaddr)),
        (libc::SO_PRIORITY, number(record.so_priority)),
        (libc::SO_RCVLOWAT, number(record.so_rcvlowat)),
        (libc::SO_MARK, number(record.so_mark)),
        (libc::SO_PASSCRED, flag(record.so_passcred)),
        (libc::SO_PASSSEC, flag(record.so_passsec)),
        (libc::SO_DONTROUTE, flag(record.so_dontroute)),
        (libc::SO_NO_CHECK, flag(record.so_no_check)),
        (libc::SO_REUSEPORT, flag(record.so_reuseport)),
        (libc::SO_BROADCAST, flag(record.so_broadcast)),
        (libc::SO_KEEPALIVE, flag(record.so_keepalive)),
        (libc::SO_OOBINLINE, number(record.so_oobinline)),
        (libc::SO_LINGER, linger),
    ];
    for option in record.ext.iter().flat_map(|ext| &ext.option) {
        let number = option.number as i32;
        let row = row(number).filter(|row| row.bytes == 8 || option.value <= u64::from(u32::MAX));
        if row.is_none() || PEERS.contains(&number) {
            return wrong!("option {number} of a socket is not {}", option.value);
        }
        given.push((number, Some(option.value)));
    }
    let values = TABLE.iter().filter_map(|row| {
        let mut given = given
            .iter()
            .rev()
            .filter(|(number, _)| *number == row.number);
        let value = given.find_map(|(_, value)| *value)?;
        (value != row.default).then_some((row.number, value))
    });
    Ok(values.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_comes_back() {
        let flags = [
            libc::SO_REUSEADDR,
            libc::SO_PASSCRED,
            libc::SO_PASSSEC,
            libc::SO_DONTROUTE,
            libc::SO_NO_CHECK,
            libc::SO_REUSEPORT,
            libc::SO_BROADCAST,
            libc::SO_KEEPALIVE,
        ];
        for row in TABLE {
            let value = match flags.contains(&row.number) {
                true => 1,
                false if row.bytes == 8 => 7 << 32,
                false => 12,
            };
            let options = SocketOptions {
                values: vec![(row.number, value)],
                device: b"lo".to_vec(),
                filter: vec![6 << 48 | 0xffff],
                ..SocketOptions::default()
            };
            let record = to_record(&options);
            assert_eq!(from_record(&record), Ok(options), "{}", row.number);
            let is_peers = record.ext.is_none();
            assert_eq!(is_peers, PEERS.contains(&row.number), "{}", row.number);
        }
    }

    #[test]
    fn lingering_is_the_peers() {
        let options = SocketOptions {
            values: vec![(libc::SO_LINGER, 5 << 32 | 1)],
            ..SocketOptions::default()
        };
        let record = to_record(&options);
        assert_eq!((record.so_linger, &record.ext), (Some(5), &None));
        assert_eq!(from_record(&record), Ok(options));
    }

    #[test]
    fn an_option_that_is_none_is_refused() {
        for (number, value) in [(4, 1), (libc::SO_DEBUG as u32, 1 << 32), (2, 1)] {
            let record = pb::SkOptsEntry {
                ext: Some(pb::ExtSkOpts {
                    option: vec![pb::ExtSkOption { number, value }],
                }),
                ..to_record(&SocketOptions::default())
            };
            assert!(from_record(&record).is_err(), "{number}");
        }
    }
}
