//! What belongs to the machine, and what the orchestrator and the blobs share in memory.
//!
//! One folder per architecture holds the same file names and exports the same names; it is chosen here, once, and is
//! called [`native`] everywhere else.
#![no_std]

pub mod abi;
pub mod machine;
pub mod rt;

#[cfg(target_arch = "x86_64")]
#[path = "x86_64/mod.rs"]
pub mod native;

#[cfg(not(target_arch = "x86_64"))]
compile_error!("this architecture has no folder in arch/src yet");

pub use native::regs;
