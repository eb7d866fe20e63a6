//! What the user leaves outside (`--external`): files and terminals that a restore is given. Pipes and sockets are told by
//! their other ends.

use super::FileTable;
use crate::external::Object;
use crate::snapshot::terminal::KIND_EXTERNAL;
use crate::snapshot::{ExternalFile, FileKind};
use crate::sys::file::FileStat;

impl FileTable {
    /// Returns the file that was named as outside, if this is it.
    pub(super) fn external_file(
        &self,
        mnt_id: i32,
        stat: &FileStat,
        pos: u64,
    ) -> Option<ExternalFile> {
        let object = Object::File(mnt_id, stat.ino);
        self.is_external(object).then(|| ExternalFile {
            key: object.to_string().into_bytes(),
            pos,
            mode: stat.mode,
            size: (stat.kind() == libc::S_IFREG).then_some(stat.size),
        })
    }

    /// Returns whether this terminal was named as outside. A master is never: nothing tells one from the others.
    pub(super) fn is_external_terminal(&self, stat: &FileStat) -> bool {
        let object = Object::Terminal(stat.packed_rdev(), stat.packed_dev());
        stat.kind() == libc::S_IFCHR && stat.rdev != (5, 2) && self.is_external(object)
    }

    fn is_external(&self, object: Object) -> bool {
        let mut named = self.choices.external.iter();
        named.any(|external| external.object == Some(object))
    }

    /// Returns what was named as outside and is nothing of the tree, in words.
    pub fn external_for_nothing(&self) -> Vec<String> {
        let named = self.choices.external.iter();
        // What is only for a restore is nothing of the tree here.
        let named = named.filter(|external| external.outer_link().is_none());
        let unknown = named.filter(|external| {
            let object = external.object;
            let mut files = self.files.iter();
            !files.any(|file| match &file.kind {
                FileKind::Pipe(end) => object == Some(Object::Pipe(end.pipe_id.into())),
                FileKind::Unix(socket) => {
                    let ends = [socket.ino, socket.peer];
                    ends.into_iter()
                        .any(|ino| object == Some(Object::Socket(ino)))
                }
                FileKind::External(file) => {
                    object.is_some_and(|object| object.to_string().as_bytes() == file.key)
                }
                FileKind::Terminal(terminal) => {
                    let mut infos = self.terminals.iter();
                    let info = infos.find(|info| info.id == terminal.info_id);
                    info.filter(|info| info.kind == KIND_EXTERNAL)
                        .is_some_and(|info| {
                            object == Some(Object::Terminal(info.rdev.into(), info.dev.into()))
                        })
                }
                _ => false,
            })
        });
        unknown.map(ToString::to_string).collect()
    }
}
