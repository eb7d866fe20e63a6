//! The audit: what a blob must not contain, looked for in what the linker made. [`elf`] reads the file's tables, [`code`]
//! every instruction; [`relax`] is the one thing that is mended. Nothing here trusts the flags it was built with.

pub mod code;
pub mod elf;
mod relax;

use crate::image::{self, Image};
use crate::report::Report;
use crate::{Spec, Tiles};
use goblin::elf::Elf;
use std::ops::Range;

/// Name of the function with the one system-call instruction.
const GATE: &str = "__syscall_gate";

/// Name of the function at the entry point.
const ENTRY: &str = "__export_entry";

/// Why a blob is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// It cannot be read.
    #[error("no ELF file: {0}")]
    Unreadable(String),
    /// The file's head says something else than a position-independent x86-64 image.
    #[error("file header: {0}")]
    Header(&'static str),
    /// A segment is not as it must be.
    #[error("segment {index}: {why}")]
    Segment {
        /// Its index in the program headers.
        index: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// A section is not as it must be.
    #[error("section {name}: {why}")]
    Section {
        /// Its name.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The dynamic section asks for something of a loader.
    #[error("dynamic entry {tag:#x}: {why}")]
    Dynamic {
        /// `d_tag`.
        tag: u64,
        /// What it means.
        why: &'static str,
    },
    /// Something has to be relocated, but nobody does that.
    #[error(
        "relocation at {at:#x} (a constant with an address in it: a table of strings or functions, a trait object)"
    )]
    Relocation {
        /// Where.
        at: u64,
    },
    /// A symbol is defined nowhere.
    #[error("undefined symbol {0}")]
    Undefined(String),
    /// A symbol that must be there is not, or not where it must be.
    #[error("symbol {name}: {why}")]
    Symbol {
        /// Its name.
        name: &'static str,
        /// What is wrong.
        why: &'static str,
    },
    /// An instruction that a blob must not contain.
    #[error("instruction at {at:#x} ({mnemonic}): {why}")]
    Instruction {
        /// Where.
        at: u64,
        /// Its name.
        mnemonic: String,
        /// What is wrong.
        why: &'static str,
    },
    /// System calls elsewhere than in the gate, or none.
    #[error("system calls at {0:x?}, instead of one in the gate")]
    Gate(Vec<u64>),
    /// It is too large.
    #[error("{size} bytes of memory, over the budget of {budget}")]
    Budget {
        /// Its size.
        size: usize,
        /// Its budget.
        budget: usize,
    },
}

/// Returns the image of a blob and what was seen in it, or why it is refused.
pub fn audit(spec: &Spec, file: &[u8]) -> Result<(Image, Report), Refusal> {
    let elf = Elf::parse(file).map_err(|error| Refusal::Unreadable(error.to_string()))?;
    elf::check_header(&elf.header)?;
    elf::check_segments(&elf.program_headers)?;
    elf::check_dynamic(&elf)?;
    elf::check_sections(&elf)?;
    elf::check_symbols(&elf)?;
    if elf::symbol(&elf, ENTRY)?.start != elf.entry {
        return Err(Refusal::Symbol {
            name: ENTRY,
            why: "is not the entry point",
        });
    }
    let mut image = image::flatten(&elf, file)?;
    check_budget(spec.budget, image.mem_size)?;
    let code = elf::code_range(&elf)?;
    let relaxed = relax::relax(&elf, &mut image.bytes, &code)?;
    let code = audit_code(code, &image, spec.tiles)?;
    let gate = code::gate(&code.syscalls, elf::symbol(&elf, GATE)?)?;
    let sections = elf::mapped_sections(&elf, image.text_len as u64);
    Ok((
        image,
        Report {
            sections,
            code,
            relaxed,
            gate,
        },
    ))
}

/// Reads the instructions: there is one section of them, as the linker scripts gather all of it.
fn audit_code(range: Range<u64>, image: &Image, tiles: Tiles) -> Result<code::Code, Refusal> {
    let bytes = image
        .bytes
        .get(range.start as usize..range.end as usize)
        .ok_or(Refusal::Header("the code lies outside of the image"))?;
    code::check(bytes, range.start, image.mem_size as u64, tiles)
}

fn check_budget(budget: usize, size: usize) -> Result<(), Refusal> {
    if size > budget {
        Err(Refusal::Budget { size, budget })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PARASITE;

    #[test]
    fn an_ordinary_program_is_refused() {
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(audit(&PARASITE, &program).is_err());
        let refusal = audit(&PARASITE, b"#!/bin/sh\n").unwrap_err();
        assert!(matches!(refusal, Refusal::Unreadable(_)));
    }

    #[test]
    fn the_budget_is_a_limit() {
        assert_eq!(check_budget(4096, 4096), Ok(()));
        assert_eq!(
            check_budget(4096, 8192),
            Err(Refusal::Budget {
                size: 8192,
                budget: 4096
            })
        );
    }
}
