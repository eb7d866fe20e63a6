//! The arena: memory of a file, so that tasks of other address spaces can map it, filled as the plan's layout says.
//!
//! It lies anywhere in ourselves: all addresses in it are those that it has in the tasks.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use arch::abi::restore::{Ctx, Head, StackTop};
use arch::native::launch::Launch;

use super::error::{Doing, Result};
use crate::blobs::{self, RESTORER, restorer_sym};
use crate::plan::Plan;
use crate::sys::mem::{Place, SharedMapping, memfd_create};
use crate::sys::{fd, file};

/// The arena of one restore, as we see it.
#[derive(Debug)]
pub(super) struct Arena {
    /// Its memory.
    memory: SharedMapping,
    /// The file that it is the memory of.
    pub(super) file: OwnedFd,
    base: u64,
    head: usize,
    first_ctx: usize,
}

impl Arena {
    /// Makes the arena and puts all of the plan into it. Its descriptor is not below `lowest`.
    pub(super) fn of(plan: &Plan, lowest: i32) -> Result<Self> {
        let doing = "make the arena";
        let len = plan.layout.len as usize;
        let made = memfd_create(c"restore", 0).doing(doing)?;
        file::ftruncate(&made, plan.layout.len).doing(doing)?;
        let memory = SharedMapping::of_file(&made, 0, len, Place::Anywhere).doing(doing)?;
        let base = plan.arena.base;
        let mut arena = Self {
            memory,
            file: fd::dup_at_least(&made, lowest).doing(doing)?,
            base,
            head: (plan.arena.head() - base) as usize,
            first_ctx: (plan.arena.ctx(0) - base) as usize,
        };
        arena.fill(plan);
        Ok(arena)
    }

    fn fill(&mut self, plan: &Plan) {
        assert_eq!(
            plan.arena.blob_len, RESTORER.mem_size as u64,
            "the plan was made for this blob"
        );
        self.memory.write_at(0, RESTORER.image);
        let head = Head::default();
        head.parking
            .store(plan.finals.len() as u32, Ordering::Relaxed);
        self.memory.put(self.head, head);
        let data = self.offset(plan.arena.data());
        self.memory.write_at(data, &plan.data);
        let places = plan.layout.programs.iter();
        for (index, (program, place)) in (0_u32..).zip(plan.programs.iter().zip(places)) {
            let ctx = Ctx {
                ops: place.ops,
                results: place.results,
                head: plan.arena.head(),
                count: program.ops.len() as u32,
                id: index,
                ..Ctx::default()
            };
            let top = StackTop {
                trampoline: self.base + restorer_sym::TRAMPOLINE as u64,
                ctx: plan.arena.ctx(index),
            };
            let (ctx_at, top_at, ops_at) = (
                self.offset(plan.arena.ctx(index)),
                self.offset(plan.arena.stack_top(index)),
                self.offset(place.ops),
            );
            self.memory.put(ctx_at, ctx);
            self.memory.put(top_at, top);
            self.memory.put_all(ops_at, &program.ops);
        }
    }

    fn offset(&self, addr: u64) -> usize {
        (addr - self.base) as usize
    }

    /// Returns what concerns the whole restore.
    pub(super) fn head(&self) -> &Head {
        self.memory.view(self.head)
    }

    /// Returns context number `index`.
    pub(super) fn ctx(&self, index: usize) -> &Ctx {
        self.memory.view(self.first_ctx + index * size_of::<Ctx>())
    }

    /// Returns the word at an address of the tasks.
    pub(super) fn word(&self, addr: u64) -> &AtomicU32 {
        self.memory.atomic_u32(self.offset(addr))
    }

    /// Returns how a new address space gets to context 0.
    pub(super) fn launch(&self, plan: &Plan, fd: i32) -> Launch {
        Launch {
            fd: fd as u32,
            base: self.base,
            text_len: RESTORER.text_len as u64,
            len: plan.layout.len,
            entry: self.base + RESTORER.entry as u64,
            stack: plan.arena.stack_top(0),
            arg: plan.arena.ctx(0),
        }
    }
}

/// Returns the offset of a `syscall` instruction in the arena.
pub(super) fn syscall_offset() -> u64 {
    let text = &RESTORER.image[..RESTORER.image.len().min(RESTORER.text_len)];
    let found = text.windows(2).position(|two| two == SYSCALL);
    found.expect("the audit of the blob found the gate") as u64
}

/// The instruction.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

const _: () = assert!(blobs::RESTORER.text_len <= blobs::RESTORER.mem_size);
