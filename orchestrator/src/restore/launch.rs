//! The launch of a tree: a process with the pid that is wanted, in an address space that has nothing of ours.
//!
//! ```text
//! we  --clone3(VM|VFORK)-->  child in our memory: runs a short program on the launch pad, as the tree will run its own
//!                            clocks of a new time namespace; page files and arena to their descriptors; limits
//!                            --execveat(memfd)-->  a page of code maps the arena  -->  context 0
//! ```
//!
//! A fork would copy our page tables, and make each of our pages one that has to be copied when we write to it; this costs
//! the same however large we are. Nothing of our thread's (rseq, robust list, alternate stack) is left to write to the
//! tree's memory later. We stand still until the child has executed the program or failed, so that what it runs may lie
//! on our side.
//!
//! The time namespace is the child's own doing: `unshare` gives it to its children *and*, since Linux 6.1, to what it
//! executes (`exec_task_namespaces`, `kernel/nsproxy.c`). Our other children keep their clocks.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use arch::abi::program::{ARGS, ArgKind, Check, Op};
use arch::abi::restore::{Ctx, Head};
use arch::native::launch;
use nix::errno::Errno;

use super::arena::Arena;
use super::between::{self, Between, PAD_LEN};
use super::error::{Doing, Error, Result};
use super::numbers::{self, refused};
use crate::plan::print::Words;
use crate::plan::{Clocks, Plan};
use crate::procfs::attributes;
use crate::sys::clock::{Clock, now_ns};
use crate::sys::clone::{self, CloneFlags, Cloned, Request, Start};
use crate::sys::mem::{Place, SharedMapping, memfd_create};
use crate::sys::ns::{ClockOffset, Network};
use crate::sys::process::{self, Limit};
use crate::sys::signal::SignalsBlocked;
use crate::sys::{self, Pid, fd};

/// Bytes of the launch pad's stack, for an interpreter that was compiled without optimisation too.
pub(super) const STACK_LEN: usize = 64 << 10;
/// Room of the launch pad for its program with results and data.
pub(super) const PROGRAM_LEN: usize = 64 << 10;
/// First descriptor number behind the plan's own, for what the child has to find: our copies of page files and arena.
const SPARE: i32 = 1;
const RLIMIT_NOFILE: u32 = 7;
/// `MFD_EXEC` (Linux 6.3): said where the system would make files of memory that cannot be executed.
const MFD_EXEC: u32 = 0x10;

/// Who becomes the parent of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parent {
    /// We.
    Us,
    /// Our own parent.
    Ours,
    /// The reaper of orphans, at once: a child of ours makes the root, and has ended before anything goes on.
    Reaper,
}

/// A launched root.
#[derive(Debug)]
pub(super) struct Launched {
    /// Its process.
    pub(super) pid: Pid,
    /// Its descriptor.
    pub(super) pidfd: OwnedFd,
    /// The arena that it runs in.
    pub(super) arena: Arena,
    /// Who founded its session.
    _founder: Option<Between>,
}

/// Starts the root of the plan's tree.
pub(super) fn launch(
    plan: &Plan,
    pages: &BTreeMap<u32, File>,
    (parent, network): (Parent, Option<&Network>),
) -> Result<Launched> {
    let limit = RaisedLimit::raise()?;
    let highest = plan.launch.services.iter().map(|service| service.fd).max();
    let lowest = highest.unwrap_or(libc::STDERR_FILENO) + SPARE;
    let arena = Arena::of(plan, lowest)?;
    let began = Instant::now();
    for program in &plan.programs {
        numbers::await_release(program.tid, began);
    }
    let session = plan.launch.session.map(Pid);
    let (pidfd, founder) = loop {
        let pad = Pad::new(
            plan,
            &arena,
            pages,
            (lowest, limit.before),
            (parent, network),
        )?;
        match pad.start(Pid(plan.launch.pid), parent, session) {
            Err(Error::PidTaken { pid, .. })
                if numbers::is_given_up(pid) && began.elapsed() < numbers::RELEASE =>
            {
                std::thread::sleep(numbers::PAUSE);
            }
            started => break started?,
        }
    };
    Ok(Launched {
        pid: Pid(plan.launch.pid),
        pidfd,
        arena,
        _founder: founder,
    })
}

