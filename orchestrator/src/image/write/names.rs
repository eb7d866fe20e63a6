//! Names of the files of a set.

/// Name of the file that makes an image set valid.
pub(in crate::image) const INVENTORY: &str = "inventory.img";

/// Names of images of which a set has one.
const SINGLE: [&str; 15] = [
    "mqueues.img",
    "bpfmap-data.img",
    "pstree.img",
    "files.img",
    "seccomp.img",
    "timens-0.img",
    "pipes-data.img",
    "fifo-data.img",
    "sk-queues.img",
    "filelocks.img",
    "remap-fpath.img",
    "memfd.img",
    "tty-info.img",
    "tty-data.img",
    "stats-dump",
];
/// Beginnings of the names of images of which a set has many: a number follows.
const NUMBERED: &[&str] = &[
    "core-",
    "ids-",
    "fs-",
    "fdinfo-",
    "mm-",
    "pagemap-shmem-",
    "pagemap-",
    "pages-",
    "working-set-",
    "ghost-file-",
    "tcp-stream-",
    "ipcns-shm-",
    "ipcns-sem-",
    "ipcns-msg-",
    "ipcns-var-",
    "netns-",
    "netdev-",
    "ifaddr-",
    "route-",
    "route6-",
    "rule-",
];

/// What notes of what was sent are called, with the number of a process.
const NOTE: &str = "sent-";

/// Returns the name of the image of a connection.
pub(in crate::image) fn stream_name(ino: u32) -> String {
    format!("tcp-stream-{ino:x}.img")
}

/// Returns whether a file is one that a set has. Others in the folder are nobody's business.
pub(super) fn is_of_a_set(name: &str) -> bool {
    let is_number = |name: &str| {
        let number = name.strip_suffix(".img").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut rests = NUMBERED.iter().filter_map(|begin| name.strip_prefix(begin));
    SINGLE.contains(&name) || rests.any(is_number)
}

/// Returns whether it is a file of one of these names that may come in a stream.
pub fn is_image(name: &str) -> bool {
    name == INVENTORY || is_of_a_set(name)
}

/// Returns whether a file holds pages, or says which.
pub(in crate::image) fn is_of_memory(name: &str) -> bool {
    name.starts_with("pagemap-") || name.starts_with("pages-")
}

/// Returns the name of the note of which pages of a process a page server got. It is for this machine alone: not what is copied to
/// another with the images.
pub(in crate::image) fn note_name(pid: i32) -> String {
    format!("{NOTE}{pid}")
}

/// Returns whether a file is such a note.
pub(super) fn is_note(name: &str) -> bool {
    let number = name.strip_prefix(NOTE);
    number.is_some_and(|number| number.parse::<i32>().is_ok())
}

/// Returns the name of a page file.
pub(super) fn pages_name(id: u32) -> String {
    format!("pages-{id}.img")
}
