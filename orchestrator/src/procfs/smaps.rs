//! `/proc/PID/smaps` and `maps`: the memory areas of a process (`fs/proc/task_mmu.c`).
//!
//! A process can have tens of thousands of areas, and `smaps` writes some 700 bytes for each, in 24 lines of which few
//! matter. The kernel pads the values, so that the block of lines below an area's header looks the same for all: the
//! parser remembers where the lines that matter stood in the last block, checks that they stand there again, and reads
//! only those. Where they do not (a value of more than eight digits, a line that only some areas have) it goes through
//! the lines one by one and remembers anew.

use super::text::Line;
use super::{Error, Result, Subject};
use crate::sys::Pid;
use std::borrow::Cow;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::ops::Range;

/// One memory area.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vma {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// `PROT_READ | PROT_WRITE | PROT_EXEC`.
    pub prot: u32,
    /// Whether it may be shared (`s`), not private (`p`).
    pub shared: bool,
    /// Offset into the file, in bytes.
    pub offset: u64,
    /// Device of the file: major and minor number.
    pub dev: (u32, u32),
    /// Inode of the file; 0 = none.
    pub inode: u64,
    /// Where its path or name stands in the text; see [`path`].
    pub path: Range<usize>,
    /// What `VmFlags` says; empty from `maps`.
    pub vm_flags: VmFlags,
    /// What the lines between say, in bytes; 0 from `maps`.
    pub sizes: Sizes,
    /// Protection key (`pkey_mprotect`), where the processor has them; 0 from `maps`.
    pub protection_key: u32,
}

/// Sizes of an area that are kept, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Size of its pages, larger for hugetlbfs.
    pub kernel_page: u64,
    /// Present pages.
    pub rss: u64,
    /// Those that are anonymous.
    pub anonymous: u64,
    /// Swapped out.
    pub swap: u64,
    /// Present pages of hugetlbfs, which `rss` does not count.
    pub hugetlb: u64,
}

bitflags::bitflags! {
    /// `VmFlags`: the flags of an area, under the kernel's names.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct VmFlags: u64 {
        /// `rd`.
        const READ = 1;
        /// `wr`.
        const WRITE = 1 << 1;
        /// `ex`.
        const EXEC = 1 << 2;
        /// `sh`.
        const SHARED = 1 << 3;
        /// `mr`: may be made readable.
        const MAYREAD = 1 << 4;
        /// `mw`: may be made writable.
        const MAYWRITE = 1 << 5;
        /// `me`: may be made executable.
        const MAYEXEC = 1 << 6;
        /// `ms`: was mapped shared.
        const MAYSHARE = 1 << 7;
        /// `gd`: a stack that grows.
        const GROWSDOWN = 1 << 8;
        /// `pf`: page frames without `struct page`.
        const PFNMAP = 1 << 9;
        /// `lo`: locked.
        const LOCKED = 1 << 10;
        /// `lf`: locked when faulted in (older kernels do not show it).
        const LOCKONFAULT = 1 << 11;
        /// `io`: device memory.
        const IO = 1 << 12;
        /// `sr`: `MADV_SEQUENTIAL`.
        const SEQ_READ = 1 << 13;
        /// `rr`: `MADV_RANDOM`.
        const RAND_READ = 1 << 14;
        /// `dc`: `MADV_DONTFORK`.
        const DONTCOPY = 1 << 15;
        /// `de`: cannot be grown by mremap.
        const DONTEXPAND = 1 << 16;
        /// `ac`: counted by the commit limit.
        const ACCOUNT = 1 << 17;
        /// `nr`: `MAP_NORESERVE`.
        const NORESERVE = 1 << 18;
        /// `ht`: hugetlbfs.
        const HUGETLB = 1 << 19;
        /// `sf`: `MAP_SYNC`.
        const SYNC = 1 << 20;
        /// `ar`: a flag of the architecture.
        const ARCH_1 = 1 << 21;
        /// `wf`: `MADV_WIPEONFORK`.
        const WIPEONFORK = 1 << 22;
        /// `dd`: `MADV_DONTDUMP`.
        const DONTDUMP = 1 << 23;
        /// `sd`: written since soft-dirty bits were cleared.
        const SOFTDIRTY = 1 << 24;
        /// `mm`: pages and page frames mixed.
        const MIXEDMAP = 1 << 25;
        /// `hg`: `MADV_HUGEPAGE`.
        const HUGEPAGE = 1 << 26;
        /// `nh`: `MADV_NOHUGEPAGE`.
        const NOHUGEPAGE = 1 << 27;
        /// `mg`: `MADV_MERGEABLE`.
        const MERGEABLE = 1 << 28;
        /// `um`: userfaultfd, missing pages.
        const UFFD_MISSING = 1 << 29;
        /// `uw`: userfaultfd, write protection.
        const UFFD_WP = 1 << 30;
        /// `ui`: userfaultfd, minor faults.
        const UFFD_MINOR = 1 << 31;
        /// `ss`: shadow stack.
        const SHADOW_STACK = 1 << 32;
        /// `sl`: `mseal`ed.
        const SEALED = 1 << 33;
        /// `dp`: `MAP_DROPPABLE`.
        const DROPPABLE = 1 << 34;
        /// `gu`: guard regions may be in it.
        const MAYBE_GUARD = 1 << 35;
        /// `nl`: not linear (old kernels).
        const NONLINEAR = 1 << 36;
        /// `bt`, `mt`: flags of other architectures.
        const ARCH_OTHER = 1 << 37;
        /// One that this program does not know.
        const UNKNOWN = 1 << 63;
    }
}

