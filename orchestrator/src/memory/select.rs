//! Which pages of an area are stored, decided from what the kernel says each page is. Pure.
//!
//! - Private anonymous memory: pages that are there or swapped out, but not the shared zero page (a hole reads as zeros).
//! - A private file mapping: pages that were written, which are no longer the file's.
//! - What a restore has mapped from a page file: all of it, as anonymous memory.
//! - A ring of asynchronous I/O: all of it.
//! - The vDSO: its code, so that a kernel with another one can be told.
//! - Guard regions have no content; they are kept as regions.

use crate::snapshot::{PAGE_SIZE, Vma, VmaKind};

/// `MAP_TYPE`, `MAP_DROPPABLE` (Linux 6.11, `include/uapi/linux/mman.h`).
const MAP_TYPE: u32 = 0xf;
const MAP_DROPPABLE: u32 = 8;

/// What a run of pages is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pages {
    /// Address of the first byte.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// In memory.
    pub present: bool,
    /// Swapped out (or a marker that looks so).
    pub swapped: bool,
    /// A page of a file, or of shared memory.
    pub file: bool,
    /// The kernel's zero page.
    pub zero: bool,
    /// A guard region.
    pub guard: bool,
}

/// A run of pages to store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Address of the first byte.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Whether the parasite may hand the pages out by vmsplice: it may read them.
    pub readable: bool,
    /// Whether a page full of zeros may be left out: what is below it reads as zeros too.
    pub zeros_are_holes: bool,
}

impl Wanted {
    /// Returns the number of pages.
    pub fn pages(&self) -> u64 {
        (self.end - self.start) / PAGE_SIZE
    }
}

/// Returns the runs of pages to store, by ascending address, and notes guard regions in the areas. Both lists are by
/// ascending address.
pub fn select(vmas: &mut [Vma], pages: &[Pages]) -> Vec<Wanted> {
    select_of(vmas, pages, Take::All)
}

/// Which areas are taken: all at once, or in two parts where the memory of a process is copied, and it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// All.
    All,
    /// What a copy has.
    Copied,
    /// What a copy has not: it has to be taken while the process stands still.
    NotCopied,
}

impl Take {
    /// Returns whether it takes this area.
    pub fn takes(self, vma: &Vma) -> bool {
        match self {
            Take::All => true,
            Take::Copied => is_copied(vma),
            Take::NotCopied => !is_copied(vma),
        }
    }
}

/// Returns whether a forked process has what is stored of an area as it was at that moment.
fn is_copied(vma: &Vma) -> bool {
    const LEFT_OUT: u64 = 1 << libc::MADV_DONTFORK | 1 << libc::MADV_WIPEONFORK;
    // Where there are no free huge pages, a copy loses its own to the target's next write.
    let is_huge = vma.flags & libc::MAP_HUGETLB as u32 != 0;
    let is_memory = !is_huge && vma.kind != VmaKind::AioRing;
    vma.is_private() && vma.advice & LEFT_OUT == 0 && is_memory
}

/// As [`select`], of some of the areas.
pub fn select_of(vmas: &mut [Vma], pages: &[Pages], take: Take) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut first = 0;
    for vma in vmas.iter_mut().filter(|vma| take.takes(vma)) {
        vma.guards.clear();
        while pages.get(first).is_some_and(|run| run.end <= vma.start) {
            first += 1;
        }
        if vma.kind == VmaKind::Vdso {
            // All of it: in a child that has not used it none is present, and whoever restores compares it.
            push(&mut wanted, wanted_of(vma, vma.start, vma.end));
            continue;
        }
        if vma.kind == VmaKind::PageFile {
            // All of it: what was never touched is in the page file alone, which another restore need not have.
            vma.kind = VmaKind::Anonymous;
            push(&mut wanted, wanted_of(vma, vma.start, vma.end));
            continue;
        }
        for run in pages[first..].iter().take_while(|run| run.start < vma.end) {
            let (start, end) = (run.start.max(vma.start), run.end.min(vma.end));
            if run.guard {
                extend_guards(&mut vma.guards, start, end);
            } else if is_stored(vma, run) {
                push(&mut wanted, wanted_of(vma, start, end));
            }
        }
    }
    wanted
}

