//! What the orchestrator and the blobs share in memory: operations of a program, the contexts that run them, and the
//! control blocks of an injection. Layouts only: `repr(C)`, no pointers (addresses are `u64`), sizes asserted beside them.

pub mod injection;
pub mod program;
pub mod restore;
