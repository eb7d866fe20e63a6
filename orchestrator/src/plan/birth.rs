//! Births: children cloned by their parents, each on a context of its own in the arena, which all of them share.
//!
//! A child dies with its parent until the commit: the root dies with the orchestrator, so the whole tree does.

use super::family::Kind;
use super::program::{Builder, Object};
use super::task::{Birth, Making};

/// Size of `struct clone_args` up to `set_tid_size` and `cgroup` (Linux 5.7).
pub const CLONE_ARGS_LEN: u64 = 88;

/// Adds a `clone3` that makes a task with this id on the stack of a context.
pub fn plan_clone(b: &mut Builder, flags: u64, exit_signal: u64, tid: i32, context: u32) {
    let args = clone_arguments(b, flags, exit_signal, tid, context);
    b.call_returns(libc::SYS_clone3, &[args, CLONE_ARGS_LEN], i64::from(tid));
}

/// Puts the arguments of such a `clone3` into the data and returns their address.
pub fn clone_arguments(
    b: &mut Builder,
    flags: u64,
    exit_signal: u64,
    tid: i32,
    context: u32,
) -> u64 {
    let number = b.put(&tid.to_le_bytes());
    let (stack, stack_len) = (b.arena.stack(context), b.arena.stack_len());
    // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup.
    let words = [
        flags,
        0,
        0,
        0,
        exit_signal,
        stack,
        stack_len,
        0,
        number,
        1,
        0,
    ];
    b.put_words(&words)
}

/// Adds a `clone3` that makes a process with any id on the stack of a context, without a signal at its end, and returns the
/// number of the operation, whose result is the id.
pub fn plan_clone_any(b: &mut Builder, context: u32) -> u64 {
    let (stack, stack_len) = (b.arena.stack(context), b.arena.stack_len());
    let words = [0, 0, 0, 0, 0, stack, stack_len, 0, 0, 0, 0];
    let args = b.put_words(&words);
    let born = b.next_operation();
    b.call(libc::SYS_clone3, &[args, CLONE_ARGS_LEN]);
    born
}

/// Adds the births of those who stay in the session that the task was born into.
pub fn plan_children_before_session(m: &mut Making<'_>) {
    let children = m.family.children_before_session(m.own.member);
    let birth = m.births.get(&m.own.member).cloned().unwrap_or_default();
    plan_births(m, &children, &birth);
}

/// Adds the births of children before the task has memory: those that have none in common with it.
pub fn plan_early_children(m: &mut Making<'_>) {
    if !has_memory(m) {
        plan_children(m, &m.family.children(m.own.member, false));
    }
}

/// Adds the births of the other children, once the task has its private memory.
pub fn plan_late_children(m: &mut Making<'_>) {
    if has_memory(m) {
        plan_children(m, &m.family.children(m.own.member, false));
    }
    plan_children(m, &m.family.children(m.own.member, true));
}

/// Returns whether the task was itself born with memory.
fn has_memory(m: &Making<'_>) -> bool {
    let birth = m.births.get(&m.own.member);
    birth.is_some_and(|birth| !birth.mapped.is_empty())
}

fn plan_children(m: &mut Making<'_>, children: &[usize]) {
    let birth = Birth {
        fds: m.b.fds.clone(),
        mapped: m.own.mapped.clone(),
        vdso_at: m.own.vdso_at,
        keys: m.own.keys,
    };
    plan_births(m, children, &birth);
}

/// Adds the births of those whom one makes that has nothing but what it was born with.
pub fn plan_children_of(m: &mut Making<'_>, maker: usize) {
    let birth = m.births.get(&maker).cloned().unwrap_or_default();
    plan_births(m, &m.family.children(maker, false), &birth);
}

fn plan_births(m: &mut Making<'_>, children: &[usize], birth: &Birth) {
    for &child in children {
        let member = &m.family.members[child];
        m.b.object(Object::Named(match member.kind {
            Kind::Living(_) => format!("child {}", member.pid),
            Kind::Zombie(_) => format!("dead child {}", member.pid),
            Kind::Helper => format!("helper that founds {}", member.pgid),
        }));
        // A brother's signal is the one that its maker sends.
        let (flags, signal) = match member.maker == member.parent {
            true => (0, member.exit_signal),
            false => (libc::CLONE_PARENT as u64, 0),
        };
        let flags = flags | member.maker.map_or(0, |maker| m.joint.flags(maker, child));
        plan_clone(&mut m.b, flags, signal, member.pid, member.contexts.0);
        m.births.insert(child, birth.clone());
    }
}

/// Adds that the task at hand dies with its parent. One whose parent has died before has been given to another by now.
pub fn plan_tie(m: &mut Making<'_>) {
    let member = &m.family.members[m.own.member];
    let parent = member
        .parent
        .map_or(0, |parent| m.family.members[parent].pid);
    plan_tie_to(&mut m.b, parent);
}

/// Adds that the calling process dies with its parent, which has this pid.
pub fn plan_tie_to(b: &mut Builder, parent: i32) {
    b.object(Object::Task("death with its parent"));
    let set = libc::PR_SET_PDEATHSIG as u64;
    b.call_returns(libc::SYS_prctl, &[set, libc::SIGKILL as u64], 0);
    b.call_returns(libc::SYS_getppid, &[], i64::from(parent));
}

/// Adds it again, as a change of credentials has undone it (`commit_creds`, `kernel/cred.c`).
pub fn plan_tie_again(m: &mut Making<'_>) {
    if !m.is_root() {
        m.b.object(Object::Task("death with its parent"));
        let set = libc::PR_SET_PDEATHSIG as u64;
        m.b.call_returns(libc::SYS_prctl, &[set, libc::SIGKILL as u64], 0);
    }
}
