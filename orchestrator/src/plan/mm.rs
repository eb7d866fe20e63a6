//! What `mm_struct` holds beside areas: where code, data, break, stack, arguments and environment are, the auxiliary
//! vector, the executable, the LDT, and what holds for all mappings to come.

use super::memory;
use super::program::Object;
use super::task::Making;
use crate::snapshot::FileKind;

/// `PR_SET_MM_MAP`: all fields of an `mm_struct` in one go. The single options need CAP_SYS_RESOURCE, this one does not.
const PR_SET_MM_MAP: u64 = 14;
/// `sizeof(struct prctl_mm_map)`.
const MM_MAP_LEN: u64 = 104;
/// `PR_SET_MDWE` (Linux 6.3).
const PR_SET_MDWE: u64 = 65;
/// `PR_SET_MEMORY_MERGE` (Linux 6.4).
const PR_SET_MEMORY_MERGE: u64 = 67;

/// Adds all of it. The old executable is no longer mapped here, else the kernel would not let it be replaced.
pub fn plan_mm(m: &mut Making<'_>) {
    plan_mm_map(m);
    plan_ldt(m);
    if m.own.task.memory_merge == Some(true) {
        m.b.object(Object::Task("memory merging (KSM)"));
        m.b.call_returns(libc::SYS_prctl, &[PR_SET_MEMORY_MERGE, 1], 0);
    }
    if m.own.mm.mlockall != 0 {
        m.b.object(Object::Task("locking of later mappings"));
        m.b.call_returns(libc::SYS_mlockall, &[u64::from(m.own.mm.mlockall)], 0);
    }
    memory::plan_seals(m);
    if let Some(bits) = m.own.task.mdwe.filter(|&bits| bits != 0) {
        m.b.object(Object::Task("memory-deny-write-execute"));
        m.b.call_returns(libc::SYS_prctl, &[PR_SET_MDWE, u64::from(bits)], 0);
    }
}

fn plan_mm_map(m: &mut Making<'_>) {
    let path = match m.files.get(&m.own.mm.exe).map(|file| &file.kind) {
        Some(FileKind::Regular(file)) => &file.path,
        _ => {
            let reason = "its path is not in the images";
            return m.report.refuse("executable", reason, "");
        }
    };
    m.b.object(Object::Named(format!(
        "executable {} and layout of the address space",
        String::from_utf8_lossy(path)
    )));
    let fd = m.b.open_path(path, libc::O_RDONLY as u32);
    let auxv = m.b.put_words(&m.own.mm.auxv);
    let auxv_len = m.own.mm.auxv.len() as u64 * 8;
    let mm = m.own.mm;
    let words = [
        mm.code[0],
        mm.code[1],
        mm.data[0],
        mm.data[1],
        mm.brk[0],
        mm.brk[1],
        mm.start_stack,
        mm.args[0],
        mm.args[1],
        mm.env[0],
        mm.env[1],
        if auxv_len == 0 { 0 } else { auxv },
        // auxv_size and exe_fd, both u32.
        auxv_len | (fd as u64) << 32,
    ];
    let map = m.b.put_words(&words);
    let pr_set_mm = libc::PR_SET_MM as u64;
    m.b.call_returns(
        libc::SYS_prctl,
        &[pr_set_mm, PR_SET_MM_MAP, map, MM_MAP_LEN],
        0,
    );
    m.b.close(fd);
}

/// `modify_ldt` function that writes an entry, all of its bits (`arch/x86/kernel/ldt.c`).
const WRITE_LDT: u64 = 0x11;

fn plan_ldt(m: &mut Making<'_>) {
    for (number, entry) in m.own.mm.ldt.chunks_exact(8).enumerate() {
        let entry = u64::from_le_bytes(entry.try_into().expect("chunks are of 8 bytes"));
        if entry == 0 {
            continue;
        }
        m.b.object(Object::Task("LDT entry"));
        let words = user_desc(number as u32, entry);
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let at = m.b.put(&bytes);
        m.b.call_returns(libc::SYS_modify_ldt, &[WRITE_LDT, at, 16], 0);
    }
}

/// Returns the `struct user_desc` that makes this descriptor (Intel SDM vol. 3, 3.4.5; `fill_ldt`, `asm/desc.h`).
fn user_desc(number: u32, entry: u64) -> [u32; 4] {
    let bit = |at: u32| (entry >> at & 1) as u32;
    let base = (entry >> 16 & 0xff_ffff) | (entry >> 32 & 0xff00_0000);
    let limit = (entry & 0xffff) | (entry >> 32 & 0xf_0000);
    let contents = (entry >> 42 & 3) as u32;
    let flags = bit(54)
        | contents << 1
        | (bit(41) ^ 1) << 3
        | bit(55) << 4
        | (bit(47) ^ 1) << 5
        | bit(52) << 6
        | bit(53) << 7;
    [number, base as u32, limit as u32, flags]
}

#[cfg(test)]
mod tests {
    use super::user_desc;

    #[test]
    fn descriptors_become_what_made_them() {
        // Base 0x12345678, limit 0xfffff pages, 32 bit, writable data, present, usable by the program: as `fill_ldt` writes it.
        let entry = 0x12df_f334_5678_ffff;
        let [number, base, limit, flags] = user_desc(3, entry);
        assert_eq!((number, base, limit), (3, 0x1234_5678, 0xf_ffff));
        // seg_32bit, limit_in_pages, useable.
        assert_eq!(flags, 1 | 1 << 4 | 1 << 6);
    }
}
