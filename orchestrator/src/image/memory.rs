//! Between an address space and its `mm-PID.img`.

use proto::pb;

use super::error::{Checked, wrong};
use super::limits::{USER_END, address};
use super::vma;
use crate::objects::aio;
use crate::snapshot::{FileId, Mm, OpenFile, ProtectionKeys, Vma, VmaKind};

/// Words of the auxiliary vector that the kernel keeps at most, with room for more.
const MAX_AUXV: usize = 256;
/// Bytes of a full LDT: 8192 entries.
const MAX_LDT: usize = 8192 * 8;

/// Returns the record of `mm`; `files` are the open file descriptions of the snapshot, ascending by id.
pub(super) fn to_record(mm: &Mm, files: &[&OpenFile]) -> pb::MmEntry {
    let ext = pb::ExtMm {
        ldt: (!mm.ldt.is_empty()).then(|| mm.ldt.clone()),
        thp_except_advised: mm.thp_except_advised.then_some(true),
        mlockall: (mm.mlockall != 0).then_some(mm.mlockall),
        protection_keys: (mm.keys.allocated != 0).then_some(mm.keys.allocated.into()),
        execute_only_key: mm.keys.execute_only.map(u32::from),
    };
    pb::MmEntry {
        mm_start_code: mm.code[0],
        mm_end_code: mm.code[1],
        mm_start_data: mm.data[0],
        mm_end_data: mm.data[1],
        mm_start_stack: mm.start_stack,
        mm_start_brk: mm.brk[0],
        mm_brk: mm.brk[1],
        mm_arg_start: mm.args[0],
        mm_arg_end: mm.args[1],
        mm_env_start: mm.env[0],
        mm_env_end: mm.env[1],
        exe_file_id: mm.exe.0,
        mm_saved_auxv: without_end(&mm.auxv).to_vec(),
        vmas: vma::to_records(&mm.vmas, files),
        dumpable: mm.dumpable,
        aios: rings(&mm.vmas),
        thp_disabled: Some(mm.thp_disabled),
        ext: (ext != pb::ExtMm::default()).then_some(ext),
    }
}

