//! From the kernel to the fact: what `prctl`, `arch_prctl` and their like tell a task of itself.

use crate::infect::questions::{Answers, Arg, Asked, Buffer, Questions, u32_at, u64_at};

/// `PR_GET_MDWE` and its like are newer than the C library's headers (`linux/prctl.h`).
mod nr {
    pub const PR_GET_MEMORY_MERGE: u64 = 68;
    pub const PR_GET_MDWE: u64 = 66;
    pub const PR_GET_IO_FLUSHER: u64 = 58;
    pub const PR_SCHED_CORE: u64 = 62;
    pub const KEYCTL_GET_KEYRING_ID: u64 = 0;
    pub const THREAD_KEYRING: i32 = -1;
    pub const PROCESS_KEYRING: i32 = -2;
    pub const ARCH_GET_CPUID: u64 = 0x1011;
    pub const ARCH_GET_XCOMP_PERM: u64 = 0x1022;
    pub const MEMBARRIER_CMD_GET_REGISTRATIONS: u64 = 1 << 9;
}

/// Largest local descriptor table: 8192 entries of 8 bytes.
const LDT_LEN: usize = 8192 * 8;

/// Questions for the process.
#[derive(Debug)]
pub struct ProcessAttributes {
    dumpable: Asked,
    thp_disabled: Asked,
    subreaper: (Asked, Buffer),
    membarrier: Asked,
    mdwe: Asked,
    memory_merge: Asked,
    xcomp: (Asked, Buffer),
    ldt: (Asked, Buffer),
    clocks: [(Asked, Buffer); 2],
    core_cookie: (Asked, Buffer),
    process_keyring: Asked,
}

/// What a process says of itself.
#[derive(Debug, Clone, Default)]
pub struct ProcessFacts {
    /// `PR_GET_DUMPABLE`.
    pub dumpable: Option<i32>,
    /// `PR_GET_THP_DISABLE`: 1, and the flags it was set with.
    pub thp_disabled: u32,
    /// `PR_GET_CHILD_SUBREAPER`.
    pub child_subreaper: bool,
    /// `MEMBARRIER_CMD_GET_REGISTRATIONS` (6.3); `None` where the kernel cannot tell.
    pub membarrier: Option<u32>,
    /// `PR_GET_MDWE`.
    pub mdwe: Option<u32>,
    /// `PR_GET_MEMORY_MERGE`.
    pub memory_merge: Option<bool>,
    /// `ARCH_GET_XCOMP_PERM`.
    pub xcomp_permission: u64,
    /// Entries of `modify_ldt`.
    pub ldt: Vec<u8>,
    /// `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` as the process sees them, in nanoseconds.
    pub clocks_ns: [Option<i64>; 2],
    /// It has a core-scheduling cookie.
    pub has_core_cookie: bool,
    /// It has a process keyring.
    pub has_keyring: bool,
}

impl ProcessAttributes {
    /// Asks.
    pub fn ask(questions: &mut Questions) -> Self {
        let prctl = libc::SYS_prctl as u32;
        let mut plain = |option: u64| questions.ask(prctl, [Arg::Value(option)]);
        let (dumpable, thp_disabled) = (
            plain(libc::PR_GET_DUMPABLE as u64),
            plain(libc::PR_GET_THP_DISABLE as u64),
        );
        let (mdwe, memory_merge) = (plain(nr::PR_GET_MDWE), plain(nr::PR_GET_MEMORY_MERGE));
        let membarrier = questions.ask(
            libc::SYS_membarrier as u32,
            [Arg::Value(nr::MEMBARRIER_CMD_GET_REGISTRATIONS)],
        );
        let cookie = questions.space(8);
        // PR_SCHED_CORE_GET (0) of the calling (0) thread (0).
        let options = [nr::PR_SCHED_CORE, 0, 0, 0].map(Arg::Value);
        let [option, get, caller, thread] = options;
        let core_cookie = questions.ask(prctl, [option, get, caller, thread, cookie.into()]);
        let process_keyring = ask_keyring(questions, nr::PROCESS_KEYRING);
        let mut filled = |call: i64, first: u64, len: usize| {
            let buffer = questions.space(len);
            (
                questions.ask(
                    call as u32,
                    [Arg::Value(first), buffer.into(), Arg::Value(len as u64)],
                ),
                buffer,
            )
        };
        Self {
            dumpable,
            thp_disabled,
            membarrier,
            core_cookie: (core_cookie, cookie),
            process_keyring,
            mdwe,
            memory_merge,
            subreaper: filled(libc::SYS_prctl, libc::PR_GET_CHILD_SUBREAPER as u64, 8),
            xcomp: filled(libc::SYS_arch_prctl, nr::ARCH_GET_XCOMP_PERM, 8),
            ldt: filled(libc::SYS_modify_ldt, 0, LDT_LEN),
            clocks: [libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME]
                .map(|clock| filled(libc::SYS_clock_gettime, clock as u64, 16)),
        }
    }

