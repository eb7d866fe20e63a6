//! Deleted files: `ghost-file-ID.img`, a record and then the bytes, with a record before each run of them; and which open file
//! descriptions are of which, in `remap-fpath.img`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};

use proto::frame::Writer;
use proto::{kinds, pb};

use super::codec::{Decoder, read_all};
use super::dir::{Dir, failed};
use super::error::{Checked, Error, Result, Wrong, wrong};
use super::write::ImageWriter;
use crate::objects::regular::proc::whose;
use crate::snapshot::{FileId, FileKind, Ghost, GhostData, OpenFile, ProcOwner};
use crate::sys::file::{Whence, lseek};

const MICROS: u64 = 1_000_000;
const REMAP: &str = "remap-fpath.img";

impl ImageWriter {
    /// Writes the image of a deleted file, and for a regular one the content of `source`.
    pub fn ghost(&mut self, ghost: &Ghost, source: Option<&File>) -> Result<()> {
        let name = image_name(ghost.id);
        let mut image = self.create_file(&name)?;
        let failed = |source| failed("write", &name, source);
        let mut head = Writer::new(kinds::GHOST_FILE);
        head.record(&to_record(ghost, source.is_some()));
        image.write_all(&head.into_bytes()).map_err(failed)?;
        let mut records = 1;
        let mut at = 0;
        let Some(source) = source else {
            self.has_records(&name, records);
            return self.send_early(&name);
        };
        while let Some([start, end]) = data_from(source, at, ghost.size).map_err(failed)? {
            let mut chunk = Vec::new();
            append(
                &mut chunk,
                &pb::GhostChunkEntry {
                    len: end - start,
                    off: start,
                },
            );
            image.write_all(&chunk).map_err(failed)?;
            copy(source, start, end, &mut image).map_err(failed)?;
            at = end;
            records += 1;
        }
        self.has_records(&name, records);
        self.send_early(&name)
    }
}

fn image_name(id: u32) -> String {
    format!("ghost-file-{id:x}.img")
}

/// Appends a record with its length.
fn append(bytes: &mut Vec<u8>, record: &impl prost::Message) {
    let body = record.encode_to_vec();
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(body);
}

/// Returns the next range that may have data; a file system that cannot tell has data everywhere.
fn data_from(source: &File, at: u64, size: u64) -> io::Result<Option<[u64; 2]>> {
    if at >= size {
        return Ok(None);
    }
    let start = match lseek(source, at as i64, Whence::Data) {
        Ok(start) => start,
        Err(error) if error.errno as i32 == libc::ENXIO => return Ok(None),
        Err(_) => return Ok(Some([at, size])),
    };
    let end = lseek(source, start as i64, Whence::Hole).unwrap_or(size);
    Ok((start < size).then_some([start, end.min(size)]))
}

/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;

fn copy(source: &File, start: u64, end: u64, image: &mut File) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; CHUNK.min((end - start) as usize)];
    let mut at = start;
    while at < end {
        let len = buffer.len().min((end - at) as usize);
        source.read_exact_at(&mut buffer[..len], at)?;
        image.write_all(&buffer[..len])?;
        at += len as u64;
    }
    Ok(())
}

fn to_record(ghost: &Ghost, has_chunks: bool) -> pb::GhostFileEntry {
    let time = |us: u64| {
        Some(pb::Timeval {
            tv_sec: us / MICROS,
            tv_usec: us % MICROS,
        })
    };
    pb::GhostFileEntry {
        uid: ghost.uid,
        gid: ghost.gid,
        mode: ghost.mode,
        dev: Some(ghost.inode.0),
        ino: Some(ghost.inode.1),
        rdev: (ghost.rdev != 0).then_some(ghost.rdev),
        atim: time(ghost.times_us[0]),
        mtim: time(ghost.times_us[1]),
        chunks: has_chunks.then_some(true),
        size: has_chunks.then_some(ghost.size),
        symlnk_target: (!ghost.target.is_empty()).then(|| ghost.target.clone()),
    }
}

/// Marks the files that are deleted ones, and returns those without any name with their images. `nodes` are the files whose
/// paths other records hold, by the ids of these.
pub(super) fn read(
    dir: &Dir,
    files: &mut [OpenFile],
    nodes: &BTreeMap<u32, u32>,
) -> Result<(Vec<Ghost>, BTreeMap<u32, File>)> {
    let remaps = read_all::<pb::RemapFilePathEntry>(dir, REMAP, kinds::REMAP_FPATH)?;
    let mut ids = BTreeSet::new();
    for remap in remaps.unwrap_or_default() {
        for id in [Some(&remap.orig_id), nodes.get(&remap.orig_id)]
            .into_iter()
            .flatten()
        {
            let marked = mark(files, *id, &remap);
            ids.extend(marked.map_err(|wrong| wrong.at(REMAP, format!("file {id}")))?);
        }
    }
    mark_gone(files);
    let mut ghosts = Vec::new();
    let mut images = BTreeMap::new();
    for id in ids {
        let (ghost, image) = read_one(dir, id)?;
        ghosts.push(ghost);
        images.insert(id, image);
    }
    Ok((ghosts, images))
}