/// An address space as read, without its pages.
pub(super) struct AddressSpace {
    /// The fact.
    pub(super) mm: Mm,
    /// Areas of kinds that this build does not restore: first address and what it is.
    pub(super) unsupported: Vec<(u64, &'static str)>,
}

/// Returns the address space in `record`.
pub(super) fn from_record(record: &pb::MmEntry) -> Checked<AddressSpace> {
    let read = vma::from_records(&record.vmas, record.mm_start_stack)?;
    check_rings(&record.aios, &read.vmas)?;
    let range = |name: &str, start: u64, end: u64| {
        let end = address(end).map_err(|wrong| wrong.of(name))?;
        Ok([address(start).map_err(|wrong| wrong.of(name))?, end])
    };
    if record
        .dumpable
        .is_some_and(|dumpable| !(0..=2).contains(&dumpable))
    {
        return wrong!("dumpable {:?} is not known", record.dumpable);
    }
    let ext = record.ext.as_ref();
    let mm = Mm {
        code: range("code", record.mm_start_code, record.mm_end_code)?,
        data: range("data", record.mm_start_data, record.mm_end_data)?,
        start_stack: address(record.mm_start_stack)
            .map_err(|wrong| wrong.of("start of the stack"))?,
        brk: range("brk", record.mm_start_brk, record.mm_brk)?,
        args: range("arguments", record.mm_arg_start, record.mm_arg_end)?,
        env: range("environment", record.mm_env_start, record.mm_env_end)?,
        auxv: auxv(&record.mm_saved_auxv)?,
        exe: FileId(record.exe_file_id),
        dumpable: record.dumpable,
        thp_disabled: record.thp_disabled.unwrap_or(false),
        thp_except_advised: ext.is_some_and(|ext| ext.thp_except_advised == Some(true)),
        mlockall: mlockall(ext)?,
        ldt: ldt(record)?,
        keys: keys(ext)?,
        vmas: read.vmas,
        ..Mm::default()
    };
    Ok(AddressSpace {
        mm,
        unsupported: read.unsupported,
    })
}

/// Returns the records of contexts of asynchronous I/O.
fn rings(vmas: &[Vma]) -> Vec<pb::AioRingEntry> {
    let rings = vmas.iter().filter(|vma| vma.kind == VmaKind::AioRing);
    let record = |vma: &Vma| pb::AioRingEntry {
        id: vma.start,
        nr_req: aio::requests(vma.len()),
        ring_len: vma.len() as u32,
    };
    rings.map(record).collect()
}

/// Checks that areas and records speak of the same rings. How many requests the record says is not asked: all that lead to
/// the same ring are alike.
fn check_rings(records: &[pb::AioRingEntry], vmas: &[Vma]) -> Checked<()> {
    let is_of = |record: &pb::AioRingEntry, vma: &Vma| {
        vma.kind == VmaKind::AioRing
            && (record.id, u64::from(record.ring_len)) == (vma.start, vma.len())
    };
    for record in records {
        if !vmas.iter().any(|vma| is_of(record, vma)) {
            return wrong!("no area is the ring of context {:#x}", record.id);
        }
    }
    for vma in vmas.iter().filter(|vma| vma.kind == VmaKind::AioRing) {
        if !aio::is_length(vma.len()) || vma.offset != 0 {
            return wrong!("area {:#x} is not the whole of a ring", vma.start);
        }
        if !records.iter().any(|record| is_of(record, vma)) {
            return wrong!("area {:#x} is a ring of no context", vma.start);
        }
    }
    Ok(())
}

/// Returns the vector up to its terminator, which the peer does not write.
fn without_end(auxv: &[u64]) -> &[u64] {
    let pairs = auxv.chunks_exact(2).take_while(|pair| pair[0] != 0).count();
    &auxv[..pairs * 2]
}

fn auxv(words: &[u64]) -> Checked<Vec<u64>> {
    if words.len() > MAX_AUXV || !words.len().is_multiple_of(2) {
        return wrong!("an auxiliary vector of {} words", words.len());
    }
    let mut auxv = without_end(words).to_vec();
    auxv.extend([0, 0]);
    Ok(auxv)
}

fn mlockall(ext: Option<&pb::ExtMm>) -> Checked<u32> {
    const FUTURE: u32 = libc::MCL_FUTURE as u32;
    const ON_FAULT: u32 = FUTURE | libc::MCL_ONFAULT as u32;
    match ext.and_then(|ext| ext.mlockall).unwrap_or(0) {
        flags @ (0 | FUTURE | ON_FAULT) => Ok(flags),
        other => wrong!("flags {other:#x} of mlockall are not known"),
    }
}

fn keys(ext: Option<&pb::ExtMm>) -> Checked<ProtectionKeys> {
    let allocated = ext.and_then(|ext| ext.protection_keys).unwrap_or(0);
    let execute_only = ext.and_then(|ext| ext.execute_only_key);
    let keys = ProtectionKeys {
        allocated: match u16::try_from(allocated) {
            Ok(keys) if keys & 1 == 0 => keys,
            _ => return wrong!("protection keys {allocated:#x} are none that can be allocated"),
        },
        execute_only: execute_only.map(vma::protection_key).transpose()?,
    };
    match keys.execute_only.filter(|&key| keys.has(key)) {
        Some(key) => wrong!("protection key {key} is the kernel's own and the program's"),
        None => Ok(keys),
    }
}

fn ldt(record: &pb::MmEntry) -> Checked<Vec<u8>> {
    let ldt = record
        .ext
        .as_ref()
        .and_then(|ext| ext.ldt.clone())
        .unwrap_or_default();
    if ldt.len() > MAX_LDT || !ldt.len().is_multiple_of(8) {
        return wrong!("an LDT of {} bytes", ldt.len());
    }
    Ok(ldt)
}

/// Returns whether `start..end` lies in user space and holds whole pages.
pub(super) fn is_range(start: u64, end: u64) -> bool {
    let page = crate::snapshot::PAGE_SIZE;
    start < end && end <= USER_END && start.is_multiple_of(page) && end.is_multiple_of(page)
}

/// Returns whether every byte of `start..end` lies in one of `vmas` for which `wanted` holds.
pub(super) fn is_covered(
    vmas: &[Vma],
    start: u64,
    end: u64,
    wanted: impl Fn(&Vma) -> bool,
) -> bool {
    let first = vmas.partition_point(|vma| vma.end <= start);
    let mut at = start;
    for vma in &vmas[first..] {
        if at >= end || vma.start > at || !wanted(vma) {
            break;
        }
        at = vma.end;
    }
    at >= end
}