    /// Reads the answers.
    pub fn read(&self, answers: &Answers) -> ProcessFacts {
        let number = |asked| answers.result(asked).ok().map(|value| value as u32);
        ProcessFacts {
            dumpable: number(self.dumpable).map(|value| value as i32),
            thp_disabled: number(self.thp_disabled).unwrap_or(0),
            child_subreaper: answers
                .filled(self.subreaper.0, self.subreaper.1)
                .is_some_and(|bytes| u32_at(bytes, 0) != 0),
            membarrier: number(self.membarrier),
            has_core_cookie: answers
                .filled(self.core_cookie.0, self.core_cookie.1)
                .is_some_and(|bytes| u64_at(bytes, 0) != 0),
            has_keyring: answers.result(self.process_keyring).is_ok(),
            mdwe: number(self.mdwe),
            memory_merge: number(self.memory_merge).map(|value| value != 0),
            xcomp_permission: answers
                .filled(self.xcomp.0, self.xcomp.1)
                .map_or(0, |bytes| u64_at(bytes, 0)),
            ldt: self.ldt(answers),
            clocks_ns: self.clocks.map(|(asked, buffer)| {
                let bytes = answers.filled(asked, buffer)?;
                Some(u64_at(bytes, 0) as i64 * 1_000_000_000 + u64_at(bytes, 8) as i64)
            }),
        }
    }

    /// `modify_ldt(0)` fills the buffer to the entries in use and returns their bytes, as an `int` in 32 bits.
    fn ldt(&self, answers: &Answers) -> Vec<u8> {
        let len = answers
            .result(self.ldt.0)
            .map_or(0, |len| (len as u32 as usize).min(LDT_LEN));
        answers.buffer(self.ldt.1)[..len].to_vec()
    }
}

/// Asks for a keyring without having one made. Of the session's this cannot be asked: it is made for being asked for
/// (`lookup_user_key`, `security/keys/process_keys.c`).
fn ask_keyring(questions: &mut Questions, which: i32) -> Asked {
    let args = [nr::KEYCTL_GET_KEYRING_ID, i64::from(which) as u64, 0].map(Arg::Value);
    questions.ask(libc::SYS_keyctl as u32, args)
}

/// Questions for each thread.
#[derive(Debug)]
pub struct ThreadAttributes {
    tid_address: (Asked, Buffer),
    pdeath: (Asked, Buffer),
    securebits: Asked,
    speculation: [Asked; 3],
    mce_kill: Asked,
    tsc: (Asked, Buffer),
    io_flusher: Asked,
    cpuid: Asked,
    keyring: Asked,
}

/// What a thread says of itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThreadFacts {
    /// `PR_GET_TID_ADDRESS`.
    pub clear_child_tid: u64,
    /// `PR_GET_PDEATHSIG`.
    pub pdeath_signal: u32,
    /// `PR_GET_SECUREBITS`.
    pub securebits: u32,
    /// `PR_GET_SPECULATION_CTRL`, where settable per task (`PR_SPEC_PRCTL`).
    pub speculation: [Option<u32>; 3],
    /// `PR_MCE_KILL_GET`.
    pub mce_kill: Option<u32>,
    /// `PR_GET_TSC`.
    pub tsc_mode: Option<u32>,
    /// `PR_GET_IO_FLUSHER`; the kernel tells only those who could set it.
    pub io_flusher: Option<bool>,
    /// `ARCH_GET_CPUID` is 0.
    pub cpuid_faults: bool,
    /// It has a thread keyring.
    pub has_keyring: bool,
}

impl ThreadAttributes {
    /// Asks.
    pub fn ask(questions: &mut Questions) -> Self {
        let prctl = libc::SYS_prctl as u32;
        let mut filled = |option: u64| {
            let buffer = questions.space(8);
            (
                questions.ask(prctl, [Arg::Value(option), buffer.into()]),
                buffer,
            )
        };
        Self {
            tid_address: filled(libc::PR_GET_TID_ADDRESS as u64),
            pdeath: filled(libc::PR_GET_PDEATHSIG as u64),
            tsc: filled(libc::PR_GET_TSC as u64),
            keyring: ask_keyring(questions, nr::THREAD_KEYRING),
            mce_kill: questions.ask(prctl, [Arg::Value(libc::PR_MCE_KILL_GET as u64)]),
            io_flusher: questions.ask(prctl, [Arg::Value(nr::PR_GET_IO_FLUSHER)]),
            cpuid: questions.ask(
                libc::SYS_arch_prctl as u32,
                [Arg::Value(nr::ARCH_GET_CPUID)],
            ),
            securebits: questions.ask(prctl, [Arg::Value(libc::PR_GET_SECUREBITS as u64)]),
            speculation: [0u64, 1, 2].map(|which| {
                questions.ask(
                    prctl,
                    [
                        Arg::Value(libc::PR_GET_SPECULATION_CTRL as u64),
                        Arg::Value(which),
                    ],
                )
            }),
        }
    }

    /// Reads the answers.
    pub fn read(&self, answers: &Answers) -> ThreadFacts {
        let number = |asked| answers.result(asked).ok().map(|value| value as u32);
        ThreadFacts {
            mce_kill: number(self.mce_kill),
            tsc_mode: answers
                .filled(self.tsc.0, self.tsc.1)
                .map(|bytes| u32_at(bytes, 0)),
            io_flusher: number(self.io_flusher).map(|value| value != 0),
            cpuid_faults: number(self.cpuid) == Some(0),
            has_keyring: answers.result(self.keyring).is_ok(),
            clear_child_tid: answers
                .filled(self.tid_address.0, self.tid_address.1)
                .map_or(0, |bytes| u64_at(bytes, 0)),
            pdeath_signal: answers
                .filled(self.pdeath.0, self.pdeath.1)
                .map_or(0, |bytes| u32_at(bytes, 0)),
            securebits: answers
                .result(self.securebits)
                .map_or(0, |bits| bits as u32),
            speculation: self.speculation.map(|asked| {
                let value = answers.result(asked).ok()? as u32;
                (value & libc::PR_SPEC_PRCTL != 0).then_some(value)
            }),
        }
    }
}