impl VmFlags {
    /// Returns the flag that the kernel writes so.
    pub fn from_mnemonic(two: [u8; 2]) -> Self {
        match &two {
            b"rd" => Self::READ,
            b"wr" => Self::WRITE,
            b"ex" => Self::EXEC,
            b"sh" => Self::SHARED,
            b"mr" => Self::MAYREAD,
            b"mw" => Self::MAYWRITE,
            b"me" => Self::MAYEXEC,
            b"ms" => Self::MAYSHARE,
            b"gd" => Self::GROWSDOWN,
            b"pf" => Self::PFNMAP,
            b"lo" => Self::LOCKED,
            b"lf" => Self::LOCKONFAULT,
            b"io" => Self::IO,
            b"sr" => Self::SEQ_READ,
            b"rr" => Self::RAND_READ,
            b"dc" => Self::DONTCOPY,
            b"de" => Self::DONTEXPAND,
            b"ac" => Self::ACCOUNT,
            b"nr" => Self::NORESERVE,
            b"ht" => Self::HUGETLB,
            b"sf" => Self::SYNC,
            b"ar" => Self::ARCH_1,
            b"wf" => Self::WIPEONFORK,
            b"dd" => Self::DONTDUMP,
            b"sd" => Self::SOFTDIRTY,
            b"mm" => Self::MIXEDMAP,
            b"hg" => Self::HUGEPAGE,
            b"nh" => Self::NOHUGEPAGE,
            b"mg" => Self::MERGEABLE,
            b"um" => Self::UFFD_MISSING,
            b"uw" => Self::UFFD_WP,
            b"ui" => Self::UFFD_MINOR,
            b"ss" => Self::SHADOW_STACK,
            b"sl" => Self::SEALED,
            b"dp" => Self::DROPPABLE,
            b"gu" => Self::MAYBE_GUARD,
            b"nl" => Self::NONLINEAR,
            b"bt" | b"mt" => Self::ARCH_OTHER,
            _ => Self::UNKNOWN,
        }
    }
}

/// The areas of a process, with the text that holds their paths.
#[derive(Debug, Clone, Default)]
pub struct Areas {
    /// The file as it was read, or as much of it as holds their paths.
    pub text: Vec<u8>,
    /// The areas, by address.
    pub vmas: Vec<Vma>,
}

impl Areas {
    /// Returns the path or name of one of the areas.
    pub fn path(&self, vma: &Vma) -> Cow<'_, [u8]> {
        path(&self.text, vma)
    }
}

