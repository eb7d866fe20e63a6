//! x86-64.

pub mod gate;
pub mod regs;
pub mod rt;
pub mod start;
pub mod vdso;
pub mod xstate;
