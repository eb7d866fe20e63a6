//! The order of a task's program, as a table of contents.
//!
//! Why this order: an operation that takes a right away from the task, or lets time run for it, comes after all that need
//! the right or take time. Private memory comes first, as children may be born with it; what is shared between tasks is made
//! by one of them when all are born, and taken by the others. Memory comes before `mm`, whose addresses the kernel checks
//! against mappings; all that is shared by threads before the threads; what threads inherit wrongly from the leader after they
//! are made. Then the threads meet, each gives up its privileges, all of the tree meet, and what a change of credentials
//! resets is set, and the clocks of timers start.

use std::collections::{BTreeMap, BTreeSet};

use super::family::Family;
use super::fds::FdTable;
use super::holes::Holes;
use super::joint::{FS, Joint, SPACE, TABLE, Turns, plan_turn, plan_turn_over};
use super::lazy::LazySpace;
use super::pidfds::Gone;
use super::program::{Builder, Object};
use super::readers::Readers;
use super::refusals::Report;
use super::sharing::Sharing;
use super::sockets::{self, Phase, Script};
use super::vdso::VdsoPlan;
use super::{Host, Service, Settings};
use super::{
    birth, confinement, descriptors, directories, heritage, ipc, keys, lazy, memory, mm, notify,
    pidfds, process, queues, rings, segments, short_lived, terminals, threads, vdso, watches,
};
use crate::snapshot::{
    FileId, Fs, Mm, OpenFile, PipeBuffer, ProtectionKeys, SeccompMode, Snapshot, Task,
};

/// A tree whose programs are being made, and what was decided so far.
#[derive(Debug)]
pub struct Making<'a> {
    /// All of the snapshot.
    pub snapshot: &'a Snapshot,
    /// Its processes.
    pub family: &'a Family,
    /// Who makes what several have.
    pub sharing: &'a Sharing,
    /// How Unix sockets are made.
    pub script: &'a Script<'a>,
    /// Who shares what by flags of `clone`.
    pub joint: &'a Joint,
    /// Turns at descriptor tables that are shared.
    pub turns: Turns,
    /// Words of the barriers.
    pub meetings: Meetings,
    /// Its open file descriptions by id: a task may have tens of thousands.
    pub files: BTreeMap<FileId, &'a OpenFile>,
    /// Unix sockets by their inodes.
    pub sockets: BTreeMap<u32, &'a OpenFile>,
    /// Content of pipes by their ids.
    pub pipes: BTreeMap<u32, &'a PipeBuffer>,
    /// The machine.
    pub host: &'a Host,
    /// The user's choice.
    pub settings: &'a Settings,
    /// Where the operations go.
    pub b: Builder,
    /// Where refusals go.
    pub report: &'a mut Report,
    /// Address space that is free in all tasks.
    pub holes: Holes,
    /// First number above all descriptors of the snapshot and all services: temporaries live from here on.
    pub above: i32,
    /// Process and descriptor that refer to an open file description, for those that are made.
    pub made: BTreeMap<FileId, (i32, i32)>,
    /// Process and temporary descriptor of each memfd's inode.
    pub masters: BTreeMap<u32, (i32, i32)>,
    /// How those processes end that are gone.
    pub departed: BTreeMap<Gone, u32>,
    /// Who makes those of them that end when their files are open, and the word at which both meet.
    pub endings: BTreeMap<Gone, (i32, u64)>,
    /// Process that maps a segment of shared anonymous memory whole, and where.
    pub segments: BTreeMap<u64, (i32, u64)>,
    /// Pseudo-terminals by their indices.
    pub ptys: BTreeMap<u32, terminals::Pty>,
    /// Who reads memory beside a task.
    pub readers: Readers,
    /// What children were born with.
    pub births: BTreeMap<usize, Birth>,
    /// Tasks whose memory comes later.
    pub lazy: Vec<LazySpace>,
    /// Names of the POSIX message queues that are made.
    pub queues: Vec<Vec<u8>>,
    /// The task at hand.
    pub own: Own<'a>,
}

/// The task whose program is being made.
#[derive(Debug)]
pub struct Own<'a> {
    /// Its place in the family.
    pub member: usize,
    /// The task.
    pub task: &'a Task,
    /// Its address space.
    pub mm: &'a Mm,
    /// Its working directory, root and umask.
    pub fs: &'a Fs,
    /// Descriptors of the page files, by ID.
    pub services: BTreeMap<u32, i32>,
    /// Its descriptor of an open file description.
    pub placed: BTreeMap<FileId, i32>,
    /// Temporary descriptors that others take from it.
    pub held: Vec<i32>,
    /// Temporary attachments that hold removed segments of System V shared memory.
    pub attached: Vec<u64>,
    /// Descriptors of what only waits in a socket, closed last.
    pub late: Vec<i32>,
    /// Memfds whose first description has been made.
    pub memfds_given: BTreeSet<u32>,
    /// Areas that are mapped, by address, with their protection of the moment.
    pub mapped: BTreeMap<u64, u32>,
    /// Where the kernel's vDSO is mapped.
    pub vdso_at: Option<u64>,
    /// Protection keys that it has until its memory is finished.
    pub keys: ProtectionKeys,
}

