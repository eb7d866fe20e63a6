//! What is written is read back as it was.

use std::io::Write;
use std::path::Path;

use orchestrator::image::{DumpStats, ImageWriter, read};
use orchestrator::snapshot::Snapshot;

use super::rich::{self, PAGES};
use super::support::{names, sample, words};

/// Writes `snapshot` with page files of `pages`.
pub fn write(
    dir: &Path,
    snapshot: &Snapshot,
    pages: &[(u32, u64)],
) -> orchestrator::image::Result<()> {
    let mut writer = ImageWriter::create(dir)?;
    for &(id, count) in pages {
        let mut file = writer.pages_file(id)?;
        for page in 0..count {
            file.write_all(&[page as u8; 4096]).unwrap();
        }
    }
    writer.finish(snapshot, &DumpStats::default())
}

#[test]
fn a_snapshot_with_everything_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = rich::snapshot();
    write(dir.path(), &snapshot, &PAGES).unwrap();
    let set = read(dir.path()).unwrap_or_else(|error| panic!("{}", words(&error)));
    assert_eq!(set.snapshot.files, snapshot.files);
    assert_eq!(set.snapshot.tasks, snapshot.tasks);
    assert_eq!(set.snapshot, snapshot);
    assert_eq!(
        set.pages.keys().copied().collect::<Vec<u32>>(),
        [3, 4, 5, 6]
    );
    assert_eq!(set.refusals(), []);
}

#[test]
fn what_was_read_of_the_peer_is_written_and_read_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let peer = read(&sample("sleep")).unwrap();
    write(dir.path(), &peer.snapshot, &[(1, 27)]).unwrap();
    let ours = read(dir.path()).unwrap_or_else(|error| panic!("{}", words(&error)));
    assert_eq!(ours.snapshot, peer.snapshot);
    let made = names(dir.path());
    let theirs = names(&sample("sleep"));
    let theirs: Vec<String> = theirs
        .into_iter()
        .filter(|name| name != "stats-restore")
        .collect();
    assert_eq!(made, theirs);
}

/// The peer's own bytes, wherever we say nothing more than it does: the inventory says what files there are.
#[test]
fn files_of_sleep_are_the_peers_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let peer = read(&sample("sleep")).unwrap();
    write(dir.path(), &peer.snapshot, &[(1, 27)]).unwrap();
    let same = [
        "fdinfo-2.img",
        "files.img",
        "fs-21573.img",
        "ids-21573.img",
        "mm-21573.img",
    ];
    for name in same.iter().chain(&[
        "pagemap-21573.img",
        "pstree.img",
        "seccomp.img",
        "timens-0.img",
    ]) {
        let ours = std::fs::read(dir.path().join(name)).unwrap();
        let theirs = std::fs::read(sample("sleep").join(name)).unwrap();
        assert_eq!(ours, theirs, "{name}");
    }
}

#[test]
fn an_abandoned_writer_leaves_the_older_set_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &rich::snapshot(), &PAGES).unwrap();
    let before = names(dir.path());
    let mut writer = ImageWriter::create(dir.path()).unwrap();
    writer.pages_file(3).unwrap();
    drop(writer);
    assert_eq!(names(dir.path()), before);
    read(dir.path()).unwrap();
}

#[test]
fn a_set_has_no_files_of_an_older_one_and_leaves_others_alone() {
    let dir = tempfile::tempdir().unwrap();
    let older = [
        "core-7.img",
        "pages-9.img",
        "ghost-file-1f.img",
        "filelocks.img",
    ];
    let others = ["disk.img", "core-.img", "pages-x.img", "dump.log"];
    for name in older.iter().chain(&others) {
        std::fs::write(dir.path().join(name), b"old").unwrap();
    }
    write(dir.path(), &rich::snapshot(), &PAGES).unwrap();
    let left = names(dir.path());
    assert!(
        older.iter().all(|name| !left.contains(&name.to_string())),
        "{left:?}"
    );
    assert!(
        others.iter().all(|name| left.contains(&name.to_string())),
        "{left:?}"
    );
    read(dir.path()).unwrap();
}

#[test]
fn one_dump_writes_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let writer = ImageWriter::create(dir.path()).unwrap();
    let error = words(&ImageWriter::create(dir.path()).unwrap_err());
    assert!(error.contains("another dump is writing"), "{error}");
    drop(writer);
    ImageWriter::create(dir.path()).unwrap();
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[test]
fn a_snapshot_whose_references_are_broken_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut snapshot = rich::snapshot();
    snapshot.files.remove(3);
    let error = write(dir.path(), &snapshot, &PAGES).unwrap_err();
    assert!(
        error.to_string().contains("descriptor 3 refers to no file"),
        "{error}"
    );
    assert_eq!(names(dir.path()), Vec::<String>::new());
}

#[test]
fn pages_that_lie_elsewhere_than_the_pagemap_can_say_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut snapshot = rich::snapshot();
    snapshot.tasks[0].mm.as_mut().unwrap().pages.remove(0);
    let error = write(dir.path(), &snapshot, &PAGES).unwrap_err();
    assert!(error.to_string().contains("pagemap-1000.img"), "{error}");
}

#[test]
fn a_file_that_cannot_be_created_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("mm-1000.img")).unwrap();
    let error = words(&write(dir.path(), &rich::snapshot(), &PAGES).unwrap_err());
    assert!(
        error.starts_with("cannot move into place mm-1000.img: "),
        "{error}"
    );
    assert_eq!(names(dir.path()), ["mm-1000.img"]);
}