/// Returns the path or name of an area that was parsed from `text`, with the kernel's escape of newlines undone; empty for
/// anonymous memory, `[heap]`, `[stack]`, `[vdso]` and such where the kernel has a name. ` (deleted)` at the end is left.
pub fn path<'a>(text: &'a [u8], vma: &Vma) -> Cow<'a, [u8]> {
    let raw = &text[vma.path.clone()];
    // `seq_path(m, path, "\n")` escapes newlines and nothing else, so a backslash is only an escape before 012.
    if !raw.windows(4).any(|four| four == br"\012") {
        return Cow::Borrowed(raw);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&first, after)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(br"\012") {
            out.push(b'\n');
            rest = tail;
        } else {
            out.push(first);
            rest = after;
        }
    }
    Cow::Owned(out)
}

/// Reads `smaps` of a process.
pub fn read(pid: Pid) -> Result<Areas> {
    let path = Subject::from(pid).path("smaps");
    let failed = |source| Error::Read {
        path: path.clone(),
        source,
    };
    let mut file = File::open(&path).map_err(failed)?;
    let mut parts = Parts::default();
    let mut room = vec![0; ROOM];
    let mut len = 0;
    loop {
        match file.read(&mut room[len..]) {
            Ok(0) => break,
            Ok(got) => len += got,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(source) => return Err(failed(source)),
        }
        if room.len() - len < LEAST_ROOM {
            let whole = whole_blocks(&room[..len]);
            if whole == 0 {
                room.resize(room.len() + ROOM, 0);
            }
            parts.add(&room[..whole])?;
            room.copy_within(whole..len, 0);
            len -= whole;
        }
    }
    parts.add(&room[..len])?;
    Ok(parts.areas)
}

/// Room for a part of `smaps`: all of it is 60 MB for 50,000 areas.
const ROOM: usize = 64 << 10;
/// Least room for a read: the kernel fills a page at a time (`fs/seq_file.c`).
const LEAST_ROOM: usize = 8 << 10;

/// Returns how much of the text is blocks that are there to their ends.
fn whole_blocks(text: &[u8]) -> usize {
    const LAST_LINE: &[u8] = b"\nVmFlags:";
    let mut end = text.len();
    while let Some(last) = memchr::memmem::rfind(&text[..end], LAST_LINE) {
        let rest = &text[last + 1..];
        if let Some(newline) = memchr::memchr(b'\n', rest) {
            return last + 1 + newline + 1;
        }
        end = last;
    }
    0
}

/// Areas read part by part.
#[derive(Default)]
struct Parts {
    areas: Areas,
    layout: Option<Layout>,
    lines: usize,
}

impl Parts {
    /// Adds the areas of some blocks, and keeps their paths, of neighbours with the same one once.
    fn add(&mut self, text: &[u8]) -> Result<()> {
        let mut last = self.areas.vmas.len().saturating_sub(1);
        let known = self.areas.vmas.len();
        self.lines = parse_some(text, self.lines, &mut self.layout, &mut self.areas.vmas)?;
        for index in known..self.areas.vmas.len() {
            let path = &text[self.areas.vmas[index].path.clone()];
            let before = self.areas.vmas[last].path.clone();
            let is_same = index > 0 && self.areas.text.get(before.clone()) == Some(path);
            self.areas.vmas[index].path = if is_same {
                before
            } else {
                let start = self.areas.text.len();
                self.areas.text.extend_from_slice(path);
                start..self.areas.text.len()
            };
            last = index;
        }
        Ok(())
    }
}

/// Reads `maps` of a process.
pub fn read_maps(pid: Pid) -> Result<Areas> {
    let text = Subject::from(pid).read("maps")?;
    let vmas = parse_maps(&text)?;
    Ok(Areas { text, vmas })
}

/// Parses the bytes of `maps`.
pub fn parse_maps(text: &[u8]) -> Result<Vec<Vma>> {
    let mut parser = Parser::new("maps", text);
    let mut vmas = Vec::new();
    while parser.at < text.len() {
        vmas.push(parser.header()?);
    }
    Ok(vmas)
}

