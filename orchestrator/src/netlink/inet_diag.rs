//! Sockets of the network in our namespace: in which directions they are shut, which nothing else tells of all of them, which
//! of them have one port, and to whom they are to be connected while there is no answer.

use super::ask;
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

/// What is told of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// `RCV_SHUTDOWN` 1, `SEND_SHUTDOWN` 2.
    pub shutdown: u8,
    /// Its port.
    pub port: u16,
    /// The address and port of the other end; unspecified = none.
    pub remote: SocketAddr,
}

/// Reads the sockets of a protocol that are bound or connected, by inode.
///
/// # Errors
/// The kernel does not answer (`CONFIG_INET_UDP_DIAG`), or not as it should.
pub fn read(is_v6: bool, protocol: u8) -> io::Result<BTreeMap<u32, Told>> {
    let request = SockDiagMessage::InetRequest(InetRequest {
        family: if is_v6 { libc::AF_INET6 } else { libc::AF_INET } as u8,
        protocol,
        extensions: ExtensionFlags::SHUTDOWN,
        states: StateFlags::from_bits_retain(u32::MAX),
        socket_id: if is_v6 {
            SocketId::new_v6()
        } else {
            SocketId::new_v4()
        },
    });
    let mut all = BTreeMap::new();
    ask(request, |message| {
        let SockDiagMessage::InetResponse(response) = message else {
            return;
        };
        let shutdowns = response.nlas.iter().filter_map(|nla| match nla {
            Nla::Shutdown(shutdown) => Some(*shutdown),
            _ => None,
        });
        let id = &response.header.socket_id;
        let told = Told {
            shutdown: shutdowns.fold(0, |all, one| all | one),
            port: id.source_port,
            remote: SocketAddr::new(id.destination_address, id.destination_port),
        };
        all.insert(response.header.inode, told);
    })?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn a_shut_socket_tells_of_it() {
        let (one, other) = (UdpSocket::bind("127.0.0.1:0"), UdpSocket::bind("[::1]:0"));
        let one = one.expect("a socket");
        one.connect(one.local_addr().expect("a name"))
            .expect("connected");
        nix::sys::socket::shutdown(
            std::os::fd::AsRawFd::as_raw_fd(&one),
            nix::sys::socket::Shutdown::Write,
        )
        .expect("shut");
        let inode = |fd: &dyn std::os::fd::AsFd| {
            crate::sys::file::statx(fd.as_fd()).expect("statx").ino as u32
        };
        let udp = libc::IPPROTO_UDP as u8;
        let told = read(false, udp).expect("told")[&inode(&one)];
        let name = one.local_addr().expect("a name");
        let expected = Told {
            shutdown: 2,
            port: name.port(),
            remote: name,
        };
        assert_eq!(told, expected);
        if let Ok(other) = other {
            let told = read(true, udp).expect("told");
            assert_eq!(told[&inode(&other)].shutdown, 0);
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let tcp = libc::IPPROTO_TCP as u8;
        let told = read(false, tcp).expect("told");
        assert!(told.contains_key(&inode(&listener)));
    }
}