fn is_stored(vma: &Vma, run: &Pages) -> bool {
    let has_content = run.present || run.swapped;
    // The kernel may drop it at any time, so nobody relies on it; and it holds the state of random numbers, of which two
    // programs must not have the same.
    if vma.flags & MAP_TYPE == MAP_DROPPABLE {
        return false;
    }
    match vma.kind {
        VmaKind::Anonymous | VmaKind::Heap | VmaKind::Stack => has_content && !run.zero,
        VmaKind::FilePrivate(_) => has_content && !run.file,
        VmaKind::Memfd(_) => vma.is_private() && has_content && !run.file,
        VmaKind::AioRing => has_content,
        VmaKind::FileShared(_)
        | VmaKind::SharedAnonymous(_)
        | VmaKind::SystemV(_)
        | VmaKind::SystemVReadOnly(_)
        | VmaKind::Vdso
        | VmaKind::Vvar
        | VmaKind::Vsyscall
        | VmaKind::PageFile => false,
    }
}

fn wanted_of(vma: &Vma, start: u64, end: u64) -> Wanted {
    let anonymous = matches!(
        vma.kind,
        VmaKind::Anonymous | VmaKind::Heap | VmaKind::Stack
    );
    // What has a protection key the parasite may have no right to.
    let readable = vma.prot & libc::PROT_READ as u32 != 0
        && vma.kind != VmaKind::Vdso
        && vma.protection_key == 0;
    Wanted {
        start,
        end,
        readable,
        zeros_are_holes: anonymous,
    }
}

fn push(wanted: &mut Vec<Wanted>, run: Wanted) {
    if let Some(last) = wanted.last_mut()
        && (last.end, last.readable, last.zeros_are_holes)
            == (run.start, run.readable, run.zeros_are_holes)
    {
        last.end = run.end;
        return;
    }
    wanted.push(run);
}

fn extend_guards(guards: &mut Vec<[u64; 2]>, start: u64, end: u64) {
    match guards.last_mut() {
        Some(last) if last[1] == start => last[1] = end,
        _ => guards.push([start, end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::FileId;

    fn vma(start: u64, end: u64, kind: VmaKind) -> Vma {
        Vma::new(
            [start, end],
            (libc::PROT_READ | libc::PROT_WRITE) as u32,
            libc::MAP_PRIVATE as u32,
            kind,
        )
    }

    fn run(start: u64, end: u64) -> Pages {
        Pages {
            start,
            end,
            present: true,
            ..Pages::default()
        }
    }

    #[test]
    fn a_run_over_two_areas_is_cut_where_the_areas_differ() {
        let mut vmas = [
            vma(0x1000, 0x3000, VmaKind::Anonymous),
            vma(0x3000, 0x5000, VmaKind::FilePrivate(FileId(1))),
        ];
        let wanted = select(&mut vmas, &[run(0x2000, 0x4000)]);
        assert_eq!(wanted.len(), 2);
        assert!(wanted[0].zeros_are_holes && !wanted[1].zeros_are_holes);
        assert_eq!((wanted[1].start, wanted[1].end), (0x3000, 0x4000));
    }

    #[test]
    fn pages_of_the_file_and_zero_pages_are_not_stored() {
        let mut vmas = [
            vma(0x1000, 0x3000, VmaKind::Anonymous),
            vma(0x3000, 0x5000, VmaKind::FilePrivate(FileId(1))),
        ];
        let zero = Pages {
            zero: true,
            ..run(0x1000, 0x3000)
        };
        let file = Pages {
            file: true,
            ..run(0x3000, 0x5000)
        };
        assert_eq!(select(&mut vmas, &[zero, file]), []);
    }

    #[test]
    fn a_zero_page_over_a_file_hides_the_file_and_is_stored() {
        let mut vmas = [vma(0x3000, 0x5000, VmaKind::FilePrivate(FileId(1)))];
        let zero = Pages {
            zero: true,
            ..run(0x3000, 0x4000)
        };
        assert_eq!(select(&mut vmas, &[zero]).len(), 1);
    }

    #[test]
    fn guards_are_kept_as_regions() {
        let mut vmas = [vma(0x1000, 0x5000, VmaKind::Anonymous)];
        let guard = |start, end| Pages {
            guard: true,
            swapped: true,
            ..Pages {
                start,
                end,
                ..Pages::default()
            }
        };
        assert_eq!(
            select(
                &mut vmas,
                &[
                    guard(0x1000, 0x2000),
                    guard(0x2000, 0x3000),
                    run(0x3000, 0x4000)
                ]
            )
            .len(),
            1
        );
        assert_eq!(vmas[0].guards, [[0x1000, 0x3000]]);
    }
}
