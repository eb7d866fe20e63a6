//! The process: what `/proc` tells from outside, and what it says of itself.

use super::files::{FileTable, terminated};
use super::thread::ByNumber;
use super::{Error, relations};
use crate::error::Refusal;
use crate::infect::questions::{Answers, Arg, Asked, Questions};
use crate::objects::attributes::collect::ProcessAttributes;
use crate::objects::seccomp::collect::Filters;
use crate::objects::signals::collect::Actions;
use crate::objects::timers::collect::Timers;
use crate::procfs;
use crate::snapshot::*;
use crate::support::{Loss, Lost};
use crate::sys::ptrace::Queue;
use crate::sys::{self, Pid, Tid};
use crate::tracee::{Frozen, Stopped};

/// Namespaces that a target has to share with us, by their links, and their ids in the images. The time namespace of the tree
/// is kept by its clocks.
const NAMESPACES: [&str; 8] = ["pid", "net", "ipc", "uts", "mnt", "user", "cgroup", "time"];

/// `PR_THP_DISABLE_EXCEPT_ADVISED` (Linux 6.18).
const THP_EXCEPT_ADVISED: u32 = 2;

/// Namespaces that a thread can have for itself; with one of the others it has a working directory of its own too
/// (`check_unshare_flags`, `kernel/fork.c`). They are looked at before the target stands still: it costs for each thread.
const OF_THREADS: [&str; 4] = ["net", "ipc", "uts", OF_CHILDREN];

/// The namespace of time that children will be in.
const OF_CHILDREN: &str = "time_for_children";

/// What the process is asked.
#[derive(Debug)]
pub struct ProcessQuestions {
    attributes: ProcessAttributes,
    actions: Actions,
    timers: Timers,
    brk: Asked,
}

impl ProcessQuestions {
    /// Asks.
    pub fn ask(questions: &mut Questions, timers: &[procfs::timers::TimerLine]) -> Self {
        Self {
            attributes: ProcessAttributes::ask(questions),
            actions: Actions::ask(questions),
            timers: Timers::ask(questions, timers),
            brk: questions.ask(libc::SYS_brk as u32, [Arg::Value(0)]),
        }
    }

    /// Adds what the process said of itself, and returns its monotonic and boot-time clocks.
    pub fn read(
        &self,
        answers: &Answers,
        task: &mut Task,
        losses: &mut Vec<Loss>,
    ) -> [Option<i64>; 2] {
        let facts = self.attributes.read(answers);
        task.sigactions = self.actions.read(answers);
        task.interval_timers = self.timers.read_interval(answers);
        task.posix_timers = self.timers.read_posix(answers);
        task.posix_timers.sort_by_key(|timer| timer.id);
        task.child_subreaper = facts.child_subreaper;
        task.membarrier = facts.membarrier.unwrap_or(0);
        task.mdwe = facts.mdwe;
        task.memory_merge = facts.memory_merge;
        for thread in &mut task.threads {
            thread.xcomp_permission = facts.xcomp_permission;
        }
        if let Some(mm) = &mut task.mm {
            mm.dumpable = facts.dumpable;
            mm.thp_disabled = facts.thp_disabled != 0;
            mm.thp_except_advised = facts.thp_disabled & THP_EXCEPT_ADVISED != 0;
            mm.ldt = facts.ldt;
            mm.brk[1] = answers.result(self.brk).unwrap_or(mm.brk[0]);
        }
        if facts.has_core_cookie {
            losses.push(Loss::of(Lost::CoreCookie));
        }
        if facts.has_keyring {
            losses.push(Loss::with(Lost::Keyring, "of the process"));
        }
        facts.clocks_ns
    }
}

