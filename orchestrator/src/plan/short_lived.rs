//! Those who end while the tree is restored: helpers, and tasks that had ended when it was dumped.

use super::birth::{plan_children_of, plan_tie_to};
use super::family::Kind;
use super::program::{Builder, Object};
use super::task::{Making, plan_meeting};
use crate::snapshot::Task;
use arch::abi::program::{ArgKind, special};
use std::collections::BTreeSet;

/// `RLIMIT_CORE`.
const RLIMIT_CORE: u64 = 4;
/// Bits of an exit status: the signal, and that memory was dumped (`wait(2)`).
const SIGNAL: u32 = 0x7f;
const CORE_DUMPED: u32 = 0x80;
/// `P_PID` of `waitid`.
const P_PID: u64 = 1;

/// Adds the program of a task that has ended: it ends again, in the same way, and its parent finds it.
pub fn plan_dead(m: &mut Making<'_>, member: usize, task: &Task) {
    plan_place(m, member);
    plan_children_of(m, member);
    m.b.object(Object::Task("name"));
    let comm = m.b.put_cstr(&task.comm);
    m.b.call_returns(libc::SYS_prctl, &[libc::PR_SET_NAME as u64, comm], 0);
    plan_gatherings(m, member);
    m.b.object(Object::Task("end"));
    if task.exit_code & SIGNAL != 0 && task.exit_code & CORE_DUMPED != 0 {
        m.report.lose("that its memory was dumped when it ended");
    }
    plan_end_as(&mut m.b, task.pid, task.exit_code);
}

/// Adds the end of the calling process as this exit status tells it, and so of its program.
pub fn plan_end_as(b: &mut Builder, pid: i32, status: u32) {
    let signal = status & SIGNAL;
    if signal != 0 {
        plan_kill(b, u64::from(signal));
    }
    b.special(special::EXIT, &[u64::from(status >> 8 & 0xff)]);
    b.finish_without_park(pid);
}

/// Adds its death by a signal that nobody handles.
fn plan_kill(b: &mut Builder, signal: u64) {
    let none = b.put_words(&[0, 0]);
    b.call_returns(libc::SYS_prlimit64, &[0, RLIMIT_CORE, none, 0], 0);
    let mask = b.put_words(&[!(1 << (signal - 1))]);
    let set = libc::SIG_SETMASK as u64;
    b.call_returns(libc::SYS_rt_sigprocmask, &[set, mask, 0, 8], 0);
    let this = b.next_operation();
    b.call(libc::SYS_getpid, &[]);
    let op = b.call(libc::SYS_kill, &[this, signal]);
    *op = op.arg(0, ArgKind::Result);
}

/// Adds the program of a helper: it founds its group, and ends when all others are in it.
pub fn plan_helper(m: &mut Making<'_>, member: usize) {
    m.b.fds = Default::default();
    plan_place(m, member);
    super::terminals::plan_helper_in_foreground(m, member);
    plan_children_of(m, member);
    plan_gatherings(m, member);
    let pid = m.family.members[member].pid;
    m.b.object(Object::Task("end of a helper"));
    plan_end_as(&mut m.b, pid, 0);
}

/// Adds its session and the group that it leads.
fn plan_place(m: &mut Making<'_>, member: usize) {
    let member = &m.family.members[member];
    let parent = member
        .parent
        .map_or(0, |parent| m.family.members[parent].pid);
    plan_tie_to(&mut m.b, parent);
    m.b.object(Object::Task("session and process group"));
    if member.sid == member.pid {
        m.b.call_returns(libc::SYS_setsid, &[], i64::from(member.pid));
    } else if member.pgid == member.pid {
        m.b.call_returns(libc::SYS_setpgid, &[0, 0], 0);
    }
}

fn plan_gatherings(m: &mut Making<'_>, member: usize) {
    let member = &m.family.members[member];
    plan_meeting(m, "all are born", m.meetings.born);
    if member.pgid != member.pid && !m.family.is_outer(member) {
        m.b.object(Object::Task("process group"));
        m.b.call_returns(libc::SYS_setpgid, &[0, member.pgid as u64], 0);
    }
    plan_meeting(m, "all are in their groups", m.meetings.joined);
}

/// Adds the wait of a parent for its short-lived children. Helpers are collected. That the dead have ended was told to the
/// parent before the dump: the signal that tells it again is thrown away, as setting a signal to be ignored does.
pub fn plan_farewell(m: &mut Making<'_>) {
    let members = m.family.members.iter();
    let own = members.filter(|member| member.parent == Some(m.own.member));
    let mut news = BTreeSet::new();
    for child in own {
        let pid = child.pid as u64;
        match child.kind {
            Kind::Living(_) => continue,
            Kind::Zombie(_) => {
                m.b.object(Object::Named(format!("end of child {pid}")));
                let how = (libc::WEXITED | libc::WNOWAIT | libc::__WALL) as u64;
                m.b.call_returns(libc::SYS_waitid, &[P_PID, pid, 0, how, 0], 0);
            }
            Kind::Helper => {
                m.b.object(Object::Named(format!("end of helper {pid}")));
                m.b.call_returns(libc::SYS_wait4, &[pid, 0, 0, 0], pid as i64);
            }
        }
        news.insert(child.exit_signal);
    }
    for signal in news.into_iter().filter(|&signal| signal != 0) {
        m.b.object(Object::Task("signals of children that have ended"));
        for handler in [libc::SIG_IGN, libc::SIG_DFL] {
            // handler, flags, restorer, mask.
            let action = m.b.put_words(&[handler as u64, 0, 0, 0]);
            let args = [signal, action, 0, 8];
            m.b.call_returns(libc::SYS_rt_sigaction, &args, 0);
        }
    }
}