/// What a child is born with.
#[derive(Debug, Clone, Default)]
pub struct Birth {
    /// Descriptors.
    pub fds: FdTable,
    /// [`Own::mapped`] of its maker.
    pub mapped: BTreeMap<u64, u32>,
    /// [`Own::vdso_at`] of its maker.
    pub vdso_at: Option<u64>,
    /// [`Own::keys`] of its maker.
    pub keys: ProtectionKeys,
}

/// Addresses of the words at which members of the family meet, and how many of them.
#[derive(Debug, Clone, Copy)]
pub struct Meetings {
    /// All are born.
    pub born: (u64, u64),
    /// All are in their groups.
    pub joined: (u64, u64),
    /// All that is shared is made.
    pub made: (u64, u64),
    /// All that is shared was taken.
    pub taken: (u64, u64),
    /// All are done with paths, and then with their directories; `None` where nobody shares these or descriptors.
    pub directories: Option<[(u64, u64); 2]>,
    /// All threads under seccomp are traced; `None` where there are none.
    pub traced: Option<(u64, u64)>,
    /// All files are open.
    pub opened: (u64, u64),
    /// All threads have given up their privileges.
    pub ready: (u64, u64),
    /// All threads are there; what refers to them is made; it is taken.
    pub late: [(u64, u64); 3],
}

impl Meetings {
    /// Puts the words into the data.
    pub fn of(b: &mut Builder, snapshot: &Snapshot, family: &Family, is_joint: bool) -> Self {
        let threads = snapshot.tasks.iter().flat_map(|task| &task.threads);
        let confined = threads.filter(|thread| thread.seccomp != SeccompMode::Off);
        let confined = confined.count() as u64;
        let (all, living) = (family.members.len() as u64, family.living() as u64);
        let short_lived = all - living;
        let mut word = |count| (b.put_words(&[0]), count);
        Self {
            born: word(all),
            joined: word(all),
            made: word(living),
            taken: word(living),
            directories: is_joint.then(|| [word(living), word(living)]),
            traced: (confined > 0).then(|| word(confined + 1)),
            opened: word(living),
            ready: word(u64::from(family.contexts()) - short_lived),
            late: [living, living, living].map(word),
        }
    }
}

impl<'a> Own<'a> {
    /// Returns a task of which nothing is made yet; `None` for one that does not live.
    pub fn of(member: usize, task: &'a Task, services: &[Service]) -> Option<Self> {
        Some(Self {
            member,
            task,
            mm: task.mm.as_ref()?,
            fs: task.fs.as_ref()?,
            services: services.iter().map(|s| (s.pages_id, s.fd)).collect(),
            placed: BTreeMap::new(),
            held: Vec::new(),
            attached: Vec::new(),
            late: Vec::new(),
            memfds_given: BTreeSet::new(),
            mapped: BTreeMap::new(),
            vdso_at: None,
            keys: ProtectionKeys::default(),
        })
    }
}

impl<'a> Making<'a> {
    /// Turns to the next task.
    pub fn enter(&mut self, own: Own<'a>) {
        self.report.task = own.task.pid;
        let birth = self.births.get(&own.member);
        self.b.fds = birth.map(|birth| birth.fds.clone()).unwrap_or_default();
        self.own = own;
    }

    /// Returns whether the task at hand is the root.
    pub fn is_root(&self) -> bool {
        self.own.member == 0
    }
}