/// Refuses what can be told of a process before it is touched.
///
/// # Errors
/// `/proc` cannot be read.
pub fn refuse_early(pid: Pid, shell_job: bool) -> Result<Vec<Refusal>, Error> {
    let mut refusals = Vec::new();
    let mut refuse = |object: &str, reason: String, remedy: &str| {
        refusals.push(Refusal {
            task: pid.0,
            object: object.into(),
            reason,
            remedy: remedy.into(),
        });
    };
    let stat = procfs::stat::read(pid)?;
    let group = procfs::status::read(pid)?.tgid;
    if group != pid.0 {
        let reason = format!("it is a thread of process {group}");
        refuse("thread", reason, &format!("dump process {group}"));
        return Ok(refusals);
    }
    if is_above_us(pid)? {
        refuse(
            "process",
            "this command is in its tree, and would freeze itself".into(),
            "start the command from elsewhere, say with setsid from another terminal",
        );
        return Ok(refusals);
    }
    if !may_open_map_files()? {
        refuse(
            "process",
            "this command may not map its memory (/proc/PID/map_files)".into(),
            "run it as root, or with CAP_CHECKPOINT_RESTORE and CAP_SYS_PTRACE",
        );
        return Ok(refusals);
    }
    const PF_KTHREAD: u32 = 0x0020_0000;
    if stat.flags & PF_KTHREAD != 0 {
        refuse(
            "kernel thread",
            "it has no memory of its own to dump".into(),
            "name a process of a program",
        );
        return Ok(refusals);
    }
    if matches!(stat.state, b'Z' | b'X') {
        let reason = match stat.num_threads > 1 {
            true => "its first thread has ended, while others live on, which is not kept yet",
            false => "it has ended",
        };
        refuse("zombie", reason.into(), "");
        return Ok(refusals);
    }
    refusals.extend(refuse_foreign(pid, pid)?);
    let leader = Pid(stat.session);
    if leader != pid && !shell_job && relations::exists(leader.0) {
        refusals.push(Refusal {
            task: pid.0,
            object: format!("session {}", stat.session),
            reason: "its leader is outside of what is dumped".into(),
            remedy: "start it with setsid, or use --shell-job".into(),
        });
    }
    Ok(refusals)
}

/// Returns whether we may open what others map: `proc_map_files_get_link` (`fs/proc/base.c`) asks for one of these.
fn may_open_map_files() -> Result<bool, Error> {
    const CAP_SYS_ADMIN: u32 = 21;
    const CAP_CHECKPOINT_RESTORE: u32 = 40;
    let own = procfs::status::read(Pid::this())?.cap_effective;
    Ok(own & (1 << CAP_SYS_ADMIN | 1 << CAP_CHECKPOINT_RESTORE) != 0)
}

/// Returns whether a process is this one, or one that it descends from.
fn is_above_us(pid: Pid) -> Result<bool, Error> {
    let mut at = Pid::this();
    while at != pid {
        match procfs::stat::read(at)?.ppid {
            0 => return Ok(false),
            parent => at = Pid(parent),
        }
    }
    Ok(true)
}

/// Refuses what of a process lies in namespaces that are not ours. One of IPC, of the network or of time may be that of the
/// whole tree.
///
/// # Errors
/// `/proc` cannot be read.
pub fn refuse_foreign(pid: Pid, root: Pid) -> Result<Vec<Refusal>, Error> {
    let mut refusals = Vec::new();
    let mut refuse = |object: &str, reason: &str| {
        refusals.push(Refusal {
            task: pid.0,
            object: object.into(),
            reason: reason.into(),
            remedy: String::new(),
        });
    };
    for name in NAMESPACES {
        let (theirs, ours) = (namespace(pid, name), namespace(Pid::this(), name));
        if matches!(name, "ipc" | "net" | "time") {
            if theirs != namespace(root, name) {
                refuse(
                    &format!("{name} namespace"),
                    "it is not that of the root of the tree, which is not kept yet",
                );
            }
        } else if theirs != ours {
            refuse(
                &format!("{name} namespace"),
                "it is not the one of this command, which is not kept yet",
            );
        }
    }
    if namespace(pid, OF_CHILDREN) != namespace(pid, "time") {
        refuse(
            &format!("{OF_CHILDREN} namespace"),
            "its clocks are not those of the process, which is not kept yet",
        );
    }
    for tid in procfs::tasks::read(pid)? {
        for name in OF_THREADS.into_iter().filter(|_| tid != pid.leader()) {
            let theirs = namespace(Pid(tid.0), name);
            if theirs.is_some() && theirs != namespace(pid, name) {
                refuse(
                    &format!("{name} namespace of thread {tid}"),
                    "it is not that of the process, which is not kept yet",
                );
            }
        }
    }
    Ok(refusals)
}

