//! The vDSO: the task has addresses of its functions in its memory, so they must work where they stood.
//!
//! The kernel's rule: `ARCH_MAP_VDSO_64` maps its data (`[vvar]`, `[vvar_vclock]`) and code side by side, in the order and
//! at the distance that the code was linked for, once per address space. The code differs between kernels, and so do the
//! offsets of its functions, which the C library has looked up long ago.
//!
//! The naive way, to bring the old code back as it was, fails when it reads the new kernel's data with the old layout: the
//! clock is silently wrong. So there are two cases:
//!
//! ```text
//! same code       [vvar][vdso]          mapped by the kernel at the old address; nothing of it is filled from images
//! other code      (gap )[old vdso]      ordinary memory with the old code, its functions patched to jump to ...
//!                 [vvar][new vdso]      ... the kernel's, mapped in a hole
//! ```
//!
//! A function that the new kernel does not have becomes the system call that it stands for. Where a thread stands in the
//! middle of the old code, or a function has no room for a jump or is not known, the restore is refused.

use std::collections::BTreeMap;
use std::ops::Range;

use arch::abi::program::special;
use arch::native::vdso::{MAP_VDSO, PATCH_LEN, SYS_MAP_VDSO, jump_to, system_call};

use super::host::VdsoCode;
use super::program::Object;
use super::task::Making;
use crate::snapshot::{Arch, PAGE_SIZE, Vma, VmaKind};

/// What becomes of the vDSO's areas.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct VdsoPlan {
    /// Addresses that are neither mapped nor filled by the planner.
    pub made_by_kernel: Vec<Range<u64>>,
    /// Code to write over the old one: address and bytes.
    patches: Vec<(u64, Vec<u8>)>,
}

/// System calls behind the functions of a vDSO (`arch/x86/entry/vdso/vdso.lds.S`), without the `__vdso_` of their names.
const SYSTEM_CALLS: [(&[u8], i64); 6] = [
    (b"clock_gettime", libc::SYS_clock_gettime),
    (b"clock_getres", libc::SYS_clock_getres),
    (b"gettimeofday", libc::SYS_gettimeofday),
    (b"time", libc::SYS_time),
    (b"getcpu", libc::SYS_getcpu),
    // Its first three arguments are those of the system call; the others are its state, which then stays unused.
    (b"getrandom", libc::SYS_getrandom),
];

/// Adds the mapping of the kernel's vDSO and decides what becomes of the areas.
pub fn plan_vdso(m: &mut Making<'_>) -> VdsoPlan {
    let is = |kind| move |vma: &&Vma| vma.kind == kind;
    let mut plan = VdsoPlan::default();
    let data: Vec<&Vma> = m.own.mm.vmas.iter().filter(is(VmaKind::Vvar)).collect();
    plan.made_by_kernel
        .extend(data.iter().map(|vma| vma.start..vma.end));
    let vsyscall = m.own.mm.vmas.iter().filter(is(VmaKind::Vsyscall));
    plan.made_by_kernel
        .extend(vsyscall.map(|vma| vma.start..vma.end));
    let Some(code) = m.own.mm.vmas.iter().find(is(VmaKind::Vdso)) else {
        return plan;
    };
    m.b.object(super::memory::area(code));
    let dumped = m.host.dumped_vdso.get(&m.own.task.pid);
    if fits(m, code, &data, dumped) {
        let at = code.start - m.host.vdso.code_offset();
        map_at(m, at);
        plan.made_by_kernel.push(code.start..code.end);
        return plan;
    }
    let Some(dumped) = dumped else {
        m.report.refuse(
            "[vdso]",
            "this kernel's is different, and the dumped one's pages are not in the images",
            "restore on the kernel that it was dumped on",
        );
        return plan;
    };
    plan.patches = redirect(m, code, dumped).unwrap_or_default();
    plan
}

/// Returns whether this kernel's vDSO is the dumped one and can be where that was.
fn fits(m: &Making<'_>, code: &Vma, data: &[&Vma], dumped: Option<&VdsoCode>) -> bool {
    let vdso = &m.host.vdso;
    let is_same = dumped.is_none_or(|dumped| dumped.bytes == vdso.code.bytes);
    let data_len: u64 = data.iter().map(|vma| vma.len()).sum();
    let data_start = data.first().map_or(0, |vma| vma.start);
    let is_in_order = if vdso.data_first {
        data_start + vdso.data_len == code.start
    } else {
        code.end == data_start
    };
    is_same
        && code.len() == vdso.code.bytes.len() as u64
        && data_len == vdso.data_len
        && is_in_order
}

/// Adds the mapping of the kernel's vDSO, unless the task was born with it there. There may be one.
fn map_at(m: &mut Making<'_>, at: u64) {
    let birth = m.births.get(&m.own.member);
    let before = birth.and_then(|birth| birth.vdso_at);
    m.own.vdso_at = Some(at);
    if before == Some(at) {
        return;
    }
    if let Some(before) = before {
        let args = [before, m.host.vdso.len()];
        m.b.call_returns(libc::SYS_munmap, &args, 0);
    }
    let len = m.host.vdso.code.bytes.len() as i64;
    m.b.call_returns(SYS_MAP_VDSO, &[MAP_VDSO, at], len);
}