/// Makes the programs of all threads of the task. The order is this file's subject.
pub fn plan_programs(m: &mut Making<'_>) {
    let met = m.b.put_words(&[0]);
    if m.is_root() {
        clear_address_space(m);
    } else {
        birth::plan_tie(m);
    }
    plan_turn(m, 0);
    birth::plan_children_before_session(m);
    process::plan_session(m);
    if m.is_root() {
        process::plan_room(m);
        ipc::plan_room(m);
        queues::plan_make(m);
        terminals::plan_pairs(m);
    }
    terminals::plan_controlling(m);
    birth::plan_early_children(m);
    let vdso = plan_space(m);
    birth::plan_late_children(m);
    plan_turn_over(m, 0);
    plan_meeting(m, "all are born", m.meetings.born);
    process::plan_group(m);
    plan_meeting(m, "all are in their groups", m.meetings.joined);
    terminals::plan_foreground(m);
    short_lived::plan_farewell(m);
    plan_turn(m, 1);
    let has_table = !m.joint.follows(m.own.member, TABLE);
    if has_table {
        descriptors::plan_make(m);
    }
    let shared = vdso.as_ref().map(|_| memory::plan_make_shared(m));
    segments::plan_make(m);
    ipc::plan_objects(m);
    plan_turn_over(m, 1);
    plan_meeting(m, "what is shared is made", m.meetings.made);
    plan_turn(m, 2);
    if has_table {
        descriptors::plan_take(m, watches::When::Early);
        sockets::plan_turns(m, Phase::Fill);
    }
    if let Some(shared) = &shared {
        memory::plan_shared(m, shared);
        segments::plan_attachments(m);
        rings::plan_rings(m);
    }
    if has_table {
        watches::plan_watches(m, watches::When::Early);
    }
    descriptors::plan_locks(m);
    plan_turn_over(m, 2);
    plan_meeting(m, "what is shared is taken", m.meetings.taken);
    plan_turn(m, 3);
    segments::plan_finish(m);
    queues::plan_finish(m);
    ipc::plan_finish(m);
    if let (Some(vdso), Some(shared)) = (&vdso, &shared) {
        memory::plan_finish(m, vdso, shared);
        keys::plan_free(m);
    }
    if has_table {
        descriptors::plan_cleanup(m);
    }
    if vdso.is_some() {
        mm::plan_mm(m);
    }
    process::plan_attributes(m);
    plan_turn_over(m, 3);
    let opened = plan_directories(m);
    if has_table {
        notify::plan_watches(m);
    }
    threads::plan_clones(m);
    if has_table {
        pidfds::plan_late(m);
    }
    plan_threads(m, met, &opened);
}

/// Adds the address space with its private memory, unless the task shares that of its maker.
fn plan_space(m: &mut Making<'_>) -> Option<VdsoPlan> {
    if m.joint.follows(m.own.member, SPACE) {
        let birth = m.births.get(&m.own.member).cloned().unwrap_or_default();
        (m.own.mapped, m.own.vdso_at) = (birth.mapped, birth.vdso_at);
        m.own.keys = birth.keys;
        return None;
    }
    heritage::plan_leave(m);
    process::plan_early(m);
    keys::plan_take(m);
    let vdso = vdso::plan_vdso(m);
    memory::plan_private(m, &vdso);
    Some(vdso)
}

/// Adds working directory, root and umask. Where they are shared, everybody is done with paths before.
fn plan_directories(m: &mut Making<'_>) -> directories::Opened {
    if let Some([before, _]) = m.meetings.directories {
        plan_meeting(m, "all are done with paths", before);
    }
    plan_turn(m, 4);
    let opened = directories::plan_open(m);
    if !m.joint.follows(m.own.member, FS) {
        directories::plan_fs(m);
    }
    plan_turn_over(m, 4);
    if let Some([_, after]) = m.meetings.directories {
        plan_meeting(m, "all are in their directories", after);
    }
    opened
}

/// Adds what each thread has for itself, to the programs of all of them.
fn plan_threads(m: &mut Making<'_>, met: u64, opened: &directories::Opened) {
    let confinement = confinement::Confinement::of(m);
    for (index, thread) in m.own.task.threads.iter().enumerate() {
        let is_leader = index == 0;
        threads::plan_own(m, thread);
        directories::plan_thread(m, thread, opened);
        threads::plan_meeting(m, met);
        if is_leader {
            directories::plan_close(m, opened);
            process::plan_signals_and_timers(m);
            descriptors::plan_owners(m);
            descriptors::plan_names_taken(m);
            descriptors::plan_terminal(m);
            lazy::plan_registration(m);
            process::plan_limits(m);
        }
        threads::plan_pending(m, thread);
        confinement::plan_filters(m, thread, confinement);
        threads::plan_privileges(m, thread);
        if is_leader {
            birth::plan_tie_again(m);
        }
        let (word, count) = m.meetings.ready;
        m.b.object(Object::Task("meeting of all threads"));
        plan_barrier(m, word, count);
        if is_leader {
            process::plan_dumpable(m);
            process::plan_clocks_start(m);
            descriptors::plan_late_cleanup(m);
            queues::plan_notices(m);
        }
        threads::plan_last(m, thread);
        m.b.finish_program(thread.tid);
    }
}

/// Adds a meeting of the family, unless there is but one member.
pub fn plan_meeting(m: &mut Making<'_>, what: &'static str, (word, count): (u64, u64)) {
    if m.family.members.len() > 1 {
        m.b.object(Object::Task(what));
        plan_barrier(m, word, count);
    }
}

/// Adds a wait until `count` contexts have come to this word.
pub fn plan_barrier(m: &mut Making<'_>, word: u64, count: u64) {
    m.b.special(arch::abi::program::special::BARRIER, &[word, count]);
}

/// Unmaps all that the launch left around the arena. The vsyscall page is no mapping, and stays.
fn clear_address_space(m: &mut Making<'_>) {
    let base = m.b.arena.base;
    m.b.object(Object::Task("address space of the launch"));
    m.b.call_returns(libc::SYS_munmap, &[0, base], 0);
    // Where the arena ends is known when all is planned: see `tree::finish`.
    m.b.call_returns(libc::SYS_munmap, &[base, 0], 0);
}
