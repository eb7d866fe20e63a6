//! From the fact to operations. Pure.

use crate::plan::Builder;
use crate::snapshot::RegularFile;

/// Flags of `open` that say how a file is created or opened, and not what the description is afterwards; O_ASYNC needs
/// an owner first.
const NOT_AGAIN: i32 =
    libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC | libc::O_CLOEXEC | libc::O_ASYNC;

/// Returns the flags to open something with that had these (`F_GETFL`).
pub fn open_flags(recorded: u32) -> u32 {
    // It is O_DIRECTORY and one bit more, and the file is none.
    let is_nameless = recorded & libc::O_TMPFILE as u32 == libc::O_TMPFILE as u32;
    let nameless = if is_nameless { libc::O_TMPFILE } else { 0 };
    recorded & !((NOT_AGAIN | nameless) as u32)
}

/// Adds the opening by path, and the offset.
pub fn plan_open(b: &mut Builder, file: &RegularFile, flags: u32) -> i32 {
    let fd = b.open_path(&file.path, open_flags(flags));
    if flags & libc::O_PATH as u32 == 0 {
        plan_offset(b, fd, file.pos);
    }
    fd
}

/// Adds the offset of a description that has one.
pub fn plan_offset(b: &mut Builder, fd: i32, pos: u64) {
    if pos != 0 {
        let args = [fd as u64, pos, libc::SEEK_SET as u64];
        b.call_returns(libc::SYS_lseek, &args, pos as i64);
    }
}
