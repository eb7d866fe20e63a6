//! ptrace, one function per request.
//!
//! Every request but [`seize`] and [`interrupt`] needs the thread in a ptrace stop of ours; the kernel answers `ESRCH` where it
//! is not, or is gone. Addresses that `PTRACE_*` calls take are ours: nothing here reads the target's memory.

use super::{Error, RemoteAddr, Result, Tid, check, syscall};
use arch::regs::Regs;
use nix::errno::Errno;

bitflags::bitflags! {
    /// `PTRACE_O_*`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Options: u32 {
        /// System-call stops show as `SIGTRAP | 0x80`.
        const TRACESYSGOOD = 1;
        /// Children of `fork` are traced too.
        const TRACEFORK = 1 << 1;
        /// Children of `vfork` are traced too.
        const TRACEVFORK = 1 << 2;
        /// New threads are traced too.
        const TRACECLONE = 1 << 3;
        /// `execve` stops with an event.
        const TRACEEXEC = 1 << 4;
        /// The end of a `vfork` stops the parent.
        const TRACEVFORKDONE = 1 << 5;
        /// The beginning of an exit stops the thread.
        const TRACEEXIT = 1 << 6;
        /// The target is killed when the tracer ends.
        const EXITKILL = 1 << 20;
        /// seccomp does not apply while traced; needs `CAP_SYS_ADMIN` and no seccomp of our own.
        const SUSPEND_SECCOMP = 1 << 21;
    }
}

const CONT: usize = 7;
const SYSCALL: usize = 24;
const DETACH: usize = 17;
const GETREGS: usize = 12;
const SETREGS: usize = 13;
const GET_THREAD_AREA: usize = 25;
const SET_THREAD_AREA: usize = 26;
const SETOPTIONS: usize = 0x4200;
const GETEVENTMSG: usize = 0x4201;
const GETSIGINFO: usize = 0x4202;
const GETREGSET: usize = 0x4204;
const SETREGSET: usize = 0x4205;
const SEIZE: usize = 0x4206;
const INTERRUPT: usize = 0x4207;
const LISTEN: usize = 0x4208;
const PEEKSIGINFO: usize = 0x4209;
const GETSIGMASK: usize = 0x420a;
const SETSIGMASK: usize = 0x420b;
const SECCOMP_GET_FILTER: usize = 0x420c;
const SECCOMP_GET_METADATA: usize = 0x420d;
const GET_RSEQ_CONFIGURATION: usize = 0x420f;
const SET_SYSCALL_USER_DISPATCH_CONFIG: usize = 0x4210;
const GET_SYSCALL_USER_DISPATCH_CONFIG: usize = 0x4211;

/// Note type of the whole extended state.
pub const NT_X86_XSTATE: u32 = 0x202;
/// `NT_386_IOPERM`: the ports that `ioperm` opened; ENXIO where there are none.
pub const NT_386_IOPERM: u32 = 0x201;

/// `PTRACE_EVENT_STOP`, what an interrupted or group-stopped thread reports.
pub const EVENT_STOP: i32 = 128;
/// `PTRACE_EVENT_CLONE`.
pub const EVENT_CLONE: i32 = 3;
/// `PTRACE_EVENT_EXIT`.
pub const EVENT_EXIT: i32 = 6;

/// Size of the kernel's signal set in bytes.
const SIGSET_SIZE: usize = 8;
/// Size of `siginfo_t` in bytes.
pub const SIGINFO_SIZE: usize = 128;
/// A queued signal as the kernel keeps it.
pub type RawSiginfo = [u8; SIGINFO_SIZE];
/// Most that a register set can take: the extended state of today's machines is 11 KiB.
const REGSET_MAX: usize = 64 << 10;

/// Makes request `request` of thread `tid`.
///
/// # Safety
/// `addr` and `data` are what the request wants; where it writes through them, they point to memory of its size.
unsafe fn ptrace(
    call: &'static str,
    request: usize,
    tid: Tid,
    addr: usize,
    data: usize,
) -> Result<usize> {
    let args = [request, tid.0 as usize, addr, data, 0, 0];
    // SAFETY: the caller answers for `addr` and `data`, the only words that may be pointers.
    unsafe { syscall(call, libc::SYS_ptrace, args) }
}

/// Makes a request whose arguments are plain numbers.
fn ptrace_number(
    call: &'static str,
    request: usize,
    tid: Tid,
    addr: usize,
    data: usize,
) -> Result<()> {
    // SAFETY: callers of this function use requests that take numbers, so the kernel reads or writes nothing of ours.
    unsafe { ptrace(call, request, tid, addr, data) }.map(drop)
}

