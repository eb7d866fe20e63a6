//! `/proc/PID/numa_maps`: the NUMA policy of each memory area (`show_numa_map` in `fs/proc/task_mmu.c`).

use super::text::{Line, lines};
use super::{Result, Subject};
use crate::sys::Pid;

const FILE: &str = "numa_maps";

/// An area whose policy is its own or its process's, not the system's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AreaPolicy {
    /// First address of the area.
    pub start: u64,
    /// `MPOL_*` with `MPOL_F_*`.
    pub mode: u32,
    /// The nodes, in order.
    pub nodes: Vec<u32>,
}

/// Words of the modes (`policy_modes` in `mm/mempolicy.c`), longer ones before those that they begin with.
const MODES: [(&[u8], u32); 7] = [
    (b"default", 0),
    (b"prefer (many)", 5),
    (b"prefer", 1),
    (b"bind", 2),
    (b"interleave", 3),
    (b"local", 4),
    (b"weighted interleave", 6),
];

/// Words of the mode flags.
const FLAGS: [(&[u8], u32); 3] = [
    (b"static", 1 << 15),
    (b"relative", 1 << 14),
    (b"balancing", 1 << 13),
];

/// Most nodes that a kernel can be built for.
const MAX_NODE: u32 = 1024;

/// Reads the policies of a process that are not the default. It walks all pages.
pub fn read(pid: Pid) -> Result<Vec<AreaPolicy>> {
    parse(&Subject::from(pid).read(FILE)?)
}

/// Parses the bytes of `numa_maps`.
pub fn parse(bytes: &[u8]) -> Result<Vec<AreaPolicy>> {
    let mut areas = Vec::new();
    for mut line in lines(FILE, bytes) {
        let start = line.hex("an address")?;
        line.expect(b" ", "a blank")?;
        let (mode, nodes) = policy(&mut line)?;
        if mode != 0 {
            areas.push(AreaPolicy { start, mode, nodes });
        }
    }
    Ok(areas)
}

/// Parses `bind=static|balancing:0-1,3`.
fn policy(line: &mut Line<'_>) -> Result<(u32, Vec<u32>)> {
    let mode = one_of(line, &MODES).ok_or_else(|| line.error("a policy"))?;
    let mut flags = 0;
    if line.skip(b"=") {
        loop {
            flags |= one_of(line, &FLAGS).ok_or_else(|| line.error("a flag of the policy"))?;
            if !line.skip(b"|") {
                break;
            }
        }
    }
    let nodes = if line.skip(b":") {
        nodes(line)?
    } else {
        Vec::new()
    };
    Ok((mode | flags, nodes))
}

fn one_of(line: &mut Line<'_>, words: &[(&[u8], u32)]) -> Option<u32> {
    let found = words.iter().find(|(word, _)| line.skip(word));
    found.map(|&(_, value)| value)
}

/// Parses `0-1,3`.
fn nodes(line: &mut Line<'_>) -> Result<Vec<u32>> {
    let mut nodes = Vec::new();
    loop {
        let first: u32 = line.number("a node")?;
        let last: u32 = match line.skip(b"-") {
            true => line.number("a node")?,
            false => first,
        };
        if last >= MAX_NODE {
            return Err(line.error("a node below 1024"));
        }
        nodes.extend(first..=last);
        if !line.skip(b",") {
            return Ok(nodes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read() {
        let areas = parse(
            b"00400000 default file=/bin/x mapped=1 N0=1\n\
              7f00 bind:0-1,3 anon=1\n7f10 prefer=static:2 heap\n7f20 prefer (many):0 stack\n\
              7f30 weighted interleave=relative|balancing:0\n7f40 local\n7f50 interleave:7 file=/a b\n",
        );
        let areas = areas.expect("parses");
        let got: Vec<_> = areas
            .iter()
            .map(|area| (area.start, area.mode, area.nodes.as_slice()))
            .collect();
        let wanted: [(u64, u32, &[u32]); 6] = [
            (0x7f00, 2, &[0, 1, 3]),
            (0x7f10, 1 | 1 << 15, &[2]),
            (0x7f20, 5, &[0]),
            (0x7f30, 6 | 3 << 13, &[0]),
            (0x7f40, 4, &[]),
            (0x7f50, 3, &[7]),
        ];
        assert_eq!(got, wanted);
        assert!(parse(b"7f00 magic:0\n").is_err());
        assert!(parse(b"7f00 bind:0-4000000000\n").is_err());
    }

    #[test]
    fn our_own_can_be_read() {
        // ENOENT without CONFIG_NUMA.
        match read(Pid::this()) {
            Ok(areas) => assert!(areas.iter().all(|area| area.mode != 0)),
            Err(error) => assert_eq!(error.errno(), Some(libc::ENOENT)),
        }
    }
}
