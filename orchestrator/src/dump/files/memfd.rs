//! memfds: the inode once, with its content to be read later, and a description for each way that it was opened.

use super::{FileTable, HUGETLBFS_MAGIC};
use crate::dump::areas::content_id;
use crate::procfs::{self, smaps};
use crate::snapshot::*;
use crate::support::{Loss, Lost};
use crate::sys::{Pid, fd as kernel, file};
use std::os::fd::OwnedFd;

/// `MFD_HUGETLB` of `linux/memfd.h`; the size of the pages stands where flags of `mmap` have it.
const MFD_HUGETLB: u32 = 4;

impl FileTable {
    /// Returns the description for shared mappings of the memfd with this content id, if there is such a memfd.
    pub fn memfd_mapping(&mut self, shmid: u64) -> Option<FileId> {
        let inode_id = self.memfds.iter().find(|memfd| memfd.shmid == shmid)?.id;
        let is_it = |file: &&OpenFile| matches!(file.kind, FileKind::Memfd(memfd) if memfd.inode_id == inode_id);
        let known = self.files.iter().filter(is_it).map(|file| file.id);
        let known: Vec<FileId> = known.collect();
        let flags = libc::O_RDWR as u32;
        let found = known
            .into_iter()
            .find(|id| self.is_mapping_only(*id, flags));
        let kind = FileKind::Memfd(MemfdFile { inode_id, pos: 0 });
        Some(found.unwrap_or_else(|| self.add(flags, Owner::default(), kind)))
    }

    /// Returns the description of a mapped memfd: that of a descriptor on it, or one for the mapping alone.
    pub fn mapped_memfd(
        &mut self,
        pid: Pid,
        area: &smaps::Vma,
    ) -> Result<FileId, (String, &'static str)> {
        let lost =
            |error: &dyn std::fmt::Display| (format!("the memfd cannot be opened: {error}"), "");
        let link = format!("/proc/{}/map_files/{:x}-{:x}", pid.0, area.start, area.end);
        let writable = area.shared && area.vm_flags.contains(smaps::VmFlags::MAYWRITE);
        let opened = std::fs::OpenOptions::new()
            .read(true)
            .write(writable)
            .open(&link)
            .map_err(|error| lost(&error))?;
        let stat = file::statx(&opened).map_err(|error| lost(&error))?;
        let link =
            procfs::fd::read_link(pid, &format!("map_files/{:x}-{:x}", area.start, area.end))
                .map_err(|error| lost(&error))?;
        let flags = if writable {
            libc::O_RDWR
        } else {
            libc::O_RDONLY
        } as u32;
        if let Some((id, ..)) = self
            .memfd_files
            .iter()
            .find(|(id, inode, _)| *inode == stat.ino && self.is_mapping_only(*id, flags))
        {
            return Ok(*id);
        }
        self.add_memfd(opened.into(), &stat, &link, flags, Owner::default(), 0)
            .map_err(|reason| (reason, ""))
    }

    fn is_mapping_only(&self, id: FileId, flags: u32) -> bool {
        !self.described.contains(&id)
            && self
                .files
                .iter()
                .any(|file| file.id == id && file.flags == flags)
    }

    pub(super) fn add_memfd(
        &mut self,
        own: OwnedFd,
        stat: &file::FileStat,
        link: &[u8],
        flags: u32,
        owner: Owner,
        pos: u64,
    ) -> Result<FileId, String> {
        let inode_id = self.memfd_inode(&own, stat, link)?;
        let id = self.add(flags, owner, FileKind::Memfd(MemfdFile { inode_id, pos }));
        self.memfd_files.push((id, stat.ino, own));
        Ok(id)
    }

    fn memfd_inode(
        &mut self,
        own: &OwnedFd,
        stat: &file::FileStat,
        link: &[u8],
    ) -> Result<u32, String> {
        let shmid = content_id(stat.ino);
        if let Some(known) = self.memfds.iter().find(|memfd| memfd.shmid == shmid) {
            return Ok(known.id);
        }
        let huge = file::fstatfs(own).ok();
        let huge = huge.filter(|fs| fs.magic == HUGETLBFS_MAGIC);
        let name = link.strip_prefix(b"/memfd:").unwrap_or(link);
        let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
        if kernel::write_hint(own).is_some_and(|hint| hint != 0) {
            let name = String::from_utf8_lossy(name).into_owned();
            self.losses
                .push(Loss::with(Lost::WriteHint, format!("memfd {name}")));
        }
        let id = self.memfds.len() as u32 + 1;
        self.memfds.push(MemfdInode {
            id,
            name: name.to_vec(),
            uid: stat.uid,
            gid: stat.gid,
            size: stat.size,
            shmid,
            seals: kernel::seals(own).unwrap_or(0),
            hugetlb_flag: huge.map_or(0, |fs| {
                MFD_HUGETLB | fs.block_size.trailing_zeros() << libc::MAP_HUGE_SHIFT
            }),
            mode: Some(stat.mode),
        });
        Ok(id)
    }

    /// Returns a descriptor of the memfd with this content id.
    pub fn memfd_content(&self, shmid: u64) -> Option<&OwnedFd> {
        self.memfd_files
            .iter()
            .find(|(_, inode, _)| content_id(*inode) == shmid)
            .map(|(.., own)| own)
    }
}