/// Attaches without stopping.
pub fn seize(tid: Tid, options: Options) -> Result<()> {
    ptrace_number(
        "ptrace(PTRACE_SEIZE)",
        SEIZE,
        tid,
        0,
        options.bits() as usize,
    )
}

/// Changes the options.
pub fn set_options(tid: Tid, options: Options) -> Result<()> {
    ptrace_number(
        "ptrace(PTRACE_SETOPTIONS)",
        SETOPTIONS,
        tid,
        0,
        options.bits() as usize,
    )
}

/// Asks a seized thread to stop.
pub fn interrupt(tid: Tid) -> Result<()> {
    ptrace_number("ptrace(PTRACE_INTERRUPT)", INTERRUPT, tid, 0, 0)
}

/// Lets the thread run on, with signal `sig` if not 0.
pub fn cont(tid: Tid, sig: i32) -> Result<()> {
    ptrace_number("ptrace(PTRACE_CONT)", CONT, tid, 0, sig as usize)
}

/// Lets the thread run to its next entry to, or exit from, a system call, with signal `sig` if not 0.
pub fn syscall_step(tid: Tid, sig: i32) -> Result<()> {
    ptrace_number("ptrace(PTRACE_SYSCALL)", SYSCALL, tid, 0, sig as usize)
}

/// Leaves a group-stopped thread stopped, to hear of it when that changes.
pub fn listen(tid: Tid) -> Result<()> {
    ptrace_number("ptrace(PTRACE_LISTEN)", LISTEN, tid, 0, 0)
}

/// Lets the thread go for good, with signal `sig` if not 0.
pub fn detach(tid: Tid, sig: i32) -> Result<()> {
    ptrace_number("ptrace(PTRACE_DETACH)", DETACH, tid, 0, sig as usize)
}

/// Returns the general registers.
pub fn getregs(tid: Tid) -> Result<Regs> {
    let mut regs = Regs::default();
    let data = std::ptr::from_mut(&mut regs).expose_provenance();
    // SAFETY: PTRACE_GETREGS writes one `user_regs_struct`, which `Regs` is; all its fields are plain numbers.
    unsafe { ptrace("ptrace(PTRACE_GETREGS)", GETREGS, tid, 0, data) }?;
    Ok(regs)
}

/// Sets the general registers.
pub fn setregs(tid: Tid, regs: &Regs) -> Result<()> {
    let data = std::ptr::from_ref(regs).expose_provenance();
    // SAFETY: PTRACE_SETREGS reads one `user_regs_struct` at `data`, which `Regs` is.
    unsafe { ptrace("ptrace(PTRACE_SETREGS)", SETREGS, tid, 0, data) }.map(drop)
}

/// First of the GDT's entries that a thread may set for itself, on x86-64 (`GDT_ENTRY_TLS_MIN`); there are three.
pub const FIRST_TLS_ENTRY: u32 = 12;

/// Returns the GDT's entry `index` of the thread: its `struct user_desc` (entry, base, limit, flags).
pub fn get_thread_area(tid: Tid, index: u32) -> Result<[u32; 4]> {
    let mut desc = [0; 4];
    let data = desc.as_mut_ptr().expose_provenance();
    let call = "ptrace(PTRACE_GET_THREAD_AREA)";
    // SAFETY: the kernel writes one `struct user_desc`, four words of 32 bits.
    unsafe { ptrace(call, GET_THREAD_AREA, tid, index as usize, data) }?;
    Ok(desc)
}

/// Sets the GDT's entry of the thread that `desc` names.
pub fn set_thread_area(tid: Tid, desc: &[u32; 4]) -> Result<()> {
    let data = desc.as_ptr().expose_provenance();
    let call = "ptrace(PTRACE_SET_THREAD_AREA)";
    // SAFETY: the kernel reads one `struct user_desc`, four words of 32 bits.
    unsafe { ptrace(call, SET_THREAD_AREA, tid, desc[0] as usize, data) }.map(drop)
}

/// Reads register set `note` into `buf`, which gets the length of the set.
pub fn get_regset(tid: Tid, note: u32, buf: &mut Vec<u8>) -> Result<()> {
    get_regset_of(tid, note, REGSET_MAX, buf)
}

