//! Rules of iptables that keep packets of connections away: only where the user asks for them, as they are made by the
//! programs `iptables-restore` and `ip6tables-restore`.
//!
//! Rules are the peer's: they stand in `INPUT` and `OUTPUT` themselves, so that its restore removes ours and ours removes its.
//! Where we alone restore, a comment has the name by which they are found when a crash leaves them behind.

use crate::netlink::nft::{Ends, MARK};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where else than in `PATH` such programs are.
const FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];
/// IPv4 and IPv6.
const FAMILIES: [Family; 2] = [
    Family {
        is_v6: false,
        restore: "iptables-restore",
        save: "iptables-save",
    },
    Family {
        is_v6: true,
        restore: "ip6tables-restore",
        save: "ip6tables-save",
    },
];

#[derive(Debug, Clone, Copy)]
struct Family {
    is_v6: bool,
    restore: &'static str,
    save: &'static str,
}

/// Adds rules that drop packets of these connections, called so where they have a name.
///
/// # Errors
/// The program is not there, or says no.
pub fn lock(name: Option<&str>, connections: &[Ends]) -> io::Result<()> {
    for family in FAMILIES {
        let rules = rules(family, name, connections);
        if !rules.is_empty() {
            change(family, "-A", &rules)?;
        }
    }
    Ok(())
}

/// Removes these rules, where they are there.
///
/// # Errors
/// The program is not there, or says no.
pub fn unlock(name: Option<&str>, connections: &[Ends]) -> io::Result<()> {
    for family in FAMILIES {
        let mut rules = rules(family, name, connections);
        if rules.is_empty() {
            continue;
        }
        let there = saved(family)?;
        rules.retain(|rule| there.contains(&ends_of(rule)));
        if !rules.is_empty() {
            change(family, "-D", &rules)?;
        }
    }
    Ok(())
}

/// Removes all rules whose name begins so, and returns the names.
///
/// # Errors
/// The program says no.
pub fn unlock_left(prefix: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for family in FAMILIES {
        if find(family.save).is_none() {
            continue;
        }
        let all = run(family.save, &["-t", "filter"], "")?;
        let mut rules = Vec::new();
        for line in all.lines() {
            let name = line
                .split_ascii_whitespace()
                .map(|word| word.trim_matches('"'));
            let name = name.clone().find(|word| word.starts_with(prefix));
            if let (Some(name), Some(rule)) = (name, line.strip_prefix("-A ")) {
                rules.push(rule.to_owned());
                names.push(name.to_owned());
            }
        }
        if !rules.is_empty() {
            change(family, "-D", &rules)?;
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn rules(family: Family, name: Option<&str>, connections: &[Ends]) -> Vec<String> {
    let ends = connections
        .iter()
        .map(|(one, other)| (plain(*one), plain(*other)));
    let own = ends.filter(|(one, _)| one.is_ipv6() == family.is_v6);
    let comment = match name {
        Some(name) => format!(" -m comment --comment {name}"),
        None => String::new(),
    };
    let rule = |chain: &str, from: SocketAddr, to: SocketAddr| {
        let bits = if family.is_v6 { 128 } else { 32 };
        format!(
            "{chain} -s {}/{bits} -d {}/{bits} -p tcp -m mark ! --mark {MARK:#x} -m tcp --sport {} --dport {}{comment} -j DROP",
            from.ip(),
            to.ip(),
            from.port(),
            to.port(),
        )
    };
    own.flat_map(|(local, remote)| [rule("INPUT", remote, local), rule("OUTPUT", local, remote)])
        .collect()
}

fn plain(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = address.ip().to_canonical();
    SocketAddr::new(ip, address.port())
}

/// Returns the words of a rule as they are saved, whatever program saves them: quotes differ.
fn ends_of(rule: &str) -> String {
    rule.replace('"', "")
}

fn saved(family: Family) -> io::Result<Vec<String>> {
    let all = run(family.save, &["-t", "filter"], "")?;
    let rules = all.lines().filter_map(|line| line.strip_prefix("-A "));
    Ok(rules.map(ends_of).collect())
}

/// Changes rules, all of them or none.
fn change(family: Family, how: &str, rules: &[String]) -> io::Result<()> {
    let lines: String = rules.iter().map(|rule| format!("{how} {rule}\n")).collect();
    let text = format!("*filter\n{lines}COMMIT\n");
    run(family.restore, &["--noflush", "--wait"], &text).map(drop)
}

fn run(program: &str, args: &[&str], input: &str) -> io::Result<String> {
    let missing = || {
        let words = format!(
            "there is no program {program}: install iptables, or use --network-lock nftables"
        );
        io::Error::new(io::ErrorKind::NotFound, words)
    };
    let path = find(program).ok_or_else(missing)?;
    let mut child = Command::new(path)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program}: {}", said.trim())))
}

/// Returns whether the kernel has tables of iptables, and there is a program for them.
pub fn is_known() -> bool {
    /// `IPT_SO_GET_INFO` of `linux/netfilter_ipv4/ip_tables.h`, and `struct ipt_getinfo`: a name first.
    const IPT_SO_GET_INFO: i32 = 64;
    let mut info = [0; 84];
    info[..6].copy_from_slice(b"filter");
    let socket = crate::sys::socket::make(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW);
    let has_table = socket.is_ok_and(|socket| {
        crate::sys::socket::option_of(&socket, libc::IPPROTO_IP, IPT_SO_GET_INFO, &mut info).is_ok()
    });
    has_table && find(FAMILIES[0].restore).is_some()
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
    let paths = folders.map(|folder| folder.join(program));
    paths.into_iter().find(|path| Path::is_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_a_rule_for_each_direction() {
        let address = |text: &str| text.parse().expect("an address");
        let ends = [
            (
                address("[::ffff:127.0.0.1]:80"),
                address("[::ffff:10.0.0.7]:4000"),
            ),
            (address("[::1]:80"), address("[::1]:81")),
        ];
        assert_eq!(
            rules(FAMILIES[0], Some("orchestrator-1-2"), &ends),
            [
                "INPUT -s 10.0.0.7/32 -d 127.0.0.1/32 -p tcp -m mark ! --mark 0xc114 -m tcp --sport 4000 --dport 80 -m comment --comment orchestrator-1-2 -j DROP",
                "OUTPUT -s 127.0.0.1/32 -d 10.0.0.7/32 -p tcp -m mark ! --mark 0xc114 -m tcp --sport 80 --dport 4000 -m comment --comment orchestrator-1-2 -j DROP",
            ]
        );
        assert_eq!(rules(FAMILIES[1], None, &ends).len(), 2);
    }
}