/// Parses the bytes of `smaps`.
pub fn parse(text: &[u8]) -> Result<Vec<Vma>> {
    let mut vmas = Vec::new();
    parse_some(text, 0, &mut None, &mut vmas)?;
    Ok(vmas)
}

/// Parses blocks that come after so many lines, and returns how many lines there are then.
fn parse_some(
    text: &[u8],
    lines: usize,
    layout: &mut Option<Layout>,
    vmas: &mut Vec<Vma>,
) -> Result<usize> {
    let mut parser = Parser::new("smaps", text);
    parser.line = lines;
    while parser.at < text.len() {
        let mut vma = parser.header()?;
        let known = layout.filter(|layout: &Layout| layout.fits(&text[parser.at..]));
        let current = match known {
            Some(layout) => layout,
            None => parser.layout()?,
        };
        parser.block(&current, &mut vma)?;
        *layout = Some(current);
        vmas.push(vma);
    }
    Ok(parser.line)
}

/// Names of the lines that matter, in the order of [`Layout::offsets`].
const LABELS: [&[u8]; 7] = [
    b"KernelPageSize:",
    b"Rss:",
    b"Anonymous:",
    b"Swap:",
    b"Shared_Hugetlb:",
    b"Private_Hugetlb:",
    b"VmFlags:",
];
/// Where `VmFlags` stands among them.
const FLAGS: usize = 6;

/// Where the lines that matter stand, counted from the end of the header.
#[derive(Debug, Clone, Copy)]
struct Layout {
    /// Offset of each of [`LABELS`].
    offsets: [usize; LABELS.len()],
    /// Number of lines up to and with `VmFlags`.
    lines: usize,
}

impl Layout {
    /// Returns whether the block at the start of `text` looks the same. A label at the right place after a newline is not
    /// enough for the last one: it must be the first `VmFlags`, and it is, as the lines before it take up the room.
    fn fits(&self, text: &[u8]) -> bool {
        let labels = self.offsets.iter().zip(LABELS);
        labels.into_iter().all(|(&offset, label)| {
            (offset == 0 || text.get(offset - 1) == Some(&b'\n'))
                && text
                    .get(offset..)
                    .is_some_and(|line| line.starts_with(label))
        })
    }
}

