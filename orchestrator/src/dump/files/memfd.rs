//! memfds: the inode once, with its content to be read later, and a description for each way that it was opened.

use super::{FileTable, HUGETLBFS_MAGIC};
use crate::procfs::{self, smaps};
use crate::snapshot::*;
use crate::support::{Loss, Lost};
use crate::sys::{Pid, fd as kernel, file};
use std::os::fd::OwnedFd;

impl FileTable {
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
        let shmid = stat.ino;
        if let Some(known) = self.memfds.iter().find(|memfd| memfd.shmid == shmid) {
            return Ok(known.id);
        }
        if file::fstatfs(own).is_ok_and(|fs| fs.magic == HUGETLBFS_MAGIC) {
            return Err("a memfd of huge pages is not kept yet".into());
        }
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
            hugetlb_flag: 0,
            mode: Some(stat.mode),
        });
        Ok(id)
    }

    /// Returns a descriptor of the memfd with this content id.
    pub fn memfd_content(&self, shmid: u64) -> Option<&OwnedFd> {
        self.memfd_files
            .iter()
            .find(|(_, inode, _)| *inode == shmid)
            .map(|(.., own)| own)
    }
}
