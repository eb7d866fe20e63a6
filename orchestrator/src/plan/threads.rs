//! Threads: made by the root's program, each finishing itself by its own.

use arch::abi::program::special;

use super::birth::plan_clone;
use super::program::Object;
use super::registers::state_components;
use super::task::{Making, plan_barrier};
use crate::objects::{attributes, creds, sched, signals};
use crate::snapshot::{Arch, Thread};

/// What threads of one process share (`pthread_create` asks for the same).
const CLONE_THREAD_FLAGS: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM) as u64;
/// `ARCH_REQ_XCOMP_PERM` (`arch/x86/include/uapi/asm/prctl.h`, Linux 5.16).
const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
/// State component of AMX tile data, the only one that has to be asked for (`XFEATURE_XTILE_DATA`).
const TILE_DATA: u64 = 18;

/// Adds the threads beside the leader. They inherit what the leader is now, so all that is the leader's own comes later.
pub fn plan_clones(m: &mut Making<'_>) {
    plan_tile_permission(m);
    for (index, thread) in m.own.task.threads.iter().enumerate().skip(1) {
        m.b.object(Object::Thread(thread.tid, "thread"));
        let context = m.family.members[m.own.member].contexts.0 + index as u32;
        plan_clone(&mut m.b, CLONE_THREAD_FLAGS, 0, thread.tid, context);
    }
}

fn plan_tile_permission(m: &mut Making<'_>) {
    let has_asked =
        |thread: &Thread| thread.xcomp_permission >> TILE_DATA & 1 != 0 || has_tiles(thread);
    if m.own.task.threads.iter().any(has_asked) && m.host.xcr0 >> TILE_DATA & 1 != 0 {
        m.b.object(Object::Task("permission for AMX tiles"));
        let args = [ARCH_REQ_XCOMP_PERM, TILE_DATA];
        m.b.call_returns(libc::SYS_arch_prctl, &args, 0);
    }
}

fn has_tiles(thread: &Thread) -> bool {
    match &thread.arch {
        Arch::X86_64 { xstate, .. } => state_components(xstate) >> TILE_DATA & 1 != 0,
        _ => false,
    }
}

/// Adds what belongs to this thread alone and needs the privileges that it started with.
pub fn plan_own(m: &mut Making<'_>, thread: &Thread) {
    let tid = thread.tid;
    m.b.object(Object::Thread(tid, "name"));
    let comm = m.b.put_cstr(&thread.comm);
    let set_name = libc::PR_SET_NAME as u64;
    m.b.call_returns(libc::SYS_prctl, &[set_name, comm], 0);
    plan_machine_state(m, thread);
    m.b.object(Object::Thread(tid, "clear_child_tid"));
    let args = [thread.clear_child_tid];
    m.b.call_returns(libc::SYS_set_tid_address, &args, i64::from(tid));
    if let Some(list) = thread.robust_list {
        m.b.object(Object::Thread(tid, "robust list"));
        let args = [list.head, u64::from(list.len)];
        m.b.call_returns(libc::SYS_set_robust_list, &args, 0);
    }
    if let Some(rseq) = thread.rseq {
        m.b.object(Object::Thread(tid, "rseq"));
        let args = [
            rseq.addr,
            u64::from(rseq.size),
            0,
            u64::from(rseq.signature),
        ];
        m.b.call_returns(libc::SYS_rseq, &args, 0);
    }
    signals::plan::plan_altstack(&mut m.b, thread);
    sched::plan::plan_sched(&mut m.b, thread, m.host, m.report);
    attributes::plan::plan_thread(&mut m.b, thread, m.host, m.report);
}

/// Adds the TLS slots of the GDT, and room for AMX tiles in the kernel's copy of the thread's registers.
fn plan_machine_state(m: &mut Making<'_>, thread: &Thread) {
    let Arch::X86_64 { tls, .. } = &thread.arch else {
        return;
    };
    for slot in tls {
        m.b.object(Object::Thread(thread.tid, "TLS slot of the GDT"));
        let bytes: Vec<u8> = slot.iter().flat_map(|word| word.to_le_bytes()).collect();
        let at = m.b.put(&bytes);
        m.b.call_returns(libc::SYS_set_thread_area, &[at], 0);
    }
    if has_tiles(thread) {
        m.b.object(Object::Thread(thread.tid, "AMX tiles"));
        m.b.special(special::AMX, &[]);
    }
}

/// Adds a meeting of all threads at this word.
pub fn plan_meeting(m: &mut Making<'_>, word: u64) {
    m.b.object(Object::Task("meeting of all threads"));
    let count = m.own.task.threads.len() as u64;
    plan_barrier(m, word, count);
}

/// Adds the signals that wait for this thread.
pub fn plan_pending(m: &mut Making<'_>, thread: &Thread) {
    signals::plan::plan_pending_thread(&mut m.b, m.own.task.pid, thread);
}

/// Adds the thread's credentials: the last that it may do with others.
pub fn plan_privileges(m: &mut Making<'_>, thread: &Thread) {
    creds::plan::plan_creds(&mut m.b, thread, m.host, m.report);
}

/// Adds what must not be in force while the blob runs, or is reset by a change of credentials.
pub fn plan_last(m: &mut Making<'_>, thread: &Thread) {
    attributes::plan::plan_thread_last(&mut m.b, thread);
}
