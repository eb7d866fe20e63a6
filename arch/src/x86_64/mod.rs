//! x86-64.

pub mod gate;
pub mod launch;
pub mod regs;
pub mod rt;
pub mod sigframe;
pub mod start;
pub mod tiles;
pub mod vdso;
pub mod xstate;
