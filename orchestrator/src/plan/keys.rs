//! Protection keys (`pkeys(7)`): which of them are allocated, by the program or by the kernel for what may be executed only, and
//! which area has one.
//!
//! The kernel gives the lowest key that is free (`mm_pkey_alloc`, `asm/pkeys.h`): so all up to the highest that is wanted are
//! allocated, and those between are freed. Its own it takes when the first area is made that may be executed only: one is, while
//! the number is the only free one, and goes again. An area gets its key last, when nobody reads or writes its content any more. A
//! key that an area has and the program has freed since is freed after that.

use super::memory::area;
use super::program::Object;
use super::task::Making;
use crate::snapshot::{Mm, PAGE_SIZE, ProtectionKeys, Vma};

/// State component of the rights to keys (XCR0).
const PKRU: u64 = 1 << 9;
/// Keys of a processor.
const KEYS: u8 = 16;

/// Adds that the keys of the task, and those of its areas, are allocated, whatever it was born with.
pub fn plan_take(m: &mut Making<'_>) {
    let birth = m.births.get(&m.own.member);
    let had = birth.map(|birth| birth.keys).unwrap_or_default();
    let wanted = with_areas(m.own.mm);
    m.own.keys = wanted;
    if wanted == had {
        return;
    }
    let object = Object::Task("protection keys");
    if wanted != ProtectionKeys::default() && m.host.xcr0 & PKRU == 0 {
        let reason = "this processor has none, or the kernel does not use them";
        return m.report.refuse(object.to_string(), reason, "");
    }
    if let Some(key) = had.execute_only
        && (wanted.has(key) || wanted.execute_only.is_some_and(|own| own != key))
    {
        let reason = format!("the kernel has key {key} for itself in the process that makes it");
        return m.report.refuse(object.to_string(), reason, "");
    }
    m.b.object(object);
    let is_in = |keys: ProtectionKeys, key| keys.has(key) || keys.execute_only == Some(key);
    let highest = (1..KEYS).rev().find(|&key| is_in(wanted, key));
    for key in 1..=highest.unwrap_or(0) {
        if !is_in(had, key) {
            m.b.call_returns(libc::SYS_pkey_alloc, &[0, 0], key.into());
        }
    }
    if let Some(key) = wanted.execute_only.filter(|_| had.execute_only.is_none()) {
        plan_execute_only(m, key);
    }
    let last = KEYS - (had.allocated.leading_zeros() as u8).min(KEYS - 1) - 1;
    for key in 1..=highest.unwrap_or(0).max(last) {
        if !is_in(wanted, key) && had.execute_only != Some(key) {
            plan_one_free(m, key);
        }
    }
    // It stays the kernel's own for as long as the address space is.
    m.own.keys.execute_only = wanted.execute_only.or(had.execute_only);
}

/// Returns the keys of an address space with those that its areas have.
fn with_areas(mm: &Mm) -> ProtectionKeys {
    let of_areas = mm.vmas.iter().map(|vma| 1 << vma.protection_key);
    let all = of_areas.fold(mm.keys.allocated, |all, key: u16| all | key);
    ProtectionKeys {
        allocated: all & !1,
        ..mm.keys
    }
}

/// Has the kernel take this key, which is allocated as all below it are.
fn plan_execute_only(m: &mut Making<'_>, key: u8) {
    plan_one_free(m, key);
    let Some(at) = m.holes.take_anywhere(PAGE_SIZE) else {
        let reason = "no free address space for an area that may be executed only";
        return m.report.refuse("protection keys", reason, "");
    };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    let prot = libc::PROT_EXEC as u64;
    let args = [at, PAGE_SIZE, prot, flags as u64, u64::MAX, 0];
    m.b.call_returns(libc::SYS_mmap, &args, at as i64);
    m.b.call_returns(libc::SYS_munmap, &[at, PAGE_SIZE], 0);
    // It has it for itself: nobody frees it now.
    let is_taken = -i64::from(libc::EINVAL);
    m.b.call_returns(libc::SYS_pkey_free, &[key.into()], is_taken);
}

fn plan_one_free(m: &mut Making<'_>, key: u8) {
    m.b.call_returns(libc::SYS_pkey_free, &[key.into()], 0);
}

/// Adds that an area gets its key.
pub fn plan_area(m: &mut Making<'_>, vma: &Vma) {
    if vma.protection_key != 0 {
        m.b.object(area(vma));
        let key = u64::from(vma.protection_key);
        let args = [vma.start, vma.len(), u64::from(vma.prot), key];
        m.b.call_returns(libc::SYS_pkey_mprotect, &args, 0);
    }
}

/// Adds the end of keys that areas have and the program has not.
pub fn plan_free(m: &mut Making<'_>) {
    let left = m.own.keys.allocated & !m.own.mm.keys.allocated;
    for key in (1..KEYS).filter(|key| left >> key & 1 != 0) {
        m.b.object(Object::Task("protection keys"));
        plan_one_free(m, key);
    }
}
