//! Sets of older writers: a sample is taken apart into the files that used to hold its parts, and must read the same.

use std::path::Path;

use orchestrator::image::read;
use prost::Message;
use proto::frame::{Reader, Writer};
use proto::kinds::{self, Kind};
use proto::pb;

use super::support::{copy, sample};

fn load<M: Message + Default>(path: &Path, kind: Kind) -> Vec<M> {
    let bytes = std::fs::read(path).unwrap();
    let mut reader = Reader::new(bytes.as_slice(), bytes.len() as u64, kind).unwrap();
    std::iter::from_fn(|| reader.record().unwrap()).collect()
}

fn store<M: Message>(path: &Path, kind: Kind, records: &[M]) {
    let mut writer = Writer::new(kind);
    for record in records {
        writer.record(record);
    }
    std::fs::write(path, writer.into_bytes()).unwrap();
}

/// Moves what a core holds today to the files that held it.
fn take_core_apart(dir: &Path) {
    let name = dir.join("core-21573.img");
    let mut core: pb::CoreEntry = load(&name, kinds::CORE).remove(0);
    let task = core.tc.as_mut().unwrap();
    store(
        &dir.join("rlimit-21573.img"),
        kinds::RLIMIT,
        &task.rlimits.take().unwrap().rlimits,
    );
    store(
        &dir.join("sigacts-21573.img"),
        kinds::SIGACTS,
        &std::mem::take(&mut task.sigactions),
    );
    let timers = task.timers.take().unwrap();
    store(
        &dir.join("itimers-21573.img"),
        kinds::ITIMERS,
        &[timers.real, timers.virt, timers.prof],
    );
    store(
        &dir.join("signal-s-21573.img"),
        kinds::SIGNALS,
        &task.signals_s.take().unwrap().signals,
    );
    let thread = core.thread_core.as_mut().unwrap();
    store(
        &dir.join("creds-21573.img"),
        kinds::CREDS,
        &[thread.creds.take().unwrap()],
    );
    store(
        &dir.join("signal-p-21573.img"),
        kinds::SIGNALS,
        &thread.signals_p.take().unwrap().signals,
    );
    let ids = dir.join("ids-21573.img");
    core.ids = Some(load(&ids, kinds::IDS).remove(0));
    std::fs::remove_file(ids).unwrap();
    store(&name, kinds::CORE, &[core]);
}

#[test]
fn a_set_in_the_older_layout_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    copy(&sample("sleep"), dir);
    take_core_apart(dir);
    let mm_name = dir.join("mm-21573.img");
    let mut mm: pb::MmEntry = load(&mm_name, kinds::MM).remove(0);
    store(
        &dir.join("vmas-21573.img"),
        kinds::VMAS,
        &std::mem::take(&mut mm.vmas),
    );
    store(&mm_name, kinds::MM, &[mm]);
    let files: Vec<pb::FileEntry> = load(&dir.join("files.img"), kinds::FILES);
    let files: Vec<pb::RegFileEntry> = files.into_iter().map(|file| file.reg.unwrap()).collect();
    store(&dir.join("reg-files.img"), kinds::REG_FILES, &files);
    std::fs::remove_file(dir.join("files.img")).unwrap();
    let new = read(&sample("sleep")).unwrap().snapshot;
    assert_eq!(read(dir).unwrap().snapshot, new);
}

#[test]
fn page_counts_of_older_writers_are_read() {
    let dir = tempfile::tempdir().unwrap();
    copy(&sample("sleep"), dir.path());
    let name = dir.path().join("pagemap-21573.img");
    let bytes = std::fs::read(&name).unwrap();
    let mut reader = Reader::new(bytes.as_slice(), bytes.len() as u64, kinds::PAGEMAP).unwrap();
    let mut writer = Writer::new(kinds::PAGEMAP);
    writer.record(&reader.record::<pb::PagemapHead>().unwrap().unwrap());
    while let Some(entry) = reader.record::<pb::PagemapEntry>().unwrap() {
        let pages = entry.nr_pages.unwrap() as u32;
        writer.record(&pb::PagemapEntry {
            compat_nr_pages: pages,
            nr_pages: None,
            flags: None,
            ..entry
        });
    }
    std::fs::write(&name, writer.into_bytes()).unwrap();
    let new = read(&sample("sleep")).unwrap().snapshot;
    assert_eq!(read(dir.path()).unwrap().snapshot, new);
}
