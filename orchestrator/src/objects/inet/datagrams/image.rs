//! Between datagrams that wait and their records, in that of their socket.

use super::MAX_DATAGRAM;
use crate::image::error::{Checked, wrong};
use crate::objects::inet::image::{ip_from, name_from_record, name_to_record, octets};
use crate::snapshot::Datagram;
use proto::pb;

/// Bytes of an address of IPv4 and a port.
const V4_NAME: usize = 6;

/// Returns the record of one.
pub(crate) fn to_record(datagram: &Datagram) -> pb::ExtDatagram {
    pb::ExtDatagram {
        from: name_to_record(&datagram.from),
        to: octets(&datagram.to),
        hops: datagram.hops.into(),
        class: datagram.class.into(),
        data: datagram.data.clone(),
    }
}

/// Returns the datagram in a record of a socket of this protocol.
pub(crate) fn from_record(record: &pb::ExtDatagram, protocol: i32) -> Checked<Datagram> {
    if !matches!(protocol, libc::IPPROTO_UDP | libc::IPPROTO_UDPLITE) {
        return wrong!("datagrams do not wait in a socket of IP protocol {protocol}");
    }
    let (Ok(hops), Ok(class)) = (u8::try_from(record.hops), u8::try_from(record.class)) else {
        return wrong!("{} hops and class {} are none", record.hops, record.class);
    };
    if record.data.len() > MAX_DATAGRAM {
        return wrong!("a datagram has no {} bytes", record.data.len());
    }
    let from = name_from_record(&record.from, record.from.len() != V4_NAME)?;
    let to = ip_from(&record.to)?;
    if to.is_ipv6() != from.is_ipv6() || to.is_multicast() {
        return wrong!("a datagram from {from} was not sent to {to}");
    }
    Ok(Datagram {
        from,
        to,
        hops,
        class,
        data: record.data.clone(),
    })
}
