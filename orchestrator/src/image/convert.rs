//! An image set written anew: with all that is ours resolved, so that the peer restores it, or with its pages packed.
//!
//! Records are copied as they are; what is made anew is pagemaps, page files and what the inventory says of them. The set is read
//! and checked as for a restore first, so what is damaged is not passed on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use proto::{kinds, pb};

use super::codec::{encode, read_one};
use super::common;
use super::dir::{Dir, failed};
use super::error::{Error, Result, Wrong};
use super::memory::is_covered;
use super::pages;
use super::read::{ImageSet, read};
use super::write::{
    IMG_VERSION, INVENTORY, ImageWriter, NATIVE_VERSION, PAGE_BATCHES, PARENT_TASK_PAGES,
    has_own_directories, has_protection_keys, is_of_memory,
};
use crate::memory::output::{PageOutput, Sink};
use crate::plan::inherit;
use crate::snapshot::{PAGE_SIZE, PageLocation, PageRun, Snapshot, Task, Vma, VmaKind};
use crate::wire::batches::Packing;

/// Bytes copied at a time.
const CHUNK: u64 = 1 << 20;

/// What a set is to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// What the peer restores too.
    Portable,
    /// With what is ours; pages packed if so.
    Native(Option<Packing>),
}

/// Writes the set in the folder `from` anew into the folder `to`, with the pages of its parents; returns how many pages it has.
///
/// # Errors
/// The set is damaged, or cannot be written.
pub fn convert(from: &Path, to: &Path, form: Form) -> Result<u64> {
    let set = read(from)?;
    let source = Dir::open(from)?;
    if source.identity()? == Dir::open(to)?.identity()? {
        return Err(Error::SameFolder { path: to.into() });
    }
    if form == Form::Portable && !set.snapshot.posix_queues.is_empty() {
        let what = "POSIX message queues";
        return Err(Error::NotPortable { what });
    }
    if form == Form::Portable && has_own_directories(&set.snapshot) {
        return Err(Error::NotPortable {
            what: "threads with directories of their own",
        });
    }
    if form == Form::Portable && has_protection_keys(&set.snapshot) {
        return Err(Error::NotPortable {
            what: "memory with protection keys",
        });
    }
    if form == Form::Portable && set.snapshot.origin.has_own_session {
        return Err(Error::NotPortable {
            what: "a session whose leader has gone",
        });
    }
    let mut conversion = Conversion {
        set: &set,
        writer: ImageWriter::create(to)?,
        form,
        next_id: 1,
        pages: 0,
        has_common: false,
    };
    conversion.copy_records(&source)?;
    conversion.write_memory()?;
    conversion.write_inventory(&source)?;
    let Conversion {
        mut writer, pages, ..
    } = conversion;
    writer.put_in_place()?;
    Ok(pages)
}

#[derive(Debug)]
struct Conversion<'a> {
    set: &'a ImageSet,
    writer: ImageWriter,
    form: Form,
    next_id: u32,
    pages: u64,
    has_common: bool,
}