/// Reads at most `len` bytes of register set `note` into `buf`: room for any set takes longer to be made than most to be read.
pub fn get_regset_of(tid: Tid, note: u32, len: usize, buf: &mut Vec<u8>) -> Result<()> {
    buf.resize(len, 0);
    let mut iov = libc::iovec {
        iov_base: buf.as_mut_ptr().cast(),
        iov_len: buf.len(),
    };
    let data = std::ptr::from_mut(&mut iov).expose_provenance();
    // SAFETY: the kernel writes at most `iov_len` bytes, all of them `buf`'s, and the length into `iov`.
    unsafe {
        ptrace(
            "ptrace(PTRACE_GETREGSET)",
            GETREGSET,
            tid,
            note as usize,
            data,
        )
    }?;
    buf.truncate(iov.iov_len);
    Ok(())
}

/// Sets register set `note` from `bytes`.
pub fn set_regset(tid: Tid, note: u32, bytes: &[u8]) -> Result<()> {
    let iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let data = std::ptr::from_ref(&iov).expose_provenance();
    let call = "ptrace(PTRACE_SETREGSET)";
    // SAFETY: 1. the kernel reads `iov_len` bytes, the length of `bytes`.  2. It writes the length back into `iov`, which is
    // never read again; `iov` lives on this stack.
    unsafe { ptrace(call, SETREGSET, tid, note as usize, data) }.map(drop)
}

/// Returns the mask of blocked signals, bit n-1 = signal n.
pub fn get_sigmask(tid: Tid) -> Result<u64> {
    let mut mask = 0u64;
    let data = std::ptr::from_mut(&mut mask).expose_provenance();
    let call = "ptrace(PTRACE_GETSIGMASK)";
    // SAFETY: the kernel writes SIGSET_SIZE bytes, the size of `mask`.
    unsafe { ptrace(call, GETSIGMASK, tid, SIGSET_SIZE, data) }?;
    Ok(mask)
}

/// Sets the mask of blocked signals.
pub fn set_sigmask(tid: Tid, mask: u64) -> Result<()> {
    let data = std::ptr::from_ref(&mask).expose_provenance();
    let call = "ptrace(PTRACE_SETSIGMASK)";
    // SAFETY: the kernel reads SIGSET_SIZE bytes, the size of `mask`.
    unsafe { ptrace(call, SETSIGMASK, tid, SIGSET_SIZE, data) }.map(drop)
}

/// A queue of pending signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// The thread's own.
    Thread,
    /// Shared by the process.
    Process,
}

/// Returns at most `count` pending signals from number `offset` on, without taking them; empty at the end of the queue.
pub fn peek_siginfo(tid: Tid, queue: Queue, offset: u64, count: usize) -> Result<Vec<RawSiginfo>> {
    let call = "ptrace(PTRACE_PEEKSIGINFO)";
    let nr = i32::try_from(count).map_err(|_| Error::new(call, Errno::EINVAL))?;
    let args = libc::ptrace_peeksiginfo_args {
        off: offset,
        flags: u32::from(queue == Queue::Process),
        nr,
    };
    let mut infos = vec![[0; SIGINFO_SIZE]; count];
    let addr = std::ptr::from_ref(&args).expose_provenance();
    let data = infos.as_mut_ptr().expose_provenance();
    // SAFETY: 1. `addr` is a `ptrace_peeksiginfo_args`.  2. The kernel writes at most `nr` siginfos, as many as `infos` has.
    let got = unsafe { ptrace(call, PEEKSIGINFO, tid, addr, data) }?;
    infos.truncate(got);
    Ok(infos)
}

/// Returns the program of the thread's seccomp filter number `index`, the oldest being 0; `ENOENT` where there are no more.
pub fn seccomp_filter(tid: Tid, index: u64) -> Result<Vec<u8>> {
    const INSTRUCTION: usize = 8;
    let call = "ptrace(PTRACE_SECCOMP_GET_FILTER)";
    // SAFETY: without a place the kernel writes nothing, and tells the number of instructions.
    let count = unsafe { ptrace(call, SECCOMP_GET_FILTER, tid, index as usize, 0) }?;
    let mut program = vec![0u8; count * INSTRUCTION];
    let data = program.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel writes as many instructions as it told: a stopped thread's filters stay as they are.
    unsafe { ptrace(call, SECCOMP_GET_FILTER, tid, index as usize, data) }?;
    Ok(program)
}

/// Returns the flags of the thread's seccomp filter number `index` (4.17 and up).
pub fn seccomp_flags(tid: Tid, index: u64) -> Result<u64> {
    let mut metadata = [index, 0];
    let size = size_of_val(&metadata);
    let data = metadata.as_mut_ptr().expose_provenance();
    let call = "ptrace(PTRACE_SECCOMP_GET_METADATA)";
    // SAFETY: the kernel reads and writes `size` bytes, the size of `metadata` (`struct seccomp_metadata`).
    unsafe { ptrace(call, SECCOMP_GET_METADATA, tid, size, data) }?;
    Ok(metadata[1])
}

