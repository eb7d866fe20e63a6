//! Protection keys (`pkeys(7)`) that a program has allocated: they are not kept, and the kernel tells nobody of them.
//!
//! It answers `pkey_mprotect` by whether the key is allocated before it looks for an area (`do_mprotect_pkey`,
//! `mm/mprotect.c`), so a key is asked for at an address where there is none. The key that it takes by itself for areas which
//! may be executed only (`execute_only_pkey`) is not allocated to a program, and comes with such an area at the restore too.

use super::Error;
use crate::error::{Refusal, Refusals};
use crate::infect::questions::{Answers, Arg, Asked, Questions};

/// Keys of the processor (x86: `ARCH_VM_PKEY_FLAGS`); every program has the first.
const KEYS: std::ops::Range<u64> = 1..16;
/// An address of the kernel's, where no process has an area; the vsyscall page is none that is looked for.
const NOWHERE: u64 = 0xffff_ffff_8000_0000;

/// Asks which keys are allocated.
pub fn ask(questions: &mut Questions) -> Vec<(u64, Asked)> {
    let mut of = |key: u64| {
        let args = [NOWHERE, crate::snapshot::PAGE_SIZE, 0, key].map(Arg::Value);
        (key, questions.ask(libc::SYS_pkey_mprotect as u32, args))
    };
    KEYS.map(&mut of).collect()
}

/// Refuses those that are.
pub fn refuse(pid: i32, asked: &[(u64, Asked)], answers: &Answers) -> Result<(), Error> {
    let is_allocated = |asked: &Asked| answers.result(*asked) == Err(libc::ENOMEM);
    let allocated = asked.iter().filter(|(_, asked)| is_allocated(asked));
    let refusals = allocated.map(|(key, _)| Refusal {
        task: pid,
        object: format!("protection key {key}"),
        reason: "the program has allocated it (pkey_alloc), which is not kept yet".into(),
        remedy: String::new(),
    });
    Ok(Refusals(refusals.collect()).into_result()?)
}
