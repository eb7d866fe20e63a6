//! Between the fact and its record. That events waited, the peer does not keep: an extension.

use crate::image::error::{Checked, wrong};
use crate::objects::watched;
use crate::snapshot::{Inotify, InotifyWatch, OpenFile};
use proto::pb;
use std::collections::BTreeSet;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(
    file: &OpenFile,
    fown: pb::FownEntry,
    fact: &Inotify,
) -> pb::InotifyFileEntry {
    let watch = |watch: &InotifyWatch| pb::InotifyWdEntry {
        id: file.id.0,
        i_ino: watch.on.inode,
        mask: watch.mask,
        ignored_mask: 0,
        s_dev: watch.on.dev,
        wd: watch.wd as u32,
        f_handle: watched::image::to_record(&watch.on),
    };
    pb::InotifyFileEntry {
        id: file.id.0,
        flags: file.flags,
        fown,
        wd: fact.watches.iter().map(watch).collect(),
        ext: fact.overflow.then_some(pb::ExtInotify {
            overflow: Some(true),
        }),
    }
}

/// Returns the fact in `record`.
pub(crate) fn from_record(record: &pb::InotifyFileEntry) -> Checked<Inotify> {
    let mut watches = Vec::with_capacity(record.wd.len());
    let mut numbers = BTreeSet::new();
    for watch in &record.wd {
        let wd = match i32::try_from(watch.wd) {
            Ok(wd) if wd > 0 && numbers.insert(wd) => wd,
            _ => return wrong!("watch {} is none, or is there twice", watch.wd),
        };
        watches.push(InotifyWatch {
            wd,
            mask: watch.mask,
            on: watched::image::from_record(&watch.f_handle, watch.s_dev, watch.i_ino)?,
        });
    }
    watches.sort_by_key(|watch| watch.wd);
    let overflow = record.ext.as_ref().and_then(|ext| ext.overflow);
    Ok(Inotify {
        watches,
        overflow: overflow == Some(true),
    })
}
