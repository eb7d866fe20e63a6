//! Between a thread's registers and their record, which is tagged by the architecture.

use arch::regs::Regs;
use proto::pb;
use proto::pb::core_entry::March;

use super::error::{Checked, Wrong, wrong};
use super::limits::address;
use super::xstate::{self, Layout};
use crate::snapshot::{Arch, Thread};

/// Entries of the GDT that `set_thread_area` sets on x86-64 (`GDT_ENTRY_TLS_MIN`..).
const TLS_ENTRIES: [u32; 3] = [12, 13, 14];
/// Bits of `struct user_desc` after the limit (`arch/x86/include/uapi/asm/ldt.h`).
const SEG_32BIT: u32 = 1;
const CONTENTS_L: u32 = 1 << 1;
const CONTENTS_H: u32 = 1 << 2;
const READ_EXEC_ONLY: u32 = 1 << 3;
const LIMIT_IN_PAGES: u32 = 1 << 4;
const SEG_NOT_PRESENT: u32 = 1 << 5;
const USABLE: u32 = 1 << 6;
/// Flags of an entry that is not in use.
const EMPTY: u32 = READ_EXEC_ONLY | SEG_NOT_PRESENT;

/// Registers in the form of their record.
pub(super) struct Record {
    /// Architecture.
    pub(super) mtype: March,
    /// Registers of x86.
    pub(super) info: Option<pb::ThreadInfoX86>,
    /// Extended state that `info` has no field for.
    pub(super) xstate: Vec<pb::ExtXstate>,
}

/// Returns the record of a thread's registers.
pub(super) fn to_record(thread: &Thread, layout: &Layout) -> Checked<Record> {
    match &thread.arch {
        Arch::None => Ok(Record {
            mtype: March::X8664,
            info: None,
            xstate: Vec::new(),
        }),
        Arch::X86_64 { regs, xstate, tls } => {
            let (fpregs, extra) = xstate::to_record(xstate, layout);
            let info = pb::ThreadInfoX86 {
                clear_tid_addr: thread.clear_child_tid,
                gpregs: regs_to_record(regs),
                fpregs,
                tls: tls_to_records(tls),
            };
            Ok(Record {
                mtype: March::X8664,
                info: Some(info),
                xstate: extra,
            })
        }
        Arch::Foreign(name) => wrong!("registers of {name} cannot be written on this machine"),
    }
}

/// What a record says of a thread's registers.
pub(super) struct Registers {
    /// Registers.
    pub(super) arch: Arch,
    /// `set_tid_address` address.
    pub(super) clear_child_tid: u64,
    /// Components of extended state that this machine does not have.
    pub(super) missing: Vec<u32>,
}

/// Returns the registers in `core`.
pub(super) fn from_record(core: &pb::CoreEntry, layout: &Layout) -> Checked<Registers> {
    let foreign = |name: &str| Registers {
        arch: Arch::Foreign(name.into()),
        clear_child_tid: 0,
        missing: Vec::new(),
    };
    match March::try_from(core.mtype) {
        Ok(March::X8664) => {}
        Ok(March::Unknown) | Err(_) => return wrong!("architecture {} is not known", core.mtype),
        Ok(other) => return Ok(foreign(other.as_str_name())),
    }
    let Some(info) = &core.thread_info else {
        return wrong!("its registers are missing");
    };
    if info.gpregs.mode == Some(pb::UserX86RegsMode::Compat as i32) {
        return Ok(foreign("i386"));
    }
    let extra = core.thread_core.as_ref().and_then(|core| core.ext.as_ref());
    let xstate = xstate::from_record(&info.fpregs, extra.map_or(&[], |ext| &ext.xstate), layout)
        .map_err(|wrong| wrong.of("extended state"))?;
    let arch = Arch::X86_64 {
        regs: Box::new(regs_from_record(&info.gpregs)),
        xstate: xstate.area,
        tls: tls_from_records(&info.tls)?,
    };
    let clear_child_tid =
        address(info.clear_tid_addr).map_err(|wrong| wrong.of("clear_tid_addr"))?;
    Ok(Registers {
        arch,
        clear_child_tid,
        missing: xstate.missing,
    })
}