/// The text with a position in it.
struct Parser<'a> {
    file: &'static str,
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl<'a> Parser<'a> {
    fn new(file: &'static str, text: &'a [u8]) -> Self {
        Self {
            file,
            text,
            at: 0,
            line: 0,
        }
    }

    /// Returns where the line at `from` ends, the newline not included.
    fn line_end(&self, from: usize) -> usize {
        let len = self.text[from..].iter().position(|&byte| byte == b'\n');
        len.map_or(self.text.len(), |len| from + len)
    }

    /// Parses `start-end perms offset major:minor inode   path`.
    fn header(&mut self) -> Result<Vma> {
        self.line += 1;
        let end = self.line_end(self.at);
        let mut line = Line::new(self.file, self.line, &self.text[self.at..end]);
        let start_address = line.hex("the start of an area")?;
        line.expect(b"-", "a dash")?;
        let end_address = line.hex("the end of an area")?;
        line.expect(b" ", "a blank")?;
        let (prot, shared) = permissions(&mut line)?;
        let offset = line.hex("an offset")?;
        let major = line.hex32("a device")?;
        line.expect(b":", "a colon")?;
        let minor = line.hex32("a device")?;
        let inode = line.number("an inode")?;
        // One blank always follows, then more up to column 73 where there is a path: blanks at its start would be lost, but
        // paths of files start with a slash.
        line.skip_blanks();
        let path = end - line.rest().len()..end;
        self.at = self.text.len().min(end + 1);
        Ok(Vma {
            start: start_address,
            end: end_address,
            prot,
            shared,
            offset,
            dev: (major, minor),
            inode,
            path,
            vm_flags: VmFlags::empty(),
            sizes: Sizes::default(),
            protection_key: 0,
        })
    }

    /// Finds the lines that matter in the block at the current position.
    fn layout(&self) -> Result<Layout> {
        let mut offsets = [None; LABELS.len()];
        let mut lines = 0;
        let mut at = self.at;
        while offsets[FLAGS].is_none() {
            let line = &self.text[at.min(self.text.len())..];
            // Headers begin with a digit or a small letter, the lines below with a capital one.
            if !line.first().is_some_and(u8::is_ascii_uppercase) {
                return Err(Line::new(self.file, self.line + lines + 1, line).error("VmFlags"));
            }
            if let Some(known) = LABELS.iter().position(|label| line.starts_with(label)) {
                offsets[known] = Some(at - self.at);
            }
            lines += 1;
            at = self.line_end(at) + 1;
        }
        let missing = || Line::new(self.file, self.line + 1, &self.text[self.at..]);
        let mut found = [0; LABELS.len()];
        for (slot, offset) in found.iter_mut().zip(offsets) {
            *slot = offset.ok_or_else(|| missing().error("the sizes of an area"))?;
        }
        Ok(Layout {
            offsets: found,
            lines,
        })
    }

    /// Reads the block at the current position, which looks like `layout`.
    fn block(&mut self, layout: &Layout, vma: &mut Vma) -> Result<()> {
        let size = |index: usize| -> Result<u64> {
            let value = self.at + layout.offsets[index] + LABELS[index].len();
            let mut line = Line::new(self.file, self.line + 1, &self.text[value..]);
            let kib: u64 = line.number("a size")?;
            line.expect(b" kB\n", "kB")?;
            kib.checked_mul(1024).ok_or_else(|| line.error("a size"))
        };
        vma.sizes = Sizes {
            kernel_page: size(0)?,
            rss: size(1)?,
            anonymous: size(2)?,
            swap: size(3)?,
            hugetlb: size(4)?.saturating_add(size(5)?),
        };
        vma.protection_key = protection_key(&self.text[..self.at + layout.offsets[FLAGS]]);
        let flags = self.at + layout.offsets[FLAGS] + LABELS[FLAGS].len();
        let end = self.line_end(flags);
        vma.vm_flags = vm_flags(&self.text[flags..end]);
        self.line += layout.lines;
        self.at = self.text.len().min(end + 1);
        Ok(())
    }
}

/// Reads the line `ProtectionKey:  %8u` at the end of `text`: it stands before `VmFlags` where the processor has keys.
fn protection_key(text: &[u8]) -> u32 {
    const LABEL: &[u8] = b"ProtectionKey:";
    const LINE: usize = LABEL.len() + 2 + 8 + 1;
    let line = text
        .last_chunk::<LINE>()
        .and_then(|line| line.strip_prefix(LABEL));
    let digits = line
        .map(<[u8]>::trim_ascii)
        .and_then(|digits| str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Parses `rwxp`.
fn permissions(line: &mut Line<'_>) -> Result<(u32, bool)> {
    let [r, w, x, s, ..] = *line.rest() else {
        return Err(line.error("permissions"));
    };
    let mut prot = 0;
    for (letter, wanted, bit) in [
        (r, b'r', libc::PROT_READ),
        (w, b'w', libc::PROT_WRITE),
        (x, b'x', libc::PROT_EXEC),
    ] {
        match letter {
            b'-' => {}
            letter if letter == wanted => prot |= bit as u32,
            _ => return Err(line.error("permissions")),
        }
    }
    let shared = match s {
        b's' => true,
        b'p' => false,
        _ => return Err(line.error("permissions")),
    };
    line.word();
    Ok((prot, shared))
}

/// Parses ` rd wr mr mw me `.
fn vm_flags(line: &[u8]) -> VmFlags {
    line.split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty())
        .map(|word| <[u8; 2]>::try_from(word).map_or(VmFlags::UNKNOWN, VmFlags::from_mnemonic))
        .collect()
}

#[cfg(test)]
mod tests;