impl Conversion<'_> {
    fn copy_records(&mut self, source: &Dir) -> Result<()> {
        let inventory: pb::InventoryEntry = read_one(source, INVENTORY, kinds::INVENTORY)?;
        let listed = inventory.ext.unwrap_or_default().image;
        for name in source.names()? {
            let is_record = name.ends_with(".img") || name == "stats-dump";
            if !is_record || is_of_memory(&name) || name == INVENTORY {
                continue;
            }
            if let Some(mut file) = source.open_file(&name)? {
                let mut copy = self.writer.create_file(&name)?;
                io::copy(&mut file, &mut copy).map_err(|source| failed("copy", &name, source))?;
                let listed = listed.iter().find(|image| image.name == name);
                if let Some(records) = listed.and_then(|image| image.records) {
                    self.writer.has_records(&name, records);
                }
            }
        }
        Ok(())
    }

    fn write_memory(&mut self) -> Result<()> {
        let set = self.set;
        let mut resolved: BTreeMap<i32, Vec<PageRun>> = BTreeMap::new();
        for task in &set.snapshot.tasks {
            let Some(mm) = &task.mm else {
                continue;
            };
            let parent = resolved.get(&task.ppid).map(Vec::as_slice);
            let parent = parent.unwrap_or_default();
            let mut runs = with_parents_pages(task, &mm.pages, parent)?;
            let own = runs.clone();
            if self.form != Form::Portable
                && let Some(ranges) = ranges_with_parent(&set.snapshot, task)
            {
                runs = common::left_to_parent(&set.pages, &runs, parent, &ranges)
                    .map_err(|source| failed("compare the pages of", "a task", source))?;
                self.has_common |= runs.iter().any(|run| run.at == PageLocation::ParentTask);
            }
            resolved.insert(task.pid, own);
            self.write_pages(&format!("pagemap-{}.img", task.pid), &runs, &mm.vmas)?;
        }
        for memory in &set.snapshot.shared {
            self.write_pages(
                &format!("pagemap-shmem-{}.img", memory.id),
                &memory.pages,
                &[],
            )?;
        }
        Ok(())
    }

    fn write_pages(&mut self, name: &str, runs: &[PageRun], vmas: &[Vma]) -> Result<()> {
        let pages_id = self.next_id;
        self.next_id += 1;
        let sink = Sink::File(self.writer.pages_file(pages_id)?);
        let sink = match self.form {
            Form::Native(Some(packing)) => sink.packed(packing),
            _ => sink,
        };
        let mut output = PageOutput::to(sink, pages_id);
        let mut elsewhere = Vec::new();
        let mut buffer = Vec::new();
        for run in runs {
            match run.at {
                PageLocation::Here { pages_id, offset } => {
                    let file = self.set.pages.get(&pages_id);
                    let file = file
                        .ok_or_else(|| Wrong::new("its page file is missing").at(name, "pages"))?;
                    copy(file, offset, run, &mut output, &mut buffer)
                        .map_err(|source| failed("copy the pages of", name, source))?;
                }
                _ => elsewhere.push(*run),
            }
        }
        output
            .finish()
            .map_err(|error| failed("write the pages of", name, io::Error::other(error)))?;
        self.pages += output.pages();
        let mut runs = output.take_runs();
        runs.extend(elsewhere);
        runs.sort_by_key(|run| run.start);
        let map = pages::encode(&runs, pages_id, vmas).map_err(|wrong| wrong.unwritable(name))?;
        self.writer.write(name, &map)
    }

    fn write_inventory(&mut self, source: &Dir) -> Result<()> {
        let mut inventory: pb::InventoryEntry = read_one(source, INVENTORY, kinds::INVENTORY)?;
        let ext = inventory.ext.get_or_insert_default();
        ext.image = self.writer.listing();
        let is_kept = |name: &String| name != PAGE_BATCHES && name != PARENT_TASK_PAGES;
        ext.extensions.retain(is_kept);
        if self.has_common {
            ext.extensions.push(PARENT_TASK_PAGES.into());
        }
        match self.form {
            Form::Portable => ext.extensions.clear(),
            Form::Native(Some(_)) => ext.extensions.push(PAGE_BATCHES.into()),
            Form::Native(None) => {}
        }
        inventory.img_version = match ext.extensions.is_empty() {
            true => IMG_VERSION,
            false => NATIVE_VERSION,
        };
        if *ext == pb::ExtInventory::default() {
            inventory.ext = None;
        }
        self.writer
            .write(INVENTORY, &encode(kinds::INVENTORY, [&inventory]))
    }
}

/// Returns the ranges in which a task may have pages in common with its parent.
fn ranges_with_parent(snapshot: &Snapshot, task: &Task) -> Option<Vec<[u64; 2]>> {
    let living: Vec<&Task> = snapshot
        .tasks
        .iter()
        .filter(|task| task.mm.is_some())
        .collect();
    let index = living.iter().position(|one| one.pid == task.pid)?;
    inherit::with_parent(&living, index).map(|(_, ranges)| ranges)
}

fn copy(
    file: &File,
    offset: u64,
    run: &PageRun,
    output: &mut PageOutput,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let len = run.pages * PAGE_SIZE;
    let mut done = 0;
    while done < len {
        let now = (len - done).min(CHUNK);
        buffer.resize(now as usize, 0);
        file.read_exact_at(buffer, offset + done)?;
        output
            .write(run.start + done, buffer)
            .map_err(io::Error::other)?;
        done += now;
    }
    Ok(())
}