/// Maps the kernel's vDSO in a hole and returns the patches that lead the old functions there.
fn redirect(m: &mut Making<'_>, code: &Vma, dumped: &VdsoCode) -> Option<Vec<(u64, Vec<u8>)>> {
    refuse_threads_inside(m, code);
    if m.host.vdso.is_empty() {
        m.report
            .refuse("[vdso]", "this kernel has none", "start it without vdso=0");
        return None;
    }
    let len = m.host.vdso.len().next_multiple_of(PAGE_SIZE);
    let Some(at) = m.holes.take_anywhere(len) else {
        m.report
            .refuse("[vdso]", "no free address space for it", "");
        return None;
    };
    map_at(m, at);
    let new_code = at + m.host.vdso.code_offset();
    match patches(code, dumped, &m.host.vdso.code, new_code) {
        Ok(patches) => Some(patches),
        Err(function) => {
            m.report.refuse(
                format!("[vdso] function {function}"),
                "it cannot be led to this kernel's",
                "restore on the kernel that it was dumped on",
            );
            None
        }
    }
}

fn refuse_threads_inside(m: &mut Making<'_>, code: &Vma) {
    for thread in &m.own.task.threads {
        if let Arch::X86_64 { regs, .. } = &thread.arch
            && (code.start..code.end).contains(&regs.rip)
        {
            m.report.refuse(
                format!("thread {}", thread.tid),
                "it was stopped inside of the vDSO, which is different on this kernel",
                "dump it again, or restore on the kernel that it was dumped on",
            );
        }
    }
}

/// Returns what to write where, or the name of the function that cannot be redirected.
fn patches(
    code: &Vma,
    old: &VdsoCode,
    new: &VdsoCode,
    new_code: u64,
) -> Result<Vec<(u64, Vec<u8>)>, String> {
    // Several names may stand for one function.
    let mut functions: BTreeMap<u64, &Vec<u8>> = BTreeMap::new();
    for (name, &offset) in &old.symbols {
        let is_known = new.symbols.contains_key(name) || kernel_call(name).is_some();
        let entry = functions.entry(offset).or_insert(name);
        if is_known {
            *entry = name;
        }
    }
    let ends = functions.keys().skip(1).copied().chain([code.len()]);
    let ends: Vec<u64> = ends.collect();
    let mut patches = Vec::new();
    for ((&offset, &name), end) in functions.iter().zip(ends) {
        let bytes = match (new.symbols.get(name), kernel_call(name)) {
            (Some(target), _) => jump_to(new_code + target).to_vec(),
            (None, Some(nr)) => system_call(nr as u32).to_vec(),
            (None, None) => return Err(String::from_utf8_lossy(name).into_owned()),
        };
        if offset + PATCH_LEN > end {
            return Err(String::from_utf8_lossy(name).into_owned());
        }
        patches.push((code.start + offset, bytes));
    }
    Ok(patches)
}

fn kernel_call(name: &[u8]) -> Option<i64> {
    let name = name.strip_prefix(b"__vdso_").unwrap_or(name);
    let known = SYSTEM_CALLS.iter().find(|(known, _)| *known == name);
    known.map(|(_, nr)| *nr)
}

impl VdsoPlan {
    /// Returns whether the area is not the planner's to map.
    pub fn is_made_by_kernel(&self, vma: &Vma) -> bool {
        self.made_by_kernel
            .iter()
            .any(|range| range.start <= vma.start && vma.start < range.end)
    }

    /// Adds the writing of the patches, once the old code is in place and still writable.
    pub fn plan_patches(&self, m: &mut Making<'_>) {
        for (at, bytes) in &self.patches {
            m.b.object(Object::Named(format!("[vdso] function at {at:x}")));
            let from = m.b.put(bytes);
            m.b.special(special::COPY, &[*at, from, bytes.len() as u64]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(symbols: &[(&str, u64)]) -> VdsoCode {
        VdsoCode {
            bytes: vec![0; 0x1000],
            symbols: symbols
                .iter()
                .map(|(name, at)| (name.as_bytes().to_vec(), *at))
                .collect(),
        }
    }

    fn vma() -> Vma {
        Vma::new([0x7000_0000, 0x7000_1000], 5, 0x22, VmaKind::Vdso)
    }

    #[test]
    fn functions_jump_to_the_new_ones_or_call_the_kernel() {
        let old = code(&[
            ("__vdso_time", 0x100),
            ("time", 0x100),
            ("__vdso_getcpu", 0x200),
        ]);
        let new = code(&[("time", 0x900), ("__vdso_time", 0x900)]);
        let made = patches(&vma(), &old, &new, 0x5000_0000).unwrap();
        assert_eq!(made[0], (0x7000_0100, jump_to(0x5000_0900).to_vec()));
        assert_eq!(made[1], (0x7000_0200, system_call(309).to_vec()));
        assert_eq!(made.len(), 2);
    }

    #[test]
    fn what_cannot_be_redirected_is_named() {
        let new = code(&[("time", 0x900), ("getcpu", 0x800)]);
        let tight = code(&[("time", 0x100), ("getcpu", 0x108)]);
        assert_eq!(patches(&vma(), &tight, &new, 0), Err("time".into()));
        let unknown = code(&[("__vdso_sgx_enter_enclave", 0x100)]);
        let wrong = patches(&vma(), &unknown, &new, 0);
        assert_eq!(wrong, Err("__vdso_sgx_enter_enclave".into()));
        let at_end = code(&[("time", 0xff8)]);
        assert_eq!(patches(&vma(), &at_end, &new, 0), Err("time".into()));
    }
}
