//! `/proc/net/raw`, `raw6`, `icmp` and `icmp6`: where sockets without ports are connected to. `getpeername` says of one that is
//! connected to no port that it is not connected (`inet_getname`, `net/ipv4/af_inet.c`).

use super::{Error, Result};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Reads all four, of the calling thread's network namespace: addresses by inode. A family that the kernel does not have has
/// none.
///
/// # Errors
/// A file cannot be read.
pub fn read() -> Result<BTreeMap<u32, IpAddr>> {
    let mut all = BTreeMap::new();
    for name in ["raw", "raw6", "icmp", "icmp6"] {
        let path = format!("/proc/thread-self/net/{name}");
        match std::fs::read_to_string(&path) {
            Ok(text) => all.extend(text.lines().skip(1).filter_map(parse)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                let path = path.into();
                return Err(Error::Read { path, source });
            }
        }
    }
    Ok(all)
}

/// Returns inode and address of a line; `None` where it is connected to nobody.
fn parse(line: &str) -> Option<(u32, IpAddr)> {
    let mut words = line.split_whitespace().skip(2);
    let address = address(words.next()?.split(':').next()?)?;
    let ino = words.nth(6)?.parse().ok()?;
    (!address.is_unspecified()).then_some((ino, address))
}

/// Words of 32 bits as they lie in memory: one, or four.
fn address(digits: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(digits.get(at * 8..at * 8 + 8)?, 16);
        word.ok().map(u32::to_ne_bytes)
    };
    match digits.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for (at, part) in bytes.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_end_is_in_the_third_column() {
        let line = " 162: 0100007F:00FD 5463587F:0000 01 00000000:00000000 00:00000000 00000000     0        0 7633269 2 0000000054d5593d 0";
        let expected = (7_633_269, Ipv4Addr::new(127, 88, 99, 84).into());
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(&line.replace("5463587F", "00000000")), None);
        let six = line.replace("5463587F", "B80D0120000000000000000001000000");
        let expected: IpAddr = "2001:db8::1".parse().expect("an address");
        assert_eq!(parse(&six), Some((7_633_269, expected)));
    }
}
