//! What a task is beside all that: name, personality, dumpable, subreaper, parent-death signal, membarrier, oom score, coredump filter, machine-check and memory settings.

pub mod collect;
pub mod image;
pub mod plan;