/// Our limit of descriptors, raised for a moment: the plan's numbers may lie above it.
#[derive(Debug)]
struct RaisedLimit {
    before: Limit,
}

impl RaisedLimit {
    fn raise() -> Result<Self> {
        let doing = "raise the limit of open files";
        let this = Pid::this();
        let before = process::prlimit(this, RLIMIT_NOFILE, None).doing(doing)?;
        let raised = Limit {
            soft: before.hard,
            hard: before.hard,
        };
        process::prlimit(this, RLIMIT_NOFILE, Some(raised)).doing(doing)?;
        Ok(Self { before })
    }
}

impl Drop for RaisedLimit {
    fn drop(&mut self) {
        // Lowering the soft limit is always allowed.
        let _ = process::prlimit(Pid::this(), RLIMIT_NOFILE, Some(self.before));
    }
}

/// Memory of ours with the program that the child runs before it executes another.
#[derive(Debug)]
pub(super) struct Pad {
    pub(super) memory: SharedMapping,
    ops: Vec<Op>,
    /// What the operations are for.
    objects: Vec<&'static str>,
    pub(super) data: Vec<u8>,
    /// Kept open until the child has them.
    copies: Vec<OwnedFd>,
}

pub(super) const HEAD_AT: usize = STACK_LEN;
pub(super) const CTX_AT: usize = HEAD_AT + size_of::<Head>();
const OPS_AT: usize = CTX_AT + size_of::<Ctx>();
const RESULTS_AT: usize = OPS_AT + PROGRAM_LEN;
pub(super) const DATA_AT: usize = RESULTS_AT + PROGRAM_LEN;

impl Pad {
    fn new(
        plan: &Plan,
        arena: &Arena,
        pages: &BTreeMap<u32, File>,
        (lowest, limit): (i32, Limit),
        (parent, network): (Parent, Option<&Network>),
    ) -> Result<Self> {
        let memory = SharedMapping::anonymous(PAD_LEN, Place::Anywhere);
        let mut pad = Self {
            memory: memory.doing("make a launch pad")?,
            ops: Vec::new(),
            objects: Vec::new(),
            data: Vec::new(),
            copies: Vec::new(),
        };
        if parent == Parent::Us {
            pad.add_tie();
        }
        if plan.launch.has_own_ipc {
            let flags = [CloneFlags::NEWIPC.bits()];
            pad.add("IPC namespace", libc::SYS_unshare, &flags);
        }
        if let Some(network) = network {
            pad.add_network(network, lowest)?;
        }
        if let Some(clocks) = plan.launch.clocks {
            pad.add_clocks(clocks)?;
        }
        pad.add_services(plan, pages, lowest)?;
        let arena_fd = arena.file.as_raw_fd();
        pad.add(
            "arena",
            libc::SYS_fcntl,
            &[arena_fd as u64, libc::F_SETFD as u64, 0],
        );
        let soft_hard = pad.put_words(&[limit.soft, limit.hard]);
        let nofile = u64::from(RLIMIT_NOFILE);
        pad.add(
            "limit of open files",
            libc::SYS_prlimit64,
            &[0, nofile, soft_hard, 0],
        );
        pad.add_exec(plan, arena, arena_fd, lowest)?;
        Ok(pad)
    }

    /// Adds that the root dies with us, until it is traced: we may not get a processor before it has run all of its program.
    /// Where we are gone by now, it ends here.
    fn add_tie(&mut self) {
        let object = "death with the restore";
        let set = libc::PR_SET_PDEATHSIG as u64;
        self.add(object, libc::SYS_prctl, &[set, libc::SIGKILL as u64]);
        let parent = Op::call(libc::SYS_getppid as u32, [0; ARGS]);
        self.push(object, parent.check(Check::Equal, Pid::this().0.into()));
    }

    /// Adds the entry into the network namespace that was made for the tree.
    fn add_network(&mut self, network: &Network, lowest: i32) -> Result<()> {
        let file = fd::dup_at_least(network, lowest).doing("hand over the network namespace")?;
        let args = [file.as_raw_fd() as u64, CloneFlags::NEWNET.bits()];
        self.add("network namespace", libc::SYS_setns, &args);
        self.copies.push(file);
        Ok(())
    }

