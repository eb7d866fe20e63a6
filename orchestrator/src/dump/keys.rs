//! Protection keys (`pkeys(7)`) that a program has allocated: the kernel tells nobody of them.
//!
//! It answers `pkey_mprotect` by whether the key is allocated before it looks for an area (`do_mprotect_pkey`,
//! `mm/mprotect.c`), so a key is asked for at an address where there is none. The key that it takes by itself for areas which
//! may be executed only (`execute_only_pkey`) is not allocated to a program: it is that of such an area which is nobody's.

use super::Error;
use crate::error::{Refusal, Refusals};
use crate::infect::questions::{Answers, Arg, Asked, Questions};
use crate::snapshot::{Mm, ProtectionKeys, Task, Vma, VmaKind};

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

/// Notes those that are, and which is the kernel's own; areas have that of no program then.
///
/// # Errors
/// An area has a key that no restore could give it.
pub fn collect(
    pid: i32,
    asked: &[(u64, Asked)],
    answers: &Answers,
    mm: &mut Mm,
) -> Result<(), Error> {
    let is_allocated = |asked: &Asked| answers.result(*asked) == Err(libc::ENOMEM);
    let allocated = asked.iter().filter(|(_, asked)| is_allocated(asked));
    mm.keys = ProtectionKeys {
        allocated: allocated.fold(0, |all, (key, _)| all | 1 << key),
        execute_only: None,
    };
    let mut refusals = Vec::new();
    for vma in mm.vmas.iter_mut().filter(|vma| vma.protection_key != 0) {
        let key = vma.protection_key;
        let is_only = vma.prot == libc::PROT_EXEC as u32 && !mm.keys.has(key);
        if is_only && *mm.keys.execute_only.get_or_insert(key) == key {
            vma.protection_key = 0;
        }
    }
    let own = mm.keys.execute_only;
    for vma in mm.vmas.iter().filter(|vma| vma.protection_key != 0) {
        let is_kernels = matches!(
            vma.kind,
            VmaKind::Vdso | VmaKind::Vvar | VmaKind::Vsyscall | VmaKind::AioRing
        );
        let reason = match own == Some(vma.protection_key) {
            true => "which the kernel has taken since for what may be executed only",
            false if is_kernels => "and is the kernel's own",
            false => continue,
        };
        refusals.push(refusal(pid, vma, reason, ""));
    }
    Ok(Refusals(refusals).into_result()?)
}

fn has_key(vma: &Vma) -> bool {
    vma.protection_key != 0
}

fn refusal(task: i32, vma: &Vma, reason: &str, remedy: &str) -> Refusal {
    Refusal {
        task,
        object: format!("memory {:x}-{:x}", vma.start, vma.end),
        reason: format!("it has protection key {}, {reason}", vma.protection_key),
        remedy: remedy.into(),
    }
}

/// Refuses areas with keys where the peer is to restore them, which it does not, and keys that a restore could not give: a process
/// is born with that which the kernel has taken in its parent.
///
/// # Errors
/// Something is refused.
pub fn refuse(tasks: &[&Task], is_portable: bool) -> Result<(), Error> {
    let mut refusals = Vec::new();
    // Few programs have any, and the tree stands still meanwhile.
    let has_any = |mm: &Mm| mm.keys != ProtectionKeys::default() || mm.vmas.iter().any(has_key);
    if !tasks
        .iter()
        .any(|task| task.mm.as_ref().is_some_and(has_any))
    {
        return Ok(());
    }
    for task in tasks {
        let Some(mm) = &task.mm else {
            continue;
        };
        let mut with_keys = mm.vmas.iter().filter(|vma| has_key(vma));
        if is_portable && let Some(vma) = with_keys.next() {
            let reason = "which CRIU does not restore";
            refusals.push(refusal(task.pid, vma, reason, "dump without --portable"));
        }
        for (pid, key) in ancestors(tasks, task) {
            let has_another = mm.keys.execute_only.is_some_and(|own| own != key);
            let has_it = mm.keys.has(key) || mm.vmas.iter().any(|vma| vma.protection_key == key);
            if has_another || has_it {
                refusals.push(Refusal {
                    task: task.pid,
                    object: "protection keys".into(),
                    reason: format!(
                        "the kernel has taken key {key} for itself in process {pid}, of which it is born at a restore"
                    ),
                    remedy: String::new(),
                });
            }
        }
    }
    Ok(Refusals(refusals).into_result()?)
}

/// Returns the processes above a task with the key that the kernel has taken for itself in them.
fn ancestors(tasks: &[&Task], task: &Task) -> Vec<(i32, u8)> {
    let parent = |of: &Task| tasks.iter().find(|other| other.pid == of.ppid).copied();
    // Parents come before children.
    let above = std::iter::successors(parent(task), |of| parent(of)).take(tasks.len());
    let key = |of: &Task| Some((of.pid, of.mm.as_ref()?.keys.execute_only?));
    above.filter_map(key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(pid: i32, allocated: u16, execute_only: Option<u8>) -> Task {
        let keys = ProtectionKeys {
            allocated,
            execute_only,
        };
        Task {
            pid,
            ppid: pid - 1,
            mm: Some(Mm {
                keys,
                ..Mm::default()
            }),
            ..Task::default()
        }
    }

    #[test]
    fn a_child_cannot_have_what_is_the_kernels_in_its_parent() {
        let (parent, child) = (task(1, 2, Some(2)), task(2, 4, None));
        assert!(refuse(&[&parent, &child], false).is_err());
        let alike = task(2, 2, Some(2));
        assert!(refuse(&[&parent, &alike], false).is_ok());
    }
}