/// Has every task's runs say where its pages lie themselves, also those that are as in its parent.
///
/// # Errors
/// A parent does not have such a page.
pub fn resolve_inherited(snapshot: &mut Snapshot) -> Result<()> {
    let mut resolved: BTreeMap<i32, Vec<PageRun>> = BTreeMap::new();
    for task in &mut snapshot.tasks {
        let Some(mm) = &task.mm else {
            continue;
        };
        let parent = resolved.get(&task.ppid).map(Vec::as_slice);
        let runs = with_parents_pages(task, &mm.pages, parent.unwrap_or_default())?;
        resolved.insert(task.pid, runs.clone());
        task.mm.as_mut().expect("it has memory").pages = runs;
    }
    Ok(())
}

/// Returns the runs of a task with those that are as in its parent replaced by the parent's own. Pages of zeros are stored for
/// neither, where they may be left out.
fn with_parents_pages(task: &Task, runs: &[PageRun], parent: &[PageRun]) -> Result<Vec<PageRun>> {
    let mut all = Vec::new();
    for run in runs {
        if run.at != PageLocation::ParentTask {
            all.push(*run);
            continue;
        }
        let end = end_of(run);
        let first = parent.partition_point(|other| end_of(other) <= run.start);
        let mut at = run.start;
        for other in parent[first..].iter().take_while(|other| other.start < end) {
            let PageLocation::Here { pages_id, offset } = other.at else {
                break;
            };
            leave_out(task, at, other.start)?;
            at = at.max(other.start);
            let until = end_of(other).min(end);
            all.push(PageRun {
                start: at,
                pages: (until - at) / PAGE_SIZE,
                at: PageLocation::Here {
                    pages_id,
                    offset: offset + (at - other.start),
                },
            });
            at = until;
        }
        leave_out(task, at, end)?;
    }
    Ok(all)
}

/// Looks whether pages that the parent has not got may be of zeros.
fn leave_out(task: &Task, start: u64, end: u64) -> Result<()> {
    let vmas = task.mm.as_ref().map_or(&[][..], |mm| &mm.vmas);
    let is_anonymous = |vma: &Vma| {
        matches!(
            vma.kind,
            VmaKind::Anonymous | VmaKind::Heap | VmaKind::Stack
        )
    };
    if start >= end || is_covered(vmas, start, end, is_anonymous) {
        return Ok(());
    }
    let name = format!("pagemap-{}.img", task.pid);
    let words = format!("its parent {} does not have page {start:#x}", task.ppid);
    Err(Wrong::new(words).at(&name, format!("run {start:#x}")))
}

fn end_of(run: &PageRun) -> u64 {
    run.start + run.pages * PAGE_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_the_parent_are_found_piece_by_piece() {
        let here = |start, pages, offset| PageRun {
            start,
            pages,
            at: PageLocation::Here {
                pages_id: 1,
                offset,
            },
        };
        let parent = [here(0x1000, 2, 0), here(0x3000, 4, 0x8000)];
        let common = |start, pages| PageRun {
            start,
            pages,
            at: PageLocation::ParentTask,
        };
        let task = Task::default();
        let found = with_parents_pages(&task, &[common(0x2000, 3)], &parent).expect("found");
        assert_eq!(found, [here(0x2000, 1, 0x1000), here(0x3000, 2, 0x8000)]);
        for run in [common(0x0, 2), common(0x6000, 2), common(0x9000, 1)] {
            assert!(
                with_parents_pages(&task, &[run], &parent).is_err(),
                "{run:?}"
            );
        }
        let zeros = Vma::new(
            [0x6000, 0x9000],
            3,
            libc::MAP_PRIVATE as u32,
            VmaKind::Anonymous,
        );
        let mut task = task;
        task.mm.get_or_insert_default().vmas.push(zeros);
        let found = with_parents_pages(&task, &[common(0x6000, 3)], &parent).expect("found");
        assert_eq!(found, [here(0x6000, 1, 0xb000)]);
    }
}
