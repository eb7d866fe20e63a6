//! This machine, its kernel, and this process, as a restore has to know them: asked of the system, nothing decided.
//!
//! The restored tree begins with the execution of a program, which changes credentials. So those told here are what that
//! leaves ([`after_exec`]), not what this process has now.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use object::{Object, ObjectSymbol};

use crate::blobs;
use crate::image::ImageSet;
use crate::objects::aio::{self, RingState};
use crate::objects::{inet, packet, tun};
use crate::plan::host::{HostQueue, HostSegment, LIMITS};
use crate::plan::{Host, Vdso, VdsoCode};
use crate::procfs::{self, Subject, attributes, limits, smaps, stat, status, sysvipc};
use crate::snapshot::{Creds, FileKind, Limit, Mm, PAGE_SIZE, PageLocation, TerminalInfo, VmaKind};
use crate::sys::{self, Pid, Tid, file, process, sched, socket};

/// A question that the system did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of `/proc`.
    #[error(transparent)]
    Proc(#[from] procfs::Error),
    /// A system call.
    #[error(transparent)]
    Call(#[from] sys::Error),
    /// A number of `/proc/sys`.
    #[error("{path}: no number")]
    NoNumber {
        /// The file.
        path: &'static str,
    },
    /// A vDSO that is no ELF image.
    #[error("the vDSO of {whose} cannot be read")]
    Vdso {
        /// `this kernel`, or the dumped task.
        whose: String,
        /// Why.
        #[source]
        source: object::Error,
    },
}

type Result<T> = std::result::Result<T, Error>;

/// `CAP_LAST_CAP` of kernels that do not say.
const LAST_CAP: &str = "/proc/sys/kernel/cap_last_cap";
const MAX_QUEUED_EVENTS: &str = "/proc/sys/fs/inotify/max_queued_events";
const PIPE_MAX_SIZE: &str = "/proc/sys/fs/pipe-max-size";
const MMAP_MIN_ADDR: &str = "/proc/sys/vm/mmap_min_addr";
/// Most bytes of a dumped vDSO's code; today's have two or three pages.
const VDSO_MAX: u64 = 1 << 20;

/// Asks the system for all that the planner wants to know for a restore of these images.
pub fn probe_host(images: &ImageSet) -> Result<Host> {
    let this = Pid::this();
    let place = stat::read(this)?;
    Ok(Host {
        blob_len: blobs::RESTORER.mem_size as u64,
        mmap_min_addr: number(MMAP_MIN_ADDR)?,
        vdso: own_vdso(this)?,
        dumped_vdso: dumped_vdsos(images)?,
        timer_restore_ids: process::can_restore_timer_ids(),
        has_area_names: process::can_name_memory(),
        may_suspend_seccomp: may_suspend_seccomp(this)?,
        creds: own_creds(this)?,
        sid: place.session,
        pgid: place.pgrp,
        rlimits: own_limits(this)?,
        oom_score_adj: attributes::read_oom_score_adj(this)?,
        loginuid: own_loginuid(this),
        affinity: sched::getaffinity(Tid::this())?,
        has_autogroup: attributes::has_autogroups(),
        terminal: terminal_path(place.tty_nr),
        ptys: ptys(images),
        last_cap: number(LAST_CAP)? as u32,
        pipe_max_size: number(PIPE_MAX_SIZE)? as u32,
        hidden: hidden(),
        inotify_max_events: number(MAX_QUEUED_EVENTS).map_or(0, |most| most as u32),
        xcr0: arch::native::xstate::enabled(),
        rings: rings(images),
        interfaces: interfaces(images),
        segments: match images.snapshot.segments.is_empty() || images.snapshot.ipc.is_some() {
            true => Vec::new(),
            false => host_segments()?,
        },
        queues: match images.snapshot.posix_queues.is_empty() || images.snapshot.ipc.is_some() {
            true => Vec::new(),
            false => host_queues(images)?,
        },
    })
}

/// Returns the interfaces that sockets of the images name, as far as they are here.
fn interfaces(images: &ImageSet) -> BTreeMap<Vec<u8>, u32> {
    let files = images.snapshot.files.iter();
    let names = files.flat_map(|file| match &file.kind {
        FileKind::Inet(socket) => inet::plan::names(socket).collect(),
        FileKind::Packet(socket) => packet::plan::names(socket).collect(),
        FileKind::Tun(tun) => tun::plan::name(tun).into_iter().collect(),
        _ => Vec::new(),
    });
    let names = names.filter(|name| !name.is_empty());
    if let Some(own) = &images.snapshot.network {
        let links = own.links.iter();
        return links.map(|link| (link.name.clone(), link.index)).collect();
    }
    names
        .filter_map(|name| Some((name.clone(), socket::interface_index(name)?)))
        .collect()
}

fn host_segments() -> Result<Vec<HostSegment>> {
    let table = sysvipc::read_shm()?;
    let segment = |shm: &sysvipc::Shm| HostSegment {
        id: shm.id,
        key: shm.key,
        size: shm.size,
        creator: shm.creator,
        changed: shm.changed,
        attached: shm.attached,
    };
    Ok(table.iter().map(segment).collect())
}

/// Returns the POSIX message queues that have the name of one of the images.
fn host_queues(images: &ImageSet) -> Result<Vec<HostQueue>> {
    let folder = sys::ipc::message_queues()?;
    let mut all = Vec::new();
    for wanted in &images.snapshot.posix_queues {
        let name = OsStr::from_bytes(&wanted.name);
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
        let Ok(queue) = File::open(path.join(name)) else {
            continue;
        };
        let stat = file::statx(&queue)?;
        let is = sys::mqueue::attributes(&queue)?;
        let link = [b"/", &wanted.name[..]].concat();
        let is_ours = |pid| pid == Pid::this();
        all.push(HostQueue {
            name: wanted.name.clone(),
            inode: stat.ino,
            changed_ns: procfs::mqueue::nanoseconds(stat.ctime),
            max_messages: is.max_messages,
            message_size: is.message_size,
            messages: is.messages,
            opener: procfs::mqueue::opener(&link, (stat.dev, stat.ino), is_ours).map(|pid| pid.0),
        });
    }
    Ok(all)
}

/// Returns whether `PTRACE_O_SUSPEND_SECCOMP` is ours to set (`check_ptrace_options`, `kernel/ptrace.c`).
pub(crate) fn may_suspend_seccomp(this: Pid) -> Result<bool> {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = status::read(this)?;
    Ok(status.cap_effective & 1 << CAP_SYS_ADMIN != 0 && status.seccomp == 0)
}

/// Returns how many areas a process may have (`vm.max_map_count`).
///
/// # Errors
/// The kernel does not say.
pub fn most_areas() -> Result<u64> {
    number("/proc/sys/vm/max_map_count")
}

fn number(path: &'static str) -> Result<u64> {
    let mut bytes = Vec::new();
    procfs::read_into(path.as_ref(), &mut bytes)?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let value = text.trim().parse();
    value.map_err(|_| Error::NoNumber { path })
}

fn own_limits(this: Pid) -> Result<[Limit; LIMITS]> {
    let read = limits::read(this)?;
    Ok(read.map(|limit| Limit {
        soft: limit.soft,
        hard: limit.hard,
    }))
}

/// Returns the indices of pseudo-terminals that are in use, where the images have some.
fn ptys(images: &ImageSet) -> BTreeSet<u32> {
    let has_some = images
        .snapshot
        .terminals
        .iter()
        .any(TerminalInfo::is_master);
    let entries = has_some
        .then(|| std::fs::read_dir("/dev/pts").ok())
        .flatten();
    let names = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect()
}

/// Returns a path that nobody has.
fn hidden() -> Vec<u8> {
    use std::os::unix::ffi::OsStringExt;
    let name = format!("orchestrator-sockets-{}", std::process::id());
    std::env::temp_dir().join(name).into_os_string().into_vec()
}

/// Returns the login user; kernels without audit have no such file.
fn own_loginuid(this: Pid) -> Option<u32> {
    let uid = attributes::read_loginuid(this).ok();
    uid.filter(|&uid| uid != u32::MAX)
}

fn own_creds(this: Pid) -> Result<Creds> {
    let status = status::read((this, Tid::this()))?;
    let now = Creds {
        uids: status.uid,
        gids: status.gid,
        groups: status.groups,
        cap_inheritable: status.cap_inheritable,
        cap_permitted: status.cap_permitted,
        cap_effective: status.cap_effective,
        cap_bounding: status.cap_bounding,
        cap_ambient: status.cap_ambient,
        securebits: process::securebits()?,
        no_new_privs: status.no_new_privs,
        lsm_profile: None,
    };
    Ok(after_exec(now))
}

/// `SECBIT_NOROOT` and `SECBIT_KEEP_CAPS` (`include/uapi/linux/securebits.h`).
const NOROOT: u32 = 1;
const KEEP_CAPS: u32 = 1 << 4;

/// Returns what credentials become by executing a program without capabilities of its own (`cap_bprm_creds_from_file`,
/// `security/commoncap.c`).
fn after_exec(mut creds: Creds) -> Creds {
    let [real, effective, ..] = creds.uids;
    let is_root = creds.securebits & NOROOT == 0;
    let full = creds.cap_bounding | creds.cap_inheritable;
    let (permitted, is_effective) = if is_root && (real == 0 || effective == 0) {
        (full, effective == 0)
    } else {
        (creds.cap_ambient, true)
    };
    let allowed = if creds.no_new_privs {
        permitted & creds.cap_permitted
    } else {
        permitted
    };
    creds.cap_permitted = allowed;
    creds.cap_effective = if is_effective {
        allowed
    } else {
        creds.cap_ambient
    };
    // The saved and the file-system ids follow the effective ones.
    creds.uids[2..].fill(effective);
    let effective_gid = creds.gids[1];
    creds.gids[2..].fill(effective_gid);
    creds.securebits &= !KEEP_CAPS;
    creds
}

/// Returns the path of the terminal with this packed device number.
fn terminal_path(packed: i32) -> Option<Vec<u8>> {
    let packed = packed as u32;
    let major = packed >> 8 & 0xfff;
    let minor = (packed & 0xff) | (packed >> 12 & 0xf_ff00);
    let guess = match major {
        0 => return None,
        // Unix98 terminals (`Documentation/admin-guide/devices.txt`): 256 to each major number.
        136..=143 => format!("/dev/pts/{}", (major - 136) * 256 + minor),
        4 if minor < 64 => format!("/dev/tty{minor}"),
        4 => format!("/dev/ttyS{}", minor - 64),
        5 if minor == 1 => "/dev/console".into(),
        229 => format!("/dev/hvc{minor}"),
        _ => return own_terminal((major, minor)),
    };
    let path = std::ffi::CString::new(guess).ok()?;
    let found = file::statx_path(&path).ok();
    match found {
        Some(found) if found.rdev == (major, minor) => Some(path.into_bytes()),
        _ => own_terminal((major, minor)),
    }
}

/// Returns the path of the one of our first descriptors that is this device.
fn own_terminal(device: (u32, u32)) -> Option<Vec<u8>> {
    (0..3).find_map(|fd| {
        let path = std::ffi::CString::new(format!("/proc/self/fd/{fd}")).ok()?;
        let found = file::statx_path(&path).ok()?;
        let target = procfs::fd::read_target(Pid::this(), sys::RemoteFd(fd));
        (found.rdev == device).then_some(target.ok()?)
    })
}

fn own_vdso(this: Pid) -> Result<Vdso> {
    let areas = smaps::read_maps(this)?;
    let is = |vma: &&smaps::Vma, name: &[u8]| areas.path(vma).starts_with(name);
    let Some(code) = areas.vmas.iter().find(|vma| is(vma, b"[vdso]")) else {
        return Ok(Vdso::default());
    };
    let data: Vec<_> = areas.vmas.iter().filter(|vma| is(vma, b"[vvar")).collect();
    let data_len = data.iter().map(|vma| vma.end - vma.start).sum();
    let data_first = data.iter().all(|vma| vma.start < code.start);
    let mut bytes = vec![0; (code.end - code.start) as usize];
    let path = Subject::from(this).path("mem");
    let failed = |source| procfs::Error::Read {
        path: path.clone(),
        source,
    };
    let memory = File::open(&path).map_err(failed)?;
    std::os::unix::fs::FileExt::read_exact_at(&memory, &mut bytes, code.start).map_err(failed)?;
    Ok(Vdso {
        data_len,
        data_first,
        code: vdso_code(bytes, "this kernel")?,
    })
}

/// Returns the vDSOs whose code the images hold, by task.
fn dumped_vdsos(images: &ImageSet) -> Result<BTreeMap<i32, VdsoCode>> {
    let mut found = BTreeMap::new();
    for task in &images.snapshot.tasks {
        let bytes = task.mm.as_ref().and_then(|mm| dumped_code(images, mm));
        if let Some(bytes) = bytes {
            let whose = format!("task {}", task.pid);
            found.insert(task.pid, vdso_code(bytes, &whose)?);
        }
    }
    Ok(found)
}

fn dumped_code(images: &ImageSet, mm: &Mm) -> Option<Vec<u8>> {
    let vma = mm.vmas.iter().find(|vma| vma.kind == VmaKind::Vdso)?;
    if vma.len() > VDSO_MAX {
        return None;
    }
    let mut bytes = Vec::with_capacity(vma.len() as usize);
    while (bytes.len() as u64) < vma.len() {
        bytes.extend_from_slice(&page(images, mm, vma.start + bytes.len() as u64)?);
    }
    Some(bytes)
}

/// Returns the page at this address, if the set itself holds it.
fn page(images: &ImageSet, mm: &Mm, addr: u64) -> Option<[u8; PAGE_SIZE as usize]> {
    let mut runs = mm.pages.iter();
    let run = runs.find(|run| (run.start..run.start + run.pages * PAGE_SIZE).contains(&addr))?;
    let PageLocation::Here { pages_id, offset } = run.at else {
        return None;
    };
    let mut page = [0; PAGE_SIZE as usize];
    let at = offset + (addr - run.start);
    let source = images.pages.get(&pages_id)?;
    std::os::unix::fs::FileExt::read_exact_at(source, &mut page, at).ok()?;
    Some(page)
}

/// Returns the states of rings of asynchronous I/O whose pages the images hold.
fn rings(images: &ImageSet) -> BTreeMap<(i32, u64), RingState> {
    let mut found = BTreeMap::new();
    for task in &images.snapshot.tasks {
        let Some(mm) = &task.mm else {
            continue;
        };
        for vma in mm.vmas.iter().filter(|vma| vma.kind == VmaKind::AioRing) {
            let state = page(images, mm, vma.start)
                .and_then(|page| aio::state(&page[..aio::HEADER], vma.len()));
            found.extend(state.map(|state| ((task.pid, vma.start), state)));
        }
    }
    found
}

/// Returns the code with its functions.
fn vdso_code(bytes: Vec<u8>, whose: &str) -> Result<VdsoCode> {
    let elf = object::File::parse(&*bytes).map_err(|source| Error::Vdso {
        whose: whose.into(),
        source,
    })?;
    let functions = elf
        .dynamic_symbols()
        .filter(|symbol| symbol.is_definition() && symbol.kind() == object::SymbolKind::Text);
    let symbols = functions
        .filter_map(|symbol| Some((symbol.name_bytes().ok()?.to_vec(), symbol.address())))
        .collect();
    Ok(VdsoCode { bytes, symbols })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_vdso_has_its_clock() {
        let vdso = own_vdso(Pid::this()).expect("read");
        let symbol = vdso.code.symbols.get(&b"__vdso_clock_gettime"[..]);
        let at = symbol.copied().expect("x86-64 kernels have it");
        assert!(at < vdso.code.bytes.len() as u64);
        assert!(vdso.data_len > 0);
    }

    #[test]
    fn execution_gives_root_all_and_takes_from_others() {
        let creds = Creds {
            cap_bounding: 0xff,
            cap_permitted: 1,
            cap_effective: 1,
            ..Creds::default()
        };
        let root = after_exec(creds.clone());
        assert_eq!((root.cap_permitted, root.cap_effective), (0xff, 0xff));
        let user = after_exec(Creds {
            uids: [1000; 4],
            ..creds.clone()
        });
        assert_eq!((user.cap_permitted, user.cap_effective), (0, 0));
        let bound = after_exec(Creds {
            no_new_privs: true,
            ..creds
        });
        assert_eq!(bound.cap_permitted, 1);
    }
}
