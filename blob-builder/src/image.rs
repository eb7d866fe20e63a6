//! The flat image: what is mapped, as bytes.

use crate::audit::Refusal;
use goblin::elf::Elf;
use goblin::elf::program_header::{PT_LOAD, ProgramHeader};

/// Size of a page, and alignment of the parts of an image.
pub const PAGE: usize = 4096;

/// Prefix of the symbols that the orchestrator may name.
const EXPORT: &str = "__export_";

/// A blob as it is mapped. The part `0..text_len` is R-X, the part `text_len..mem_size` RW-, and perhaps empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Image {
    /// The first bytes; the others are zero.
    pub bytes: Vec<u8>,
    /// Bytes to be mapped, whole pages.
    pub mem_size: usize,
    /// Bytes of the part with code and constants, whole pages.
    pub text_len: usize,
    /// Offset of the first instruction.
    pub entry: usize,
    /// Exported symbols, by offset, without their prefix.
    pub exports: Vec<Export>,
}

/// A symbol that the orchestrator may name.
#[derive(Debug, PartialEq, Eq)]
pub struct Export {
    /// Its name after `__export_`.
    pub name: String,
    /// Where it is in the image.
    pub offset: usize,
}

/// Lays the segments out as they are to be in memory.
pub fn flatten(elf: &Elf<'_>, file: &[u8]) -> Result<Image, Refusal> {
    let loads: Vec<&ProgramHeader> = elf
        .program_headers
        .iter()
        .filter(|header| header.p_type == PT_LOAD)
        .collect();
    let mut bytes = Vec::new();
    for load in &loads {
        let content = file
            .get(load.file_range())
            .ok_or(Refusal::Header("a segment ends outside of the file"))?;
        bytes.resize(load.p_vaddr as usize, 0);
        bytes.extend_from_slice(content);
    }
    let end = |load: Option<&&ProgramHeader>| {
        load.map_or(0, |load| (load.p_vaddr + load.p_memsz) as usize)
            .next_multiple_of(PAGE)
    };
    Ok(Image {
        bytes,
        mem_size: end(loads.last()),
        text_len: end(loads.first()),
        entry: elf.entry as usize,
        exports: exports(elf),
    })
}

fn exports(elf: &Elf<'_>) -> Vec<Export> {
    let mut exports: Vec<Export> = elf
        .syms
        .iter()
        .filter_map(|symbol| {
            let name = elf
                .strtab
                .get_at(symbol.st_name)?
                .strip_prefix(EXPORT)?
                .to_owned();
            Some(Export {
                name,
                offset: symbol.st_value as usize,
            })
        })
        .collect();
    exports.sort_by(|a, b| (a.offset, &a.name).cmp(&(b.offset, &b.name)));
    exports
}
