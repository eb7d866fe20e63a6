//! What a process is beside memory and descriptors: its place in sessions, what its threads share, its limits and timers.

use super::joint::HANDLERS;
use super::program::Object;
use super::task::Making;
use crate::objects::{attributes, limits, signals, timerfd, timers};
use crate::snapshot::FileKind;

/// Adds what makes it the leader it was. A root that led neither session nor group joins the caller's.
pub fn plan_session(m: &mut Making<'_>) {
    let (pid, pgid, sid) = (m.own.task.pid, m.own.task.pgid, m.own.task.sid);
    let (host, is_shell_job) = (m.host, m.settings.shell_job);
    m.b.object(Object::Task("session and process group"));
    if sid == pid {
        return m.b.call_returns(libc::SYS_setsid, &[], i64::from(pid));
    }
    if !m.is_root() {
        if pgid == pid {
            m.b.call_returns(libc::SYS_setpgid, &[0, 0], 0);
        }
        return;
    }
    if m.family.founded().is_some() {
        // It is in that session and its group from its birth.
        if pgid == pid {
            m.b.call_returns(libc::SYS_setpgid, &[0, 0], 0);
        }
        return;
    }
    if sid != host.sid && !is_shell_job {
        let reason = format!(
            "it is {sid}, which the task does not lead, and the caller's is {}",
            host.sid
        );
        let remedy = "restore with --shell-job, so that it joins the caller's session";
        m.report.refuse("session", reason, remedy);
    }
    if pgid == pid {
        return m.b.call_returns(libc::SYS_setpgid, &[0, 0], 0);
    }
    if pgid != host.pgid && !is_shell_job {
        let reason = format!(
            "it is {pgid}, which the task does not lead, and the caller's is {}",
            host.pgid
        );
        let remedy = "restore with --shell-job, so that it joins the caller's group";
        m.report.refuse("process group", reason, remedy);
    }
}

/// Adds its joining of a group that another member of the family leads.
pub fn plan_group(m: &mut Making<'_>) {
    let member = &m.family.members[m.own.member];
    if member.pgid != member.pid && !m.family.is_outer(member) {
        m.b.object(Object::Task("process group"));
        m.b.call_returns(libc::SYS_setpgid, &[0, member.pgid as u64], 0);
    }
}

/// Adds what gives the restore room to work: no foreign descriptors, and soft limits up to the hard ones.
pub fn plan_room(m: &mut Making<'_>) {
    m.b.object(Object::Task("room to work in"));
    limits::plan::plan_room(&mut m.b, &m.own.task.rlimits, &m.host.rlimits);
    let mut services: Vec<i32> = m.own.services.values().copied().collect();
    services.sort_unstable();
    let mut from = 0;
    for fd in services {
        if fd > from {
            let args = [from as u64, fd as u64 - 1, 0];
            m.b.call_returns(libc::SYS_close_range, &args, 0);
        }
        m.b.fds.take(fd);
        from = fd + 1;
    }
    let args = [from as u64, u64::from(u32::MAX), 0];
    m.b.call_returns(libc::SYS_close_range, &args, 0);
}

/// `PR_THP_DISABLE_EXCEPT_ADVISED` (Linux 6.18, `linux/prctl.h`).
const THP_EXCEPT_ADVISED: u64 = 2;

/// Adds what decides how memory is made.
pub fn plan_early(m: &mut Making<'_>) {
    let is_parents = m.births.contains_key(&m.own.member);
    if !m.own.mm.lazy.is_empty() {
        // One would be made whole at the first touch of a part, where the rest is to come later.
        m.b.object(Object::Task(
            "no transparent huge pages until all is registered",
        ));
        let disable = libc::PR_SET_THP_DISABLE as u64;
        m.b.call_returns(libc::SYS_prctl, &[disable, 1, 0], 0);
    } else if m.own.mm.thp_disabled || is_parents {
        plan_huge_pages(m);
    }
}

/// Adds whether it has transparent huge pages.
pub fn plan_huge_pages(m: &mut Making<'_>) {
    m.b.object(Object::Task("no transparent huge pages"));
    let disable = libc::PR_SET_THP_DISABLE as u64;
    let flags = u64::from(m.own.mm.thp_except_advised) * THP_EXCEPT_ADVISED;
    let is_disabled = u64::from(m.own.mm.thp_disabled);
    m.b.call_returns(
        libc::SYS_prctl,
        &[disable, is_disabled, flags * is_disabled],
        0,
    );
}

/// Adds what all threads share or inherit.
pub fn plan_attributes(m: &mut Making<'_>) {
    let is_callers = m.family.is_callers(m.own.task.sid);
    attributes::plan::plan_process(&mut m.b, (m.own.task, is_callers), m.host, m.report);
    if !m.joint.follows(m.own.member, HANDLERS) {
        signals::plan::plan_actions(&mut m.b, &m.own.task.sigactions);
    }
}

/// Adds the signals that wait for the whole process, and its timers, not yet running.
pub fn plan_signals_and_timers(m: &mut Making<'_>) {
    signals::plan::plan_pending_process(&mut m.b, m.own.task.pid, &m.own.task.pending);
    let has_ids = m.host.timer_restore_ids;
    timers::plan::plan_create(&mut m.b, &m.own.task.posix_timers, has_ids, m.report);
}

/// Adds the resource limits.
pub fn plan_limits(m: &mut Making<'_>) {
    let can_raise = m.host.has_sys_resource();
    limits::plan::plan_limits(
        &mut m.b,
        &m.own.task.rlimits,
        &m.host.rlimits,
        can_raise,
        m.report,
    );
}

/// Adds what every change of credentials has reset.
pub fn plan_dumpable(m: &mut Making<'_>) {
    let Some(dumpable) = m.own.mm.dumpable else {
        return;
    };
    m.b.object(Object::Task("dumpable"));
    // 2 is what fs.suid_dumpable makes of it, and cannot be asked for; 0 is as strict for everybody but root.
    let value = u64::from(dumpable == 1);
    if dumpable > 1 {
        m.report.lose("dumpable was 2 (root only), and becomes 0");
    }
    let set = libc::PR_SET_DUMPABLE as u64;
    m.b.call_returns(libc::SYS_prctl, &[set, value], 0);
}

/// Adds the start of all timers: from here on time runs for the task.
pub fn plan_clocks_start(m: &mut Making<'_>) {
    for file in &m.snapshot.files {
        let is_own = m.sharing.holders.get(&file.id) == Some(&m.own.member);
        if let (FileKind::TimerFd(timer), Some(&fd), true) =
            (&file.kind, m.own.placed.get(&file.id), is_own)
        {
            let wall = m.snapshot.origin.wall_clock_ns;
            timerfd::plan::plan_start(&mut m.b, fd, timer, wall);
        }
    }
    timers::plan::plan_start(&mut m.b, &m.own.task.posix_timers);
    timers::plan::plan_interval_timers(&mut m.b, &m.own.task.interval_timers);
}
