//! Segments of System V shared memory: each made by the first task that has it attached, and attached by all by its id.
//!
//! In the host's namespace a segment outlives its processes: one that is still there is the one that was dumped if its id, key,
//! size, and the process and time that made it are the same. It gets its content back. What else has its id or its key stands
//! in the way.

use super::birth::plan_tie_again;
use super::descriptors::switch_user;
use super::fill::{self, Target};
use super::host::HostSegment;
use super::memory::{PROT_WRITE, area, plan_early_advice};
use super::program::{Builder, Object};
use super::task::Making;
use crate::objects::shm;
use crate::snapshot::{IpcPerm, PAGE_SIZE, ShmSegment, Vma, VmaKind};
use std::collections::BTreeMap;

/// `SHM_RDONLY`, `SHM_EXEC` (`include/uapi/linux/shm.h`).
const SHM_RDONLY: u64 = 0o10000;
const SHM_EXEC: u64 = 0o100_000;
/// Bits of an id that say its place in the kernel's table (`IPCMNI_SHIFT`, `ipc/util.h`).
const PLACE: u32 = 0x7fff;
/// `MADV_REMOVE`: the pages are gone from the segment too.
const MADV_REMOVE: u64 = 9;
/// `PR_SET_DUMPABLE`: a change of user takes it away, and with it the right of others to take descriptors.
const DUMPABLE: [u64; 2] = [libc::PR_SET_DUMPABLE as u64, 1];

/// What a segment finds on this host.
enum Found {
    Nothing,
    Itself,
    Obstacle(String, String),
}

/// Adds the segments that this task makes, with their content.
pub fn plan_make(m: &mut Making<'_>) {
    let own = m.sharing.system_v.iter();
    let own: Vec<u32> = own
        .filter(|(_, maker)| **maker == m.own.member)
        .map(|(id, _)| *id)
        .collect();
    for id in own {
        let all = &m.snapshot.segments;
        if let Some(segment) = all.iter().find(|segment| segment.perm.id == id) {
            plan_segment(m, segment);
        }
    }
}

fn name(segment: &ShmSegment) -> String {
    format!("System V shared memory {}", segment.perm.id)
}

fn plan_segment(m: &mut Making<'_>, segment: &ShmSegment) {
    m.b.object(Object::Named(name(segment)));
    let is_new = match found(segment, &m.host.segments) {
        Found::Nothing => true,
        Found::Itself => false,
        Found::Obstacle(reason, remedy) => {
            return m.report.refuse(name(segment), reason, remedy);
        }
    };
    if is_new {
        plan_new(m, segment);
    }
    let id = u64::from(segment.perm.id);
    let memory = m.snapshot.shared.iter().find(|memory| memory.id == id);
    let pages = memory.map_or(&[][..], |memory| &memory.pages);
    if pages.is_empty() && is_new && !segment.is_removed() {
        return;
    }
    let len = len(segment);
    let Some(at) = m.holes.take_aligned(len, page(segment)) else {
        let reason = "no free address space to fill it in";
        return m.report.refuse(name(segment), reason, "");
    };
    shm::plan::plan_attach(&mut m.b, segment.perm.id, at, 0);
    if segment.is_removed() {
        // It stays until the last has detached it, whatever becomes of this restore.
        shm::plan::plan_remove(&mut m.b, segment.perm.id);
    }
    if !is_new {
        m.b.call_returns(libc::SYS_madvise, &[at, len, MADV_REMOVE], 0);
    }
    fill::plan_fill(m, pages, Target::At(at), "System V shared memory");
    if segment.is_removed() {
        m.own.attached.push(at);
    } else {
        m.b.object(Object::Named(name(segment)));
        shm::plan::plan_detach(&mut m.b, at);
    }
}

/// Adds the segment, made by the user who made it.
fn plan_new(m: &mut Making<'_>, segment: &ShmSegment) {
    shm::plan::plan_create(&mut m.b, segment);
    let object = Object::Named(name(segment));
    plan_as_maker(m, &segment.perm, object, |b| {
        shm::plan::plan_get(b, segment)
    });
    shm::plan::plan_owner(&mut m.b, segment);
}