fn namespace(pid: Pid, name: &str) -> Option<Vec<u8>> {
    procfs::fd::read_link(pid, &format!("ns/{name}")).ok()
}

/// Collects what can be told of a process with these ids from outside, without memory areas and descriptors.
///
/// # Errors
/// `/proc` cannot be read, or a directory that it stands in is gone.
pub fn collect(
    frozen: &Frozen,
    ids: TaskIds,
    files: &mut FileTable,
    filters: &mut Filters,
    refusals: &mut Vec<Refusal>,
) -> Result<Task, Error> {
    let pid = frozen.pid();
    let stat = procfs::stat::read(pid)?;
    let leader = &frozen.threads()[0];
    let (mut threads, umask) = threads(frozen, filters, refusals)?;
    for thread in &mut threads {
        if let Some(own) = &mut thread.fs {
            // The folder of a thread is there under its own number too.
            *own = fs(Pid(thread.tid), own.umask, files, refusals)?;
        }
    }
    Ok(Task {
        pid: pid.0,
        ppid: stat.ppid,
        pgid: stat.pgrp,
        sid: stat.session,
        terminal: Some(stat.tty_nr as u32),
        state: if leader.group_stop.is_some() {
            TaskState::Stopped
        } else {
            TaskState::Alive
        },
        stop_signal: leader.group_stop.map(|signal| signal as u32),
        personality: procfs::attributes::read_personality(pid)?,
        flags: stat.flags,
        comm: procfs::attributes::read_comm(pid)?,
        ids,
        exit_signal: exit_signal(&stat),
        mm: Some(mm(pid, &stat, files, refusals)?),
        fs: Some(fs(pid, umask.unwrap_or(0o22), files, refusals)?),
        pending: super::thread::pending(leader.tid, Queue::Process)?,
        rlimits: procfs::limits::read(pid)?
            .iter()
            .map(|limit| Limit {
                soft: limit.soft,
                hard: limit.hard,
            })
            .collect(),
        loginuid: procfs::attributes::read_loginuid(pid)
            .ok()
            .filter(|uid| *uid != u32::MAX),
        oom_score_adj: procfs::attributes::read_oom_score_adj(pid).ok(),
        coredump_filter: procfs::attributes::read_coredump_filter(pid).ok(),
        autogroup_nice: procfs::attributes::read_autogroup_nice(pid).ok().flatten(),
        threads,
        ..Task::default()
    })
}

/// From so many threads on it is worth it that another one of ours asks about half of each.
const WORTH_A_THREAD: usize = 64;

/// Collects the threads of a process, and its umask.
fn threads(
    frozen: &Frozen,
    filters: &mut Filters,
    refusals: &mut Vec<Refusal>,
) -> Result<(Vec<Thread>, Option<u32>), Error> {
    let pid = frozen.pid();
    let all = frozen.threads();
    let mut umask = None;
    let mut threads = Vec::with_capacity(all.len());
    let mut collect = |stopped: &Stopped, by_number: ByNumber| -> Result<(), Error> {
        let collected = super::thread::collect(pid, stopped, by_number, filters, refusals);
        let (thread, its_umask) = collected?;
        threads.push(thread);
        umask = umask.or(its_umask);
        Ok(())
    };
    if all.len() < WORTH_A_THREAD {
        for stopped in all {
            collect(stopped, ByNumber::ask(pid, stopped.tid)?)?;
        }
    } else {
        let tids: Vec<Tid> = all.iter().map(|stopped| stopped.tid).collect();
        std::thread::scope(|scope| {
            let (send, receive) = std::sync::mpsc::channel();
            scope.spawn(move || {
                // Nobody takes them any more where something else has failed.
                let mut tids = tids.into_iter();
                let _ = tids.try_for_each(|tid| send.send(ByNumber::ask(pid, tid)));
            });
            let mut told = receive.iter();
            all.iter().try_for_each(|stopped| {
                let by_number = told.next().expect("all threads are asked about");
                collect(stopped, by_number?)
            })
        })?;
    }
    Ok((threads, umask))
}

