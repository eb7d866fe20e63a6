//! Broken image sets: an error that names the file, never a panic.

use std::path::Path;

use orchestrator::image::read;

use super::rich::{self, PAGES};
use super::roundtrip::write;
use super::support::{copy, names, sample, words};

#[test]
fn what_is_no_image_set_has_its_own_error() {
    let dir = tempfile::tempdir().unwrap();
    let fails = |path: &Path| words(&read(path).unwrap_err());
    assert!(fails(&dir.path().join("absent")).contains("cannot open the images folder"));
    assert!(fails(dir.path()).contains("no inventory.img in"));
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert!(fails(&file).contains("is no folder"));
    std::fs::write(dir.path().join("inventory.img"), b"").unwrap();
    assert!(fails(dir.path()).contains("inventory.img: the file is truncated"));
}

#[test]
fn an_unknown_version_is_named() {
    let dir = tempfile::tempdir().unwrap();
    copy(&sample("sleep"), dir.path());
    let path = dir.path().join("inventory.img");
    let mut bytes = std::fs::read(&path).unwrap();
    // Magic, length, then field 1: tag 8 and the version.
    assert_eq!(bytes[8..10], [8, 2]);
    bytes[9] = 3;
    std::fs::write(&path, bytes).unwrap();
    assert!(words(&read(dir.path()).unwrap_err()).contains("image version 3 is not known"));
}

#[test]
fn a_missing_file_is_named() {
    for name in [
        "core-21573.img",
        "fs-21573.img",
        "ids-21573.img",
        "mm-21573.img",
        "pagemap-21573.img",
        "pages-1.img",
    ] {
        let dir = tempfile::tempdir().unwrap();
        copy(&sample("sleep"), dir.path());
        std::fs::remove_file(dir.path().join(name)).unwrap();
        let error = words(&read(dir.path()).unwrap_err());
        assert!(error.contains(&format!("{name} is missing")), "{error}");
    }
}

#[test]
fn a_short_pages_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    copy(&sample("sleep"), dir.path());
    std::fs::write(dir.path().join("pages-1.img"), [0; 4096]).unwrap();
    let error = words(&read(dir.path()).unwrap_err());
    assert!(
        error.contains("pages-1.img holds 4096 bytes of the 110592"),
        "{error}"
    );
}

#[test]
fn a_fifo_in_place_of_an_image_does_not_hang_the_reader() {
    let dir = tempfile::tempdir().unwrap();
    copy(&sample("sleep"), dir.path());
    let path = dir.path().join("files.img");
    std::fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    assert!(
        words(&read(dir.path()).unwrap_err()).contains("cannot open files.img: not a regular file")
    );
}

/// Images without pages: what has records in it.
fn images(dir: &Path) -> Vec<String> {
    let is_image = |name: &String| name.ends_with(".img") && !name.starts_with("pages-");
    names(dir).into_iter().filter(is_image).collect()
}

/// Truncations inside the records of a file that is read must not go unnoticed.
#[test]
fn truncation_never_panics_and_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &rich::snapshot(), &PAGES).unwrap();
    for name in images(dir.path()) {
        let path = dir.path().join(&name);
        let whole = std::fs::read(&path).unwrap();
        let step = if whole.len() > 1024 { 7 } else { 1 };
        for len in (0..whole.len()).step_by(step) {
            std::fs::write(&path, &whole[..len]).unwrap();
            match read(dir.path()) {
                Err(error) => assert!(!words(&error).is_empty()),
                // At the end of a record: nothing tells that others followed.
                Ok(_) => assert!(
                    is_list(&name) || name == "seccomp.img",
                    "{name} cut to {len} bytes"
                ),
            }
        }
        std::fs::write(&path, &whole).unwrap();
    }
}

/// Files with more than one record: cut between two, they are well formed.
fn is_list(name: &str) -> bool {
    [
        "files",
        "fdinfo",
        "pipes-data",
        "memfd",
        "tty-info",
        "pstree",
        "pagemap",
        "ipcns-shm",
    ]
    .iter()
    .any(|list| name.starts_with(list))
}

#[test]
fn flipped_bits_of_the_peers_set_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    copy(&sample("sleep"), dir.path());
    flip(dir.path());
}

#[test]
fn flipped_bits_of_a_rich_set_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &rich::snapshot(), &PAGES).unwrap();
    flip(dir.path());
}

/// Reads the set once for each byte of it, with one bit of that byte flipped.
fn flip(dir: &Path) {
    for name in images(dir) {
        let path = dir.join(&name);
        let whole = std::fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        // Long images are long for their registers and areas: every seventh byte meets each of their fields.
        let step = if whole.len() > 1024 { 7 } else { 1 };
        for at in (0..whole.len()).step_by(step) {
            bytes[at] ^= 1 << (at / step % 8);
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(set) = read(dir) {
                set.refusals();
            }
            bytes[at] = whole[at];
        }
        std::fs::write(&path, &whole).unwrap();
    }
}

/// One change to a rich snapshot, and what the reader must say of the set that is written from it.
type Lie = (&'static str, fn(&mut orchestrator::snapshot::Snapshot));

const LIES: [Lie; 12] = [
    ("overlaps the area before it", |s| {
        mm(s).vmas[0].end = 0x20_1000
    }),
    ("is no range of pages in user space", |s| {
        mm(s).vmas[0].start = 0x10_0001
    }),
    ("protection 0x1000003 is not known", |s| {
        mm(s).vmas[0].prot |= 1 << 24
    }),
    ("mapping flags", |s| mm(s).vmas[0].flags |= 1 << 20),
    ("lies outside of all areas", |s| {
        mm(s).vmas[0].guards = vec![[0x1000, 0x2000]]
    }),
    ("path \"tmp\" is not absolute", |s| path(s, b"tmp")),
    ("holds a NUL byte", |s| path(s, b"/tmp\0/x")),
    ("it is there twice", |s| s.tasks[0].fds[1].fd = 0),
    ("is no descriptor number", |s| {
        s.tasks[0].fds[1].fd = 1 << 21
    }),
    ("it lies outside of the private areas", |s| {
        mm(s).vmas.retain(|vma| vma.start != 0x20_0000)
    }),
    ("thread 1000 is there twice", |s| {
        s.tasks[0].threads[1].tid = 1000
    }),
    ("an eventfd cannot count", |s| {
        s.files[5].kind =
            orchestrator::snapshot::FileKind::EventFd(orchestrator::snapshot::EventFd {
                semaphore: false,
                counter: u64::MAX,
            });
    }),
];

fn mm(snapshot: &mut orchestrator::snapshot::Snapshot) -> &mut orchestrator::snapshot::Mm {
    snapshot.tasks[0].mm.as_mut().unwrap()
}

fn path(snapshot: &mut orchestrator::snapshot::Snapshot, path: &[u8]) {
    let orchestrator::snapshot::FileKind::Regular(file) = &mut snapshot.files[0].kind else {
        panic!("the first file is regular")
    };
    file.path = path.to_vec();
}

#[test]
fn records_that_cannot_be_true_are_refused_by_name() {
    for (expected, lie) in LIES {
        let dir = tempfile::tempdir().unwrap();
        let mut snapshot = rich::snapshot();
        lie(&mut snapshot);
        write(dir.path(), &snapshot, &PAGES).unwrap();
        let error = words(&read(dir.path()).expect_err(expected));
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