fn regs_to_record(regs: &Regs) -> pb::UserX86RegsEntry {
    pb::UserX86RegsEntry {
        r15: regs.r15,
        r14: regs.r14,
        r13: regs.r13,
        r12: regs.r12,
        bp: regs.rbp,
        bx: regs.rbx,
        r11: regs.r11,
        r10: regs.r10,
        r9: regs.r9,
        r8: regs.r8,
        ax: regs.rax,
        cx: regs.rcx,
        dx: regs.rdx,
        si: regs.rsi,
        di: regs.rdi,
        orig_ax: regs.orig_rax,
        ip: regs.rip,
        cs: regs.cs,
        flags: regs.eflags,
        sp: regs.rsp,
        ss: regs.ss,
        fs_base: regs.fs_base,
        gs_base: regs.gs_base,
        ds: regs.ds,
        es: regs.es,
        fs: regs.fs,
        gs: regs.gs,
        mode: Some(pb::UserX86RegsMode::Native as i32),
    }
}

fn regs_from_record(record: &pb::UserX86RegsEntry) -> Regs {
    Regs {
        r15: record.r15,
        r14: record.r14,
        r13: record.r13,
        r12: record.r12,
        rbp: record.bp,
        rbx: record.bx,
        r11: record.r11,
        r10: record.r10,
        r9: record.r9,
        r8: record.r8,
        rax: record.ax,
        rcx: record.cx,
        rdx: record.dx,
        rsi: record.si,
        rdi: record.di,
        orig_rax: record.orig_ax,
        rip: record.ip,
        cs: record.cs,
        eflags: record.flags,
        rsp: record.sp,
        ss: record.ss,
        fs_base: record.fs_base,
        gs_base: record.gs_base,
        ds: record.ds,
        es: record.es,
        fs: record.fs,
        gs: record.gs,
    }
}

/// The peer writes all three entries, used or not.
fn tls_to_records(tls: &[[u32; 4]]) -> Vec<pb::UserDescT> {
    let set = |number: u32| tls.iter().copied().find(|entry| entry[0] == number);
    let entries = TLS_ENTRIES.map(|number| set(number).unwrap_or([number, 0, 0, EMPTY]));
    let record = |[entry_number, base_addr, limit, flags]: [u32; 4]| pb::UserDescT {
        entry_number,
        base_addr,
        limit,
        seg_32bit: flags & SEG_32BIT != 0,
        contents_h: flags & CONTENTS_H != 0,
        contents_l: flags & CONTENTS_L != 0,
        read_exec_only: flags & READ_EXEC_ONLY != 0,
        limit_in_pages: flags & LIMIT_IN_PAGES != 0,
        seg_not_present: flags & SEG_NOT_PRESENT != 0,
        usable: flags & USABLE != 0,
    };
    entries.into_iter().map(record).collect()
}

/// Returns the entries in use.
fn tls_from_records(records: &[pb::UserDescT]) -> Checked<Vec<[u32; 4]>> {
    let mut entries = Vec::new();
    for record in records {
        if !TLS_ENTRIES.contains(&record.entry_number) {
            return Err(Wrong::new(format!(
                "TLS entry {} does not exist",
                record.entry_number
            )));
        }
        let bits = [
            (record.seg_32bit, SEG_32BIT),
            (record.contents_l, CONTENTS_L),
            (record.contents_h, CONTENTS_H),
            (record.read_exec_only, READ_EXEC_ONLY),
            (record.limit_in_pages, LIMIT_IN_PAGES),
            (record.seg_not_present, SEG_NOT_PRESENT),
            (record.usable, USABLE),
        ];
        let set = bits.iter().filter(|(on, _)| *on);
        let flags = set.fold(0, |flags, (_, bit)| flags | bit);
        let entry = [record.entry_number, record.base_addr, record.limit, flags];
        if entry[1..] != [0, 0, EMPTY] {
            entries.push(entry);
        }
    }
    match entries.len() {
        0..=3 => Ok(entries),
        len => wrong!("{len} TLS entries"),
    }
}