/// Marks a file as a deleted one, and returns the number of its image, if it has one.
fn mark(files: &mut [OpenFile], id: u32, remap: &pb::RemapFilePathEntry) -> Checked<Option<u32>> {
    let find = |files: &[OpenFile], id| files.binary_search_by_key(&id, |file| file.id.0).ok();
    let Some(index) = find(files, id) else {
        return Ok(None);
    };
    let kind = pb::RemapType::try_from(remap.remap_type.unwrap_or_default());
    let link = find(files, remap.remap_id).map(|link| files[link].kind.clone());
    let file = &mut files[index];
    let Some(regular) = file.kind.node_mut() else {
        return Ok(None);
    };
    match (kind, link) {
        (Ok(pb::RemapType::Ghost), _) => {
            regular.ghost = Some(remap.remap_id);
            // Its content comes from the image.
            regular.size = None;
            regular.build_id.clear();
            return Ok(Some(remap.remap_id));
        }
        // The restore removes it: no other name than one of a dump may pass.
        (Ok(pb::RemapType::Linked), Some(FileKind::Regular(link))) if is_link(&link.path) => {
            regular.link = Some(FileId(remap.remap_id));
        }
        (Ok(pb::RemapType::Linked), _) => {
            return wrong!(
                "file {}, which leads to it, is no link of a dump",
                remap.remap_id
            );
        }
        (Ok(pb::RemapType::Procfs), _) => {
            let pid = super::limits::pid(remap.remap_id)?;
            if whose(&regular.path).is_none_or(|whose| whose.pid != pid) {
                return wrong!("process {pid} has no file by its path");
            }
            regular.of = Some(ProcOwner::Gone(pid));
        }
        (Err(_), _) => {
            let path = String::from_utf8_lossy(&regular.path);
            file.kind = FileKind::Unsupported(format!("{path}, which was lost in an unknown way"));
        }
    }
    Ok(None)
}

/// Marks all files of processes that had ended: the peer says it of one of each.
fn mark_gone(files: &mut [OpenFile]) {
    let nodes = files.iter().filter_map(|file| file.kind.node());
    let gone: BTreeSet<i32> = nodes
        .filter_map(|node| match node.of {
            Some(ProcOwner::Gone(pid)) => Some(pid),
            _ => None,
        })
        .collect();
    for node in files.iter_mut().filter_map(|file| file.kind.node_mut()) {
        let owner = whose(&node.path).map(|whose| whose.pid);
        if let Some(pid) = owner.filter(|pid| gone.contains(pid)) {
            node.of = Some(ProcOwner::Gone(pid));
        }
    }
}

/// Returns whether a path is one that a dump gives to a file that was deleted under its own.
fn is_link(path: &[u8]) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next();
    name.is_some_and(|name| name.starts_with(b"link_remap."))
}

fn read_one(dir: &Dir, id: u32) -> Result<(Ghost, File)> {
    let name = image_name(id);
    let missing = || Error::Missing { file: name.clone() };
    let image = dir.open_file(&name)?.ok_or_else(missing)?;
    let len = image
        .metadata()
        .map_err(|source| failed("examine", &name, source))?
        .len();
    let mut decoder = Decoder::open(dir, &name, kinds::GHOST_FILE)?.ok_or_else(missing)?;
    let record: pb::GhostFileEntry = decoder.first()?;
    let at = |wrong: Wrong| wrong.at(&name, "deleted file");
    let mut ghost = from_record(id, &record).map_err(at)?;
    if ghost.mode & libc::S_IFMT != libc::S_IFREG {
        return Ok((ghost, image));
    }
    if record.chunks != Some(true) {
        let left = decoder.left();
        ghost.size = left;
        ghost.data.extend((left != 0).then_some(GhostData {
            offset: 0,
            len: left,
            at: len - left,
        }));
        return Ok((ghost, image));
    }
    let mut end = 0;
    while let Some(chunk) = decoder.record::<pb::GhostChunkEntry>()? {
        let stop = chunk.off.checked_add(chunk.len);
        if chunk.off < end || stop.is_none_or(|stop| stop > ghost.size) {
            return Err(at(Wrong::new(format!(
                "{} bytes at {} are out of order, or beyond its size of {}",
                chunk.len, chunk.off, ghost.size
            ))));
        }
        end = chunk.off + chunk.len;
        ghost.data.push(GhostData {
            offset: chunk.off,
            len: chunk.len,
            at: len - decoder.left(),
        });
        decoder.skip(chunk.len)?;
    }
    Ok((ghost, image))
}

fn from_record(id: u32, record: &pb::GhostFileEntry) -> Checked<Ghost> {
    let time = |time: Option<pb::Timeval>| {
        time.map_or(0, |time| {
            time.tv_sec
                .saturating_mul(MICROS)
                .saturating_add(time.tv_usec)
        })
    };
    let size = record.size.unwrap_or(0);
    if size > i64::MAX as u64 {
        return wrong!("no file is of {size} bytes");
    }
    Ok(Ghost {
        id,
        uid: record.uid,
        gid: record.gid,
        mode: record.mode,
        inode: (record.dev.unwrap_or(0), record.ino.unwrap_or(0)),
        rdev: record.rdev.unwrap_or(0),
        times_us: [time(record.atim), time(record.mtim)],
        size,
        target: record.symlnk_target.clone().unwrap_or_default(),
        data: Vec::new(),
    })
}
