//! Protection keys (`pkeys(7)`) that a program has allocated: they are not kept, and the kernel tells nobody of them.
//!
//! It answers `pkey_mprotect` by whether the key is allocated before it looks for an area (`do_mprotect_pkey`,
//! `mm/mprotect.c`), so a key is asked for at an address where there is none. The key that it takes by itself for areas which
//! may be executed only (`execute_only_pkey`) is not allocated to a program, and comes with such an area at the restore too.

use crate::infect::questions::{Answers, Arg, Asked, Questions};
use crate::support::{Loss, Lost};

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

/// Returns those that are, as what is lost: an area with one is refused, and no other trace of them is in memory.
pub fn lost(asked: &[(u64, Asked)], answers: &Answers) -> Option<Loss> {
    let is_allocated = |asked: &Asked| answers.result(*asked) == Err(libc::ENOMEM);
    let allocated = asked.iter().filter(|(_, asked)| is_allocated(asked));
    let words: Vec<String> = allocated.map(|(key, _)| key.to_string()).collect();
    (!words.is_empty()).then(|| Loss::with(Lost::ProtectionKeys, words.join(", ")))
}
