//! From the kernel to the fact.
//!
//! A thread's filters are a chain: each was added to those that were there. The kernel tells the programs, the oldest first,
//! and not which threads have the same chain; those whose chains begin with equal programs are taken to have them in common,
//! as they are in effect. So the filters of an image set are a forest, and a thread names its newest.

use crate::snapshot::{SeccompFilter, SeccompMode};
use crate::sys::{self, Tid, ptrace};
use nix::errno::Errno;
use std::collections::BTreeMap;

/// `SECCOMP_RET_USER_NOTIF` (`include/uapi/linux/seccomp.h`) and the part of a filter's answer that says what is to be done.
const USER_NOTIF: u32 = 0x7fc0_0000;
const ACTION: u32 = 0xffff_0000;
/// `BPF_CLASS`, `BPF_SRC`; classes and sources of constants (`include/uapi/linux/bpf_common.h`).
const CLASS: u16 = 0x07;
const RETURN: u16 = 0x06;
const LOADS: [u16; 2] = [0x00, 0x01];
const RETURN_VALUE: u16 = 0x18;
const MODE: u16 = 0xe0;
/// Bytes of an instruction.
pub(super) const INSTRUCTION: usize = 8;

/// All filters of a tree.
#[derive(Debug, Default)]
pub struct Filters {
    /// Each after the one that it was added to.
    pub all: Vec<SeccompFilter>,
    places: BTreeMap<SeccompFilter, u32>,
}

impl Filters {
    /// Reads what a stopped thread runs under, in the kernel's mode, or says why it cannot be kept.
    pub fn collect(&mut self, tid: Tid, mode: u32) -> Result<SeccompMode, String> {
        match mode {
            0 => Ok(SeccompMode::Off),
            1 => Ok(SeccompMode::Strict),
            2 => self.chain(tid),
            mode => Err(format!("its mode {mode} is not known")),
        }
    }

    fn chain(&mut self, tid: Tid) -> Result<SeccompMode, String> {
        let mut newest = None;
        for index in 0.. {
            let program = match ptrace::seccomp_filter(tid, index) {
                Ok(program) => program,
                Err(error) if error.errno == Errno::ENOENT => break,
                Err(error) => return Err(unreadable(&error)),
            };
            if asks_somebody(&program) {
                return Err(
                    "it asks a listener (SECCOMP_RET_USER_NOTIF), which is not kept".into(),
                );
            }
            let flags = ptrace::seccomp_flags(tid, index).map_err(|error| unreadable(&error))?;
            newest = Some(self.add(SeccompFilter {
                prev: newest,
                program,
                flags: flags as u32,
            }));
        }
        newest
            .map(SeccompMode::Filter)
            .ok_or_else(|| "the kernel tells none of its filters".into())
    }

    fn add(&mut self, filter: SeccompFilter) -> u32 {
        if let Some(&place) = self.places.get(&filter) {
            return place;
        }
        let place = self.all.len() as u32;
        self.places.insert(filter.clone(), place);
        self.all.push(filter);
        place
    }
}

fn unreadable(error: &sys::Error) -> String {
    match error.errno {
        Errno::EACCES | Errno::EPERM => "this command may not read its filters: that takes \
             CAP_SYS_ADMIN, and no seccomp of its own"
            .into(),
        _ => format!("its filters cannot be read: {error}"),
    }
}

/// Returns whether a filter may hand a system call to a listener. One that computes such an answer has the constant to load.
fn asks_somebody(program: &[u8]) -> bool {
    program.chunks_exact(INSTRUCTION).any(|instruction| {
        let code = u16::from_le_bytes([instruction[0], instruction[1]]);
        let constant = u32::from_le_bytes(instruction[4..8].try_into().expect("four bytes"));
        let is_answer = code & CLASS == RETURN && code & RETURN_VALUE == 0;
        let is_loaded = LOADS.contains(&(code & CLASS)) && code & MODE == 0;
        (is_answer || is_loaded) && constant & ACTION == USER_NOTIF
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(prev: Option<u32>, byte: u8) -> SeccompFilter {
        SeccompFilter {
            prev,
            program: vec![byte; INSTRUCTION],
            flags: 0,
        }
    }

    #[test]
    fn chains_that_begin_alike_are_one() {
        let mut filters = Filters::default();
        let first = filters.add(filter(None, 1));
        let second = filters.add(filter(Some(first), 2));
        assert_eq!(filters.add(filter(None, 1)), first);
        assert_eq!(filters.add(filter(Some(first), 2)), second);
        assert_ne!(filters.add(filter(None, 2)), second);
        assert_eq!(filters.all.len(), 3);
    }

    #[test]
    fn a_listener_is_seen_by_the_answer() {
        let answer = |action: u32| [&[6, 0, 0, 0][..], &action.to_le_bytes()].concat();
        assert!(asks_somebody(&answer(USER_NOTIF)));
        assert!(!asks_somebody(&answer(0x7fff_0000)));
        let compared = [&[0x15, 0, 0, 0][..], &USER_NOTIF.to_le_bytes()].concat();
        assert!(!asks_somebody(&compared));
    }
}
