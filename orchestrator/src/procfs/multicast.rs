//! `/proc/net/igmp` and `igmp6`: the groups that anybody here is a member of.

use super::{Error, Result};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A group on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Index of the interface.
    pub index: u32,
    /// Its name.
    pub interface: Vec<u8>,
    /// The group.
    pub group: IpAddr,
}

/// Reads both; a family that the kernel does not have has none.
///
/// # Errors
/// A file cannot be read.
pub fn read() -> Result<Vec<Candidate>> {
    let text = |path: &str| match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => read.map_err(|source| Error::Read {
            path: path.into(),
            source,
        }),
    };
    let mut all = parse_igmp(&text("/proc/thread-self/net/igmp")?);
    all.extend(parse_igmp6(&text("/proc/thread-self/net/igmp6")?));
    Ok(all)
}

/// A line with a number first is an interface's; groups follow it.
fn parse_igmp(text: &str) -> Vec<Candidate> {
    let mut all = Vec::new();
    let mut interface = (0, Vec::new());
    for line in text.lines().skip(1) {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next(), words.next());
        if !line.starts_with(char::is_whitespace) {
            if let (Some(Ok(index)), Some(name)) = (first.map(str::parse), second) {
                interface = (index, name.trim_end_matches(':').as_bytes().to_vec());
            }
        } else if let Some(Ok(group)) = first.map(|word| u32::from_str_radix(word, 16)) {
            all.push(Candidate {
                index: interface.0,
                interface: interface.1.clone(),
                // The number as it lies in memory.
                group: Ipv4Addr::from(group.to_ne_bytes()).into(),
            });
        }
    }
    all
}

fn parse_igmp6(text: &str) -> Vec<Candidate> {
    let one = |line: &str| {
        let mut words = line.split_whitespace();
        let index = words.next()?.parse().ok()?;
        let interface = words.next()?.as_bytes().to_vec();
        let group = u128::from_str_radix(words.next()?, 16).ok()?;
        Some(Candidate {
            index,
            interface,
            group: Ipv6Addr::from(group).into(),
        })
    };
    text.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let text = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n\
            1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n\
            2\teth0      :     2      V3\n\t\t\t\tFB0000E0     1 0:00000000\t\t0\n";
        let all = parse_igmp(text);
        let [first, second] = &all[..] else {
            panic!("{all:?}");
        };
        assert_eq!((first.index, &first.interface[..]), (1, &b"lo"[..]));
        assert_eq!(first.group, Ipv4Addr::new(224, 0, 0, 1));
        assert_eq!((second.index, &second.interface[..]), (2, &b"eth0"[..]));
        assert_eq!(second.group, Ipv4Addr::new(224, 0, 0, 251));
        let text = "1    lo              ff020000000000000000000000000001     1 0000000C 0\n";
        let all = parse_igmp6(text);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].group.to_string(), "ff02::1");
    }
}
