//! x86-64.

pub mod gate;
pub mod regs;