/// Adds what the user and group that made an object are to do.
pub fn plan_as_maker(
    m: &mut Making<'_>,
    perm: &IpcPerm,
    object: Object,
    make: impl FnOnce(&mut Builder),
) {
    let [uid, euid, ..] = m.host.creds.uids;
    let [_, egid, ..] = m.host.creds.gids;
    let is_other = (perm.cuid, perm.cgid) != (euid, egid);
    if is_other {
        switch_group(m, perm.cgid);
        switch_user(&mut m.b, uid, perm.cuid);
    }
    make(&mut m.b);
    if is_other {
        switch_user(&mut m.b, uid, euid);
        switch_group(m, egid);
        m.b.call_returns(libc::SYS_prctl, &DUMPABLE, 0);
        plan_tie_again(m);
        m.b.object(object);
    }
}

fn switch_group(m: &mut Making<'_>, egid: u32) {
    let same = u64::from(u32::MAX);
    let args = [same, u64::from(egid), same];
    m.b.call_returns(libc::SYS_setresgid, &args, 0);
}

/// Returns what of the host's segments is this one, or stands in its way.
fn found(segment: &ShmSegment, host: &[HostSegment]) -> Found {
    let perm = &segment.perm;
    let with_id = host.iter().find(|other| other.id == perm.id);
    if let Some(other) = with_id {
        let is_it = other.key == perm.key
            && other.size == segment.size
            && segment.made == Some((other.creator, other.changed));
        return match (is_it, other.attached) {
            (true, 0) => Found::Itself,
            (true, n) => Found::Obstacle(
                format!("it is still there, and attached {n} times by others"),
                "end the processes that use it".into(),
            ),
            (false, _) => Found::Obstacle(
                format!(
                    "its id is taken by another segment, of key {:#x}",
                    other.key
                ),
                format!("ipcrm -m {}, if nobody needs that", perm.id),
            ),
        };
    }
    let mut others = host.iter();
    let has_key = |other: &&HostSegment| perm.key != 0 && other.key == perm.key;
    if let Some(other) = others.clone().find(has_key) {
        return Found::Obstacle(
            format!("its key {:#x} is taken by segment {}", perm.key, other.id),
            format!("ipcrm -m {}, if nobody needs that", other.id),
        );
    }
    match others.find(|other| other.id & PLACE == perm.id & PLACE) {
        Some(other) => Found::Obstacle(
            format!("segment {} is in its place in the kernel's table", other.id),
            format!("ipcrm -m {}, if nobody needs that", other.id),
        ),
        None => Found::Nothing,
    }
}

/// Returns the size of a segment's pages.
fn page(segment: &ShmSegment) -> u64 {
    match segment.huge >> libc::MAP_HUGE_SHIFT & 0x3f {
        0 => PAGE_SIZE,
        log => 1 << log,
    }
}

fn len(segment: &ShmSegment) -> u64 {
    segment.size.next_multiple_of(page(segment))
}

/// Adds the attachments of the task: each of as many areas as were cut out of it.
pub fn plan_attachments(m: &mut Making<'_>) {
    let mut all: BTreeMap<(u32, u64), Vec<&Vma>> = BTreeMap::new();
    for vma in &m.own.mm.vmas {
        if let Some(id) = vma.segment() {
            let start = vma.start.wrapping_sub(vma.offset);
            all.entry((id, start)).or_default().push(vma);
        }
    }
    for ((id, _), vmas) in all {
        let segments = &m.snapshot.segments;
        if let Some(segment) = segments.iter().find(|segment| segment.perm.id == id) {
            plan_attachment(m, segment, &vmas);
        }
    }
}