    /// Adds the change to a time namespace with these clocks.
    fn add_clocks(&mut self, clocks: Clocks) -> Result<()> {
        let object = "clocks";
        let own = attributes::read_timens_offsets(Pid::this())?;
        let monotonic = offset(clocks.monotonic_ns, Clock::Monotonic, own.monotonic)?;
        let boottime = offset(clocks.boottime_ns, Clock::Boottime, own.boottime)?;
        let text = format!(
            "monotonic {} {}\nboottime {} {}\n",
            monotonic.secs, monotonic.nanos, boottime.secs, boottime.nanos
        );
        self.add(object, libc::SYS_unshare, &[CloneFlags::NEWTIME.bits()]);
        let path = self.put(b"/proc/self/timens_offsets\0");
        let (at, flags) = (libc::AT_FDCWD as u64, libc::O_WRONLY as u64);
        let file = self.add(object, libc::SYS_openat, &[at, path, flags, 0]);
        let words = self.put(text.as_bytes());
        let len = text.len() as u64;
        let write = Op::call(libc::SYS_write as u32, padded(&[file, words, len]));
        let write = write.arg(0, ArgKind::Result);
        self.push(object, write.check(Check::Equal, len as i64));
        let close = Op::call(libc::SYS_close as u32, padded(&[file]));
        self.push(object, close.arg(0, ArgKind::Result));
        Ok(())
    }

    /// Adds the descriptors that the tree has to find. Our copies lie above all of them, so that none is closed by another.
    fn add_services(
        &mut self,
        plan: &Plan,
        pages: &BTreeMap<u32, File>,
        lowest: i32,
    ) -> Result<()> {
        for service in &plan.launch.services {
            let file = pages.get(&service.pages_id);
            let file = file.expect("the plan names page files of its snapshot");
            let copy = fd::dup_at_least(file, lowest).doing("hand over the page files")?;
            let args = [copy.as_raw_fd() as u64, service.fd as u64, 0];
            self.add("page file", libc::SYS_dup3, &args);
            self.copies.push(copy);
        }
        Ok(())
    }

    /// Adds the execution of the program that maps the arena.
    fn add_exec(&mut self, plan: &Plan, arena: &Arena, arena_fd: i32, lowest: i32) -> Result<()> {
        let doing = "make the program that the tree starts with";
        let program = launch::program(&arena.launch(plan, arena_fd));
        let file = executable_memfd(c"restore").doing(doing)?;
        sys::file::pwrite(&file, &program, 0).doing(doing)?;
        let file = fd::dup_at_least(&file, lowest).doing(doing)?;
        let (empty, name) = (self.put(b"\0"), self.put(b"restore\0"));
        let argv = self.put_words(&[name, 0]);
        let envp = self.put_words(&[0]);
        let flags = libc::AT_EMPTY_PATH as u64;
        let args = [file.as_raw_fd() as u64, empty, argv, envp, flags];
        self.add("start of the tree", libc::SYS_execveat, &args);
        self.copies.push(file);
        Ok(())
    }

    fn add(&mut self, object: &'static str, nr: i64, args: &[u64]) -> u64 {
        self.push(object, Op::call(nr as u32, padded(args)))
    }

    /// Adds an operation and returns its index.
    fn push(&mut self, object: &'static str, op: Op) -> u64 {
        let index = self.ops.len();
        self.objects.push(object);
        self.ops.push(op.object(index as u32));
        index as u64
    }