/// Returns what is kept of a process that has ended.
pub fn of_dead(stat: &procfs::stat::Stat) -> Task {
    Task {
        pid: stat.pid,
        ppid: stat.ppid,
        pgid: stat.pgrp,
        sid: stat.session,
        state: TaskState::Zombie,
        exit_code: stat.exit_code as u32,
        exit_signal: exit_signal(stat),
        flags: stat.flags,
        comm: stat.comm.clone(),
        ..Task::default()
    }
}

/// Returns the signal that a process's end sends, where it is not the usual one.
fn exit_signal(stat: &procfs::stat::Stat) -> Option<u32> {
    (stat.exit_signal != libc::SIGCHLD).then_some(stat.exit_signal.max(0) as u32)
}

/// Ids of the namespaces within the image set; the target is in ours.
pub fn namespace_ids() -> TaskIds {
    TaskIds {
        pid_ns: 1,
        net_ns: 2,
        ipc_ns: 3,
        uts_ns: 4,
        time_ns: 5,
        mnt_ns: 6,
        user_ns: 7,
        cgroup_ns: 8,
        ..TaskIds::default()
    }
}

/// Ids of the caller of the tree.
pub fn root_ids() -> TaskIds {
    TaskIds {
        vm: 1,
        files: 1,
        fs: 1,
        sighand: 1,
        ..namespace_ids()
    }
}

fn mm(
    pid: Pid,
    stat: &procfs::stat::Stat,
    files: &mut FileTable,
    refusals: &mut Vec<Refusal>,
) -> Result<Mm, Error> {
    Ok(Mm {
        code: [stat.start_code, stat.end_code],
        data: [stat.start_data, stat.end_data],
        start_stack: stat.start_stack,
        brk: [stat.start_brk, stat.start_brk],
        args: [stat.arg_start, stat.arg_end],
        env: [stat.env_start, stat.env_end],
        auxv: procfs::attributes::read_auxv(pid)?,
        exe: linked(pid, "exe", files, refusals)?,
        ..Mm::default()
    })
}

fn fs(
    pid: Pid,
    umask: u32,
    files: &mut FileTable,
    refusals: &mut Vec<Refusal>,
) -> Result<Fs, Error> {
    Ok(Fs {
        cwd: linked(pid, "cwd", files, refusals)?,
        root: linked(pid, "root", files, refusals)?,
        umask,
    })
}

/// Adds the file behind a link of the process's folder.
fn linked(
    pid: Pid,
    name: &str,
    files: &mut FileTable,
    refusals: &mut Vec<Refusal>,
) -> Result<FileId, Error> {
    let path = procfs::fd::read_link(pid, name)?;
    let mut refuse = |(reason, remedy): (String, String)| {
        refusals.push(Refusal {
            task: pid.0,
            object: format!("{name} ({})", String::from_utf8_lossy(&path)),
            reason,
            remedy,
        });
    };
    if let Err(refused) = files.check_proc(&path) {
        refuse(refused);
        return Ok(FileId(0));
    }
    let behind = format!("/proc/{}/{name}", pid.0);
    let wanted = sys::file::statx_path(&terminated(behind.as_bytes())).map_err(Error::Own)?;
    let found = sys::file::statx_path(&terminated(&path));
    if !found.is_ok_and(|found| (found.dev, found.ino) == (wanted.dev, wanted.ino)) {
        return linked_ghost((pid, name), &path, &wanted, files)
            .map_err(refuse)
            .or(Ok(FileId(0)));
    }
    if name == "exe" {
        return Ok(files
            .mapped(&path, false)
            .unwrap_or_else(|| files.add_mapped(&path, &wanted, false)));
    }
    Ok(files.add_directory(&path, &wanted))
}

/// Adds the file behind a link of the process's folder that has no name any more.
fn linked_ghost(
    (pid, name): (Pid, &str),
    path: &[u8],
    stat: &sys::file::FileStat,
    files: &mut FileTable,
) -> Result<FileId, (String, String)> {
    let opened = std::fs::File::open(format!("/proc/{}/{name}", pid.0));
    let opened =
        opened.map_err(|error| (format!("it cannot be opened: {error}"), String::new()))?;
    match name {
        "exe" => files.mapped_deleted(&opened.into(), stat, path, false),
        _ => files.add_deleted_directory(&opened.into(), stat, path),
    }
}