fn plan_attachment(m: &mut Making<'_>, segment: &ShmSegment, vmas: &[&Vma]) {
    let first = vmas[0];
    let is_read_only = vmas
        .iter()
        .all(|vma| matches!(vma.kind, VmaKind::SystemVReadOnly(_)));
    let can_execute = vmas
        .iter()
        .any(|vma| vma.prot & libc::PROT_EXEC as u32 != 0);
    let flags = (u64::from(is_read_only) * SHM_RDONLY) | (u64::from(can_execute) * SHM_EXEC);
    let mut prot = libc::PROT_READ as u32;
    prot |= u32::from(!is_read_only) * PROT_WRITE;
    prot |= u32::from(can_execute) * libc::PROT_EXEC as u32;
    let len = len(segment);
    m.b.object(area(first));
    let is_whole = vmas.len() == 1 && first.offset == 0 && first.len() == len;
    if is_whole {
        shm::plan::plan_attach(&mut m.b, segment.perm.id, first.start, flags);
    } else {
        plan_parts(m, segment, vmas, flags);
    }
    for vma in vmas {
        m.own.mapped.insert(vma.start, prot);
        plan_early_advice(m, vma);
    }
}

/// Adds areas that are parts of an attachment: it is made elsewhere, and its parts are moved to where they belong.
fn plan_parts(m: &mut Making<'_>, segment: &ShmSegment, vmas: &[&Vma], flags: u64) {
    let len = len(segment);
    let Some(at) = m.holes.take_aligned(len, page(segment)) else {
        let reason = "no free address space to attach it in";
        return m.report.refuse(name(segment), reason, "");
    };
    shm::plan::plan_attach(&mut m.b, segment.perm.id, at, flags);
    let how = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
    let mut left = 0;
    for vma in vmas {
        if vma.offset > left {
            m.b.call_returns(libc::SYS_munmap, &[at + left, vma.offset - left], 0);
        }
        let args = [at + vma.offset, vma.len(), vma.len(), how, vma.start];
        m.b.call_returns(libc::SYS_mremap, &args, vma.start as i64);
        left = vma.offset + vma.len();
    }
    if left < len {
        m.b.call_returns(libc::SYS_munmap, &[at + left, len - left], 0);
    }
}

/// Adds the end of what held removed segments until all had attached them.
pub fn plan_finish(m: &mut Making<'_>) {
    for at in std::mem::take(&mut m.own.attached) {
        m.b.object(Object::Task("removed segments of System V shared memory"));
        shm::plan::plan_detach(&mut m.b, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(id: u32, key: u32) -> ShmSegment {
        ShmSegment {
            perm: IpcPerm {
                id,
                key,
                ..IpcPerm::default()
            },
            size: 4096,
            made: Some((77, 1000)),
            ..ShmSegment::default()
        }
    }

    fn on_host(id: u32, key: u32) -> HostSegment {
        HostSegment {
            id,
            key,
            size: 4096,
            creator: 77,
            changed: 1000,
            attached: 0,
        }
    }

    fn word(segment: &ShmSegment, host: &[HostSegment]) -> String {
        match found(segment, host) {
            Found::Nothing => "nothing".into(),
            Found::Itself => "itself".into(),
            Found::Obstacle(reason, _) => reason,
        }
    }

    #[test]
    fn only_the_very_segment_is_used_again() {
        let wanted = segment(32770, 5);
        assert_eq!(word(&wanted, &[]), "nothing");
        assert_eq!(word(&wanted, &[on_host(3, 6)]), "nothing");
        assert_eq!(word(&wanted, &[on_host(32770, 5)]), "itself");
        let later = HostSegment {
            changed: 1001,
            ..on_host(32770, 5)
        };
        assert!(word(&wanted, &[later]).contains("its id is taken"));
        let busy = HostSegment {
            attached: 1,
            ..on_host(32770, 5)
        };
        assert!(word(&wanted, &[busy]).contains("attached 1 times"));
        assert!(word(&wanted, &[on_host(9, 5)]).contains("its key 0x5 is taken by segment 9"));
        assert!(word(&wanted, &[on_host(2, 6)]).contains("segment 2 is in its place"));
    }
}
