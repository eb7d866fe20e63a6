//! Those who end while the tree is restored: helpers, and tasks that had ended when it was dumped.

use super::birth::{plan_children_of, plan_tie_to};
use super::family::Kind;
use super::program::Object;
use super::task::{Making, plan_meeting};
use crate::snapshot::Task;
use arch::abi::program::special;

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
    let signal = task.exit_code & SIGNAL;
    if signal != 0 {
        if task.exit_code & CORE_DUMPED != 0 {
            m.report.lose("that its memory was dumped when it ended");
        }
        plan_kill(m, task.pid, u64::from(signal));
    }
    end(m, task.pid, u64::from(task.exit_code >> 8 & 0xff));
}

/// Adds its death by a signal that nobody handles.
fn plan_kill(m: &mut Making<'_>, pid: i32, signal: u64) {
    let none = m.b.put_words(&[0, 0]);
    m.b.call_returns(libc::SYS_prlimit64, &[0, RLIMIT_CORE, none, 0], 0);
    let mask = m.b.put_words(&[!(1 << (signal - 1))]);
    let set = libc::SIG_SETMASK as u64;
    m.b.call_returns(libc::SYS_rt_sigprocmask, &[set, mask, 0, 8], 0);
    m.b.call(libc::SYS_kill, &[pid as u64, signal]);
}

/// Adds the program of a helper: it founds its group, and ends when all others are in it.
pub fn plan_helper(m: &mut Making<'_>, member: usize) {
    m.b.fds = Default::default();
    plan_place(m, member);
    plan_children_of(m, member);
    plan_gatherings(m, member);
    let pid = m.family.members[member].pid;
    m.b.object(Object::Task("end of a helper"));
    end(m, pid, 0);
}

fn end(m: &mut Making<'_>, pid: i32, status: u64) {
    m.b.special(special::EXIT, &[status]);
    m.b.finish_without_park(pid);
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
    let mut has_news = false;
    for child in own {
        let pid = child.pid as u64;
        match child.kind {
            Kind::Living(_) => continue,
            Kind::Zombie(_) => {
                m.b.object(Object::Named(format!("end of child {pid}")));
                let how = (libc::WEXITED | libc::WNOWAIT) as u64;
                m.b.call_returns(libc::SYS_waitid, &[P_PID, pid, 0, how, 0], 0);
            }
            Kind::Helper => {
                m.b.object(Object::Named(format!("end of helper {pid}")));
                m.b.call_returns(libc::SYS_wait4, &[pid, 0, 0, 0], pid as i64);
            }
        }
        has_news = true;
    }
    if has_news {
        m.b.object(Object::Task("signals of children that have ended"));
        for handler in [libc::SIG_IGN, libc::SIG_DFL] {
            // handler, flags, restorer, mask.
            let action = m.b.put_words(&[handler as u64, 0, 0, 0]);
            let args = [libc::SIGCHLD as u64, action, 0, 8];
            m.b.call_returns(libc::SYS_rt_sigaction, &args, 0);
        }
    }
}
