//! The net under remote system calls: what brings the leader back if this process dies in the middle of one.
//!
//! The kernel's rule: a tracer's death lets the thread go on with the registers that it has. In the middle of a remote
//! call those are ours: the call ends, and the thread runs on behind a `syscall` instruction where it never came from. The
//! net makes that lead home. The instruction borrowed is one followed by `ret`; the stack pointer stands below the
//! thread's own stack, on the address of the C library's return from signal handlers (`mov eax, 15; syscall`), and on a
//! signal frame of the thread as it was found.
//!
//! ```text
//! rsp of the call -> [ address of the trampoline ][ signal frame ] ... [ red zone ] <- the thread's rsp
//! ```
//!
//! Both pieces of code are looked for in the files that the process has mapped, before it is frozen. Below the stack
//! pointer nothing is in use (System V ABI, 3.2.2) as long as it is a real stack: the net is laid only in the area that
//! the kernel calls `[stack]`, on pages that are there, and what lay there is put back. Without a net a remote call is
//! made all the same: then the tens of microseconds that it takes are unprotected.

use super::Stopped;
use super::resume::return_regs;
use crate::procfs::pagemap::{PageEntry, Pagemap};
use crate::procfs::smaps;
use crate::sys::{Pid, RemoteAddr};
use arch::native::sigframe;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

/// `syscall; ret`.
const CALL: &[u8] = &[0x0f, 0x05, 0xc3];
/// `mov rax, 15; syscall` and `mov eax, 15; syscall`: `rt_sigreturn`.
const RETURNS: [&[u8]; 2] = [
    &[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05],
    &[0xb8, 15, 0, 0, 0, 0x0f, 0x05],
];
/// Most code looked at, in bytes: a search must not take longer than the dump.
const MOST: u64 = 4 << 20;
/// Code is looked at in pieces: what is sought lies early in most libraries.
const PIECE: u64 = 64 << 10;
/// The red zone, and the rests of timeouts below it.
const BELOW_RED_ZONE: u64 = 256;
/// Size of a page in bytes.
const PAGE_SIZE: u64 = 4096;

/// Code of the process that a net is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Code {
    /// `syscall; ret`.
    pub(super) call: u64,
    /// `rt_sigreturn`.
    trampoline: u64,
    /// First address of the area `[stack]`, and the one after its last.
    stack: [u64; 2],
}

/// A net for one leader.
#[derive(Debug)]
pub(super) struct Net {
    /// Stack pointer for the call.
    pub(super) rsp: u64,
    mem: File,
    frame: Vec<u8>,
    before: Vec<u8>,
    laid: bool,
}

/// Looks for the code in a process, frozen or not.
pub(super) fn find(pid: Pid) -> Option<Code> {
    let areas = smaps::read_maps(pid).ok()?;
    let mem = File::open(format!("/proc/{}/mem", pid.0)).ok()?;
    let stack = areas
        .vmas
        .iter()
        .find(|vma| areas.path(vma).as_ref() == b"[stack]")?;
    let stack = [stack.start, stack.end];
    let mut code: Vec<_> = areas
        .vmas
        .iter()
        .filter(|vma| vma.prot & libc::PROT_EXEC as u32 != 0 && vma.inode != 0)
        .map(|vma| vma.start..vma.end)
        .collect();
    // The smallest first: that is the dynamic linker, which has both.
    code.sort_by_key(|range| range.end - range.start);
    let (mut call, mut trampoline, mut looked) = (None, None, 0);
    let mut bytes = Vec::new();
    for range in code {
        let mut at = range.start;
        while at < range.end && looked < MOST {
            let len = (range.end - at).min(PIECE);
            bytes.resize(len as usize, 0);
            mem.read_exact_at(&mut bytes, at).ok()?;
            call = call.or_else(|| position(&bytes, CALL).map(|found| at + found));
            trampoline = trampoline.or_else(|| {
                RETURNS
                    .iter()
                    .find_map(|code| position(&bytes, code))
                    .map(|found| at + found)
            });
            if let Some((call, trampoline)) = call.zip(trampoline) {
                return Some(Code {
                    call,
                    trampoline,
                    stack,
                });
            }
            looked += len;
            at += len;
        }
    }
    None
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<u64> {
    memchr::memmem::find(bytes, wanted).map(|at| at as u64)
}

impl Code {
    /// Returns whether the code is still there: it was found while the process ran.
    pub(super) fn holds(&self, pid: Pid) -> bool {
        let Ok(mem) = File::open(format!("/proc/{}/mem", pid.0)) else {
            return false;
        };
        let is = |at: u64, wanted: &[u8]| {
            let mut bytes = vec![0; wanted.len()];
            mem.read_exact_at(&mut bytes, at).is_ok() && bytes == wanted
        };
        is(self.call, CALL) && RETURNS.iter().any(|code| is(self.trampoline, code))
    }

    /// Makes a net for the leader, not yet laid; `None` where there is no place for it.
    pub(super) fn net(&self, pid: Pid, leader: &Stopped, sizes: &sigframe::Sizes) -> Option<Net> {
        let mut frame = vec![0; sigframe::ROOM];
        let len = sizes.frame(&leader.xstate);
        let at = leader.regs.rsp.checked_sub(BELOW_RED_ZONE + len as u64)? & !63;
        // Threads of some languages stand on small stacks in the heap; below those other things are in use.
        let is_stack = self.stack[0] <= at && leader.regs.rsp <= self.stack[1];
        if !is_stack || !is_present(pid, at, len) {
            return None;
        }
        let (regs, blocked) = (return_regs(leader), leader.blocked);
        let state = (sizes, &leader.xstate[..]);
        sigframe::build(at, &regs, blocked, state, &mut frame)?;
        frame[..8].copy_from_slice(&self.trampoline.to_le_bytes());
        frame.truncate(len);
        let path = format!("/proc/{}/mem", pid.0);
        let mem = OpenOptions::new().read(true).write(true).open(path).ok()?;
        let mut before = vec![0; len];
        mem.read_exact_at(&mut before, at).ok()?;
        Some(Net {
            rsp: at,
            mem,
            frame,
            before,
            laid: false,
        })
    }
}

impl Net {
    /// Lays the net; false where it cannot be.
    pub(super) fn lay(&mut self) -> bool {
        if !self.laid {
            self.laid = self.mem.write_all_at(&self.frame, self.rsp).is_ok();
        }
        self.laid
    }

    /// Takes the net away; the leader does not stand on it any more.
    pub(super) fn take_away(&mut self) {
        if std::mem::take(&mut self.laid)
            && let Err(error) = self.mem.write_all_at(&self.before, self.rsp)
        {
            tracing::debug!("bytes below the leader's stack stay changed: {error}");
        }
    }
}

fn is_present(pid: Pid, at: u64, len: usize) -> bool {
    let first = at / PAGE_SIZE * PAGE_SIZE;
    let count = ((at + len as u64).next_multiple_of(PAGE_SIZE) - first) / PAGE_SIZE;
    let mut words = Vec::new();
    let read = Pagemap::open(pid)
        .and_then(|pagemap| pagemap.read(RemoteAddr(first), count as usize, &mut words));
    read.is_ok() && words.iter().all(|&word| PageEntry(word).is_present())
}
