//! Between the fact and its record. Marks on file systems the peer does not keep: an extension.

use crate::image::error::{Checked, Wrong, wrong};
use crate::image::limits::path;
use crate::objects::watched;
use crate::snapshot::{Fanotify, FanotifyMark, Marked, OpenFile};
use proto::pb;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(
    file: &OpenFile,
    fown: pb::FownEntry,
    fact: &Fanotify,
) -> pb::FanotifyFileEntry {
    let mut record = pb::FanotifyFileEntry {
        id: file.id.0,
        flags: file.flags,
        fown,
        faflags: fact.init_flags,
        evflags: fact.event_flags,
        mark: Vec::new(),
        ext: None,
    };
    for mark in &fact.marks {
        let mut entry = pb::FanotifyMarkEntry {
            id: file.id.0,
            r#type: pb::MarkType::Inode as i32,
            mflags: mark.flags,
            mask: mark.mask,
            ignored_mask: mark.ignored,
            s_dev: 0,
            ie: None,
            me: None,
        };
        match &mark.on {
            Marked::Inode(on) => {
                entry.s_dev = on.dev;
                entry.ie = Some(pb::FanotifyInodeMarkEntry {
                    i_ino: on.inode,
                    f_handle: watched::image::to_record(on),
                });
            }
            Marked::Mount(id, path) => {
                entry.r#type = pb::MarkType::Mount as i32;
                entry.me = Some(pb::FanotifyMountMarkEntry {
                    mnt_id: *id,
                    path: Some(path.clone()),
                });
            }
            Marked::FileSystem(dev, path) => {
                let ext = record.ext.get_or_insert_with(Default::default);
                ext.mark.push(pb::ExtFilesystemMark {
                    dev: *dev,
                    path: path.clone(),
                    mflags: mark.flags,
                    mask: mark.mask,
                    ignored_mask: mark.ignored,
                });
                continue;
            }
        }
        record.mark.push(entry);
    }
    record
}

/// Returns the fact in `record`.
pub(crate) fn from_record(record: &pb::FanotifyFileEntry) -> Checked<Fanotify> {
    let ordinary = record.mark.iter().map(mark);
    let of_file_systems = record.ext.iter().flat_map(|ext| &ext.mark).map(|mark| {
        path(&mark.path)?;
        Ok(FanotifyMark {
            on: Marked::FileSystem(mark.dev, mark.path.clone()),
            flags: mark.mflags,
            mask: mark.mask,
            ignored: mark.ignored_mask,
        })
    });
    Ok(Fanotify {
        init_flags: record.faflags,
        event_flags: record.evflags,
        marks: ordinary.chain(of_file_systems).collect::<Checked<_>>()?,
    })
}

fn mark(record: &pb::FanotifyMarkEntry) -> Checked<FanotifyMark> {
    let on =
        match (
            pb::MarkType::try_from(record.r#type),
            &record.ie,
            &record.me,
        ) {
            (Ok(pb::MarkType::Inode), Some(inode), _) => Marked::Inode(
                watched::image::from_record(&inode.f_handle, record.s_dev, inode.i_ino)?,
            ),
            (Ok(pb::MarkType::Mount), _, Some(mount)) => {
                let name = mount.path.clone();
                let name = name.ok_or_else(|| Wrong::new("the path of a mount is missing"))?;
                path(&name)?;
                Marked::Mount(mount.mnt_id, name)
            }
            _ => return wrong!("a mark of type {}, or without its part", record.r#type),
        };
    Ok(FanotifyMark {
        on,
        flags: record.mflags,
        mask: record.mask,
        ignored: record.ignored_mask,
    })
}