/// A thread's rseq registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RseqConfiguration {
    /// Address of `struct rseq`; 0 = not registered.
    pub addr: RemoteAddr,
    /// Length it was registered with.
    pub size: u32,
    /// Signature before abort handlers.
    pub signature: u32,
    /// Flags.
    pub flags: u32,
}

/// Returns the rseq registration.
pub fn rseq_configuration(tid: Tid) -> Result<RseqConfiguration> {
    let mut words = [0u32; 6];
    let size = size_of_val(&words);
    let data = words.as_mut_ptr().expose_provenance();
    let call = "ptrace(PTRACE_GET_RSEQ_CONFIGURATION)";
    // SAFETY: the kernel writes at most `size` bytes, the size of `words` (24, `struct ptrace_rseq_configuration`).
    unsafe { ptrace(call, GET_RSEQ_CONFIGURATION, tid, size, data) }?;
    let [low, high, size, signature, flags, _] = words;
    Ok(RseqConfiguration {
        addr: RemoteAddr(u64::from(high) << 32 | u64::from(low)),
        size,
        signature,
        flags,
    })
}

/// `struct ptrace_sud_config`: system-call user dispatch.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SyscallUserDispatch {
    /// `PR_SYS_DISPATCH_OFF` or `_ON`.
    pub mode: u64,
    /// Address of the selector byte; 0 = none.
    pub selector: u64,
    /// Start of the code that is let through.
    pub offset: u64,
    /// Its length.
    pub len: u64,
}

const _: () = assert!(size_of::<SyscallUserDispatch>() == 32);

/// Returns how system calls are dispatched to user space (6.4 and up).
pub fn get_syscall_user_dispatch(tid: Tid) -> Result<SyscallUserDispatch> {
    let mut config = SyscallUserDispatch::default();
    let size = size_of_val(&config);
    let data = std::ptr::from_mut(&mut config).expose_provenance();
    let call = "ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG)";
    // SAFETY: the kernel writes `size` bytes, the size of `config`; all its fields are plain numbers.
    unsafe { ptrace(call, GET_SYSCALL_USER_DISPATCH_CONFIG, tid, size, data) }?;
    Ok(config)
}

/// Sets how system calls are dispatched to user space (6.4 and up).
pub fn set_syscall_user_dispatch(tid: Tid, config: &SyscallUserDispatch) -> Result<()> {
    let data = std::ptr::from_ref(config).expose_provenance();
    let call = "ptrace(PTRACE_SET_SYSCALL_USER_DISPATCH_CONFIG)";
    let size = size_of_val(config);
    // SAFETY: the kernel reads `size` bytes, the size of `config`.
    unsafe { ptrace(call, SET_SYSCALL_USER_DISPATCH_CONFIG, tid, size, data) }.map(drop)
}

/// Returns the message of the event that stopped the thread, such as the number of its new thread.
pub fn geteventmsg(tid: Tid) -> Result<u64> {
    let mut message = 0u64;
    let data = std::ptr::from_mut(&mut message).expose_provenance();
    let call = "ptrace(PTRACE_GETEVENTMSG)";
    // SAFETY: the kernel writes one `unsigned long`, the size of `message`.
    unsafe { ptrace(call, GETEVENTMSG, tid, 0, data) }?;
    Ok(message)
}

/// Returns the siginfo of the signal that stopped the thread; `EINVAL` in a group stop.
pub fn getsiginfo(tid: Tid) -> Result<RawSiginfo> {
    let mut info: RawSiginfo = [0; SIGINFO_SIZE];
    let data = info.as_mut_ptr().expose_provenance();
    let call = "ptrace(PTRACE_GETSIGINFO)";
    // SAFETY: the kernel writes one `siginfo_t`, SIGINFO_SIZE bytes.
    unsafe { ptrace(call, GETSIGINFO, tid, 0, data) }?;
    Ok(info)
}

/// Returns the head of a thread's robust list and its length, of any thread we may ptrace (no stop needed).
pub fn get_robust_list(tid: Tid) -> Result<(RemoteAddr, u64)> {
    let mut head = 0u64;
    let mut len = 0u64;
    let call = "get_robust_list";
    // SAFETY: the kernel writes one word through each of the two pointers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_get_robust_list,
            tid.0,
            std::ptr::from_mut(&mut head),
            std::ptr::from_mut(&mut len),
        )
    };
    check(call, result)?;
    Ok((RemoteAddr(head), len))
}