    /// Puts bytes into the data at a multiple of 8 and returns their address.
    pub(super) fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.data.len().next_multiple_of(8);
        self.data.resize(at, 0);
        self.data.extend_from_slice(bytes);
        self.memory.addr() + (DATA_AT + at) as u64
    }

    pub(super) fn put_words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(&bytes)
    }

    /// Makes the child and returns when it is in an address space of its own.
    fn start(
        mut self,
        pid: Pid,
        parent: Parent,
        session: Option<Pid>,
    ) -> Result<(OwnedFd, Option<Between>)> {
        let base = self.memory.addr();
        let ctx = Ctx {
            ops: base + OPS_AT as u64,
            results: base + RESULTS_AT as u64,
            head: base + HEAD_AT as u64,
            count: self.ops.len() as u32,
            ..Ctx::default()
        };
        self.memory.put(HEAD_AT, Head::default());
        self.memory.put(CTX_AT, ctx);
        self.memory.put_all(OPS_AT, &self.ops);
        assert!(
            RESULTS_AT - OPS_AT >= size_of_val(&*self.ops),
            "programs of a launch are short"
        );
        self.memory.write_at(DATA_AT, &self.data);
        let made = match (parent, session) {
            (Parent::Reaper, _) | (_, Some(_)) => {
                let (pidfd, between) = between::start(self, pid, (parent, session))?;
                (pidfd, session.map(|_| between))
            }
            (Parent::Us, None) => {
                let made = self.start_child(pid, libc::SIGCHLD, CloneFlags::empty())?;
                (made, None)
            }
            // A sibling's signal is the one that we send ourselves.
            (Parent::Ours, None) => (self.start_child(pid, 0, CloneFlags::PARENT)?, None),
        };
        Ok(made)
    }

    /// Makes the root as a child of ours or a sibling.
    fn start_child(mut self, pid: Pid, exit_signal: i32, more: CloneFlags) -> Result<OwnedFd> {
        let request = Request {
            flags: CHILD | CloneFlags::PIDFD | more,
            exit_signal,
            set_tid: &[pid.0],
            cgroup: None,
        };
        let start = entry(self.memory.addr() + CTX_AT as u64);
        let quiet = SignalsBlocked::new().doing("block signals")?;
        let cloned = clone::clone3(&mut self.memory, STACK_LEN, start, &request);
        drop(quiet);
        let cloned = cloned.map_err(|error| refused(pid.0, error))?;
        if let Some(error) = self.failure() {
            reap(&cloned, more.contains(CloneFlags::PARENT));
            return Err(error);
        }
        Ok(cloned.pidfd.expect("CLONE_PIDFD was asked for"))
    }

    /// Returns which operation of the child failed.
    pub(super) fn failure(&self) -> Option<Error> {
        use std::sync::atomic::Ordering::SeqCst;
        let head: &Head = self.memory.view(HEAD_AT);
        if head.abort.load(SeqCst) == 0 {
            return None;
        }
        let index = head.fail_pc.load(SeqCst) as usize;
        Some(Error::Operation {
            object: self.objects.get(index).copied().unwrap_or_default().into(),
            operation: self
                .ops
                .get(index)
                .map(|op| Words(op).to_string())
                .unwrap_or_default(),
            result: head.fail_result.load(SeqCst),
        })
    }
}

/// What a child shares with us until it executes a program, and what not even until then.
pub(super) const CHILD: CloneFlags = CloneFlags::VM
    .union(CloneFlags::VFORK)
    .union(CloneFlags::CLEAR_SIGHAND);

/// Returns how a child begins that runs the program of the context at this address.
pub(super) fn entry(ctx: u64) -> Start {
    Start::Call {
        entry: restorer_blob::run as *const () as u64,
        arg: ctx,
    }
}

/// Takes the news of a child that has ended; a sibling's are our parent's.
fn reap(child: &Cloned, sibling: bool) {
    if !sibling {
        // It has called exit_group, and is our own.
        let _ = sys::wait::wait_tid(child.pid.leader());
    }
}

fn executable_memfd(name: &CStr) -> sys::Result<OwnedFd> {
    match memfd_create(name, MFD_EXEC) {
        Err(error) if error.errno == Errno::EINVAL => memfd_create(name, 0),
        made => made,
    }
}

/// Returns the offset at which a clock shows `wanted` now; `None` = what it is for us.
fn offset(wanted: Option<i64>, clock: Clock, own: ClockOffset) -> Result<ClockOffset> {
    let doing = "read a clock";
    let Some(wanted) = wanted else {
        return Ok(own);
    };
    let now = now_ns(clock).doing(doing)?;
    let nanos = i128::from(wanted) - i128::from(now) + own.as_nanos();
    ClockOffset::from_nanos(nanos)
        .ok_or(sys::Error::new("timens_offsets", Errno::ERANGE))
        .doing("set the clocks")
}

pub(super) fn padded(args: &[u64]) -> [u64; ARGS] {
    let mut all = [0; ARGS];
    all[..args.len()].copy_from_slice(args);
    all
}
