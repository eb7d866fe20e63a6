//! What the file's tables say: that it is position-independent, wants nothing of a loader, and maps as pages that are
//! never writable and executable at once.

use super::Refusal;
use crate::image::PAGE;
use crate::report::Section;
use goblin::elf::dynamic::{self, Dyn};
use goblin::elf::header::{ELFCLASS64, ELFDATA2LSB, EM_X86_64, ET_DYN, Header};
use goblin::elf::program_header::{
    PF_R, PF_W, PF_X, PT_DYNAMIC, PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_TLS, ProgramHeader,
};
use goblin::elf::section_header::{
    SHF_ALLOC, SHF_EXECINSTR, SHF_TLS, SHF_WRITE, SHN_UNDEF, SHT_FINI_ARRAY, SHT_INIT_ARRAY,
    SHT_PREINIT_ARRAY,
};
use goblin::elf::{Elf, Sym};
use std::ops::Range;

/// Checks the head of the file.
pub fn check_header(header: &Header) -> Result<(), Refusal> {
    if header.e_ident[4] != ELFCLASS64
        || header.e_ident[5] != ELFDATA2LSB
        || header.e_machine != EM_X86_64
    {
        return Err(Refusal::Header("not for x86-64"));
    }
    if header.e_type != ET_DYN {
        return Err(Refusal::Header("not position-independent"));
    }
    Ok(())
}

/// Checks the segments: code and constants from address 0, then perhaps variables, each of whole pages.
pub fn check_segments(headers: &[ProgramHeader]) -> Result<(), Refusal> {
    let mut end = 0;
    let mut loads = 0;
    for (index, header) in headers.iter().enumerate() {
        let refuse = |why| Err(Refusal::Segment { index, why });
        match header.p_type {
            PT_LOAD => {
                let expected = if loads == 0 { PF_R | PF_X } else { PF_R | PF_W };
                if header.p_flags & (PF_W | PF_X) == PF_W | PF_X {
                    return refuse("writable and executable");
                }
                if header.p_flags != expected || loads == 2 {
                    return refuse("not one r-x segment and then at most one rw- segment");
                }
                if header.p_vaddr % PAGE as u64 != 0 || header.p_vaddr != end {
                    return refuse("not at the page where the one before ends");
                }
                if header.p_filesz > header.p_memsz {
                    return refuse("larger in the file than in memory");
                }
                loads += 1;
                let Some(after) = header
                    .p_vaddr
                    .checked_add(header.p_memsz)
                    .and_then(|after| after.checked_next_multiple_of(PAGE as u64))
                else {
                    return refuse("ends outside of the address space");
                };
                end = after;
            }
            PT_DYNAMIC => {}
            PT_GNU_STACK if header.p_flags & PF_X == 0 => {}
            PT_GNU_STACK => return refuse("wants an executable stack"),
            PT_INTERP => return refuse("names an interpreter"),
            PT_TLS => return refuse("thread-local storage"),
            _ => return refuse("of a type that the linker scripts do not make"),
        }
    }
    if loads == 0 {
        Err(Refusal::Header("nothing to map"))
    } else {
        Ok(())
    }
}

/// Checks that nothing is wanted of a loader.
pub fn check_dynamic(elf: &Elf<'_>) -> Result<(), Refusal> {
    if elf.interpreter.is_some() {
        return Err(Refusal::Header("names an interpreter"));
    }
    elf.dynamic
        .iter()
        .flat_map(|section| &section.dyns)
        .try_for_each(check_dynamic_entry)
}

/// Checks one entry of the dynamic section: only what describes the (empty) symbol table may stand there.
fn check_dynamic_entry(entry: &Dyn) -> Result<(), Refusal> {
    let why = match entry.d_tag {
        dynamic::DT_NULL
        | dynamic::DT_DEBUG
        | dynamic::DT_SYMTAB
        | dynamic::DT_SYMENT
        | dynamic::DT_STRTAB
        | dynamic::DT_STRSZ
        | dynamic::DT_GNU_HASH => return Ok(()),
        // The table is looked at by `relax`, which refuses what it cannot mend.
        dynamic::DT_RELA | dynamic::DT_RELASZ | dynamic::DT_RELAENT | dynamic::DT_RELACOUNT => {
            return Ok(());
        }
        dynamic::DT_FLAGS_1 if entry.d_val == dynamic::DF_1_PIE => return Ok(()),
        dynamic::DT_NEEDED => "needs a library",
        dynamic::DT_TEXTREL => "wants its code relocated",
        dynamic::DT_FLAGS if entry.d_val & dynamic::DF_TEXTREL != 0 => "wants its code relocated",
        dynamic::DT_REL | dynamic::DT_JMPREL | DT_RELR => "wants to be relocated",
        dynamic::DT_INIT | dynamic::DT_INIT_ARRAY | dynamic::DT_PREINIT_ARRAY => "has initialisers",
        dynamic::DT_FINI | dynamic::DT_FINI_ARRAY => "has finalisers",
        _ => "asks something of a loader, which it will not have",
    };
    Err(Refusal::Dynamic {
        tag: entry.d_tag,
        why,
    })
}

/// Compact relative relocations (System V gABI, not known to the reader's constants).
const DT_RELR: u64 = 36;

/// Checks that no section is of a kind that needs a loader or a C runtime.
pub fn check_sections(elf: &Elf<'_>) -> Result<(), Refusal> {
    for header in &elf.section_headers {
        let flags = header.sh_flags as u32;
        let why = match header.sh_type {
            SHT_INIT_ARRAY | SHT_FINI_ARRAY | SHT_PREINIT_ARRAY => {
                "functions to be called by a loader"
            }
            _ if flags & SHF_TLS != 0 => "thread-local storage",
            _ if flags & (SHF_WRITE | SHF_EXECINSTR) == SHF_WRITE | SHF_EXECINSTR => {
                "writable and executable"
            }
            _ => continue,
        };
        let name = elf
            .shdr_strtab
            .get_at(header.sh_name)
            .unwrap_or("?")
            .to_owned();
        return Err(Refusal::Section { name, why });
    }
    Ok(())
}

/// Checks that each symbol is defined. The first of each table is empty by definition.
pub fn check_symbols(elf: &Elf<'_>) -> Result<(), Refusal> {
    let names = elf.syms.iter().skip(1).map(|symbol| (symbol, &elf.strtab));
    let dynamic = elf
        .dynsyms
        .iter()
        .skip(1)
        .map(|symbol| (symbol, &elf.dynstrtab));
    for (symbol, strings) in names.chain(dynamic) {
        if is_undefined(&symbol) {
            return Err(Refusal::Undefined(
                strings.get_at(symbol.st_name).unwrap_or("?").to_owned(),
            ));
        }
    }
    Ok(())
}

fn is_undefined(symbol: &Sym) -> bool {
    symbol.st_shndx == SHN_UNDEF as usize
}

/// Returns where the function of this name is.
pub fn symbol(elf: &Elf<'_>, name: &'static str) -> Result<Range<u64>, Refusal> {
    let mut found = elf
        .syms
        .iter()
        .filter(|symbol| elf.strtab.get_at(symbol.st_name) == Some(name));
    match (found.next(), found.next()) {
        (Some(symbol), None) => Ok(symbol.st_value..symbol.st_value.saturating_add(symbol.st_size)),
        (None, _) => Err(Refusal::Symbol {
            name,
            why: "is missing",
        }),
        (Some(_), Some(_)) => Err(Refusal::Symbol {
            name,
            why: "is there twice",
        }),
    }
}

/// Returns where the instructions are.
pub fn code_range(elf: &Elf<'_>) -> Result<Range<u64>, Refusal> {
    let mut code = elf
        .section_headers
        .iter()
        .filter(|header| header.sh_flags as u32 & SHF_EXECINSTR != 0 && header.sh_size != 0);
    match (code.next(), code.next()) {
        (Some(only), None) => Ok(only.sh_addr..only.sh_addr.saturating_add(only.sh_size)),
        _ => Err(Refusal::Header("not exactly one section with instructions")),
    }
}

/// Returns the sections that are mapped, for the report, with the permissions that their part of the image gives them.
pub fn mapped_sections(elf: &Elf<'_>, text_len: u64) -> Vec<Section> {
    elf.section_headers
        .iter()
        .filter(|header| header.sh_flags as u32 & SHF_ALLOC != 0)
        .map(|header| Section {
            name: elf
                .shdr_strtab
                .get_at(header.sh_name)
                .unwrap_or("?")
                .to_owned(),
            address: header.sh_addr,
            size: header.sh_size,
            permissions: if header.sh_addr < text_len {
                "r-x"
            } else {
                "rw-"
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin::container::{Container, Ctx, Endian};

    fn load(p_flags: u32, p_vaddr: u64, p_memsz: u64) -> ProgramHeader {
        ProgramHeader {
            p_type: PT_LOAD,
            p_flags,
            p_vaddr,
            p_memsz,
            ..ProgramHeader::default()
        }
    }

    fn other(p_type: u32, p_flags: u32) -> ProgramHeader {
        ProgramHeader {
            p_type,
            p_flags,
            ..ProgramHeader::default()
        }
    }

    fn refusal(headers: &[ProgramHeader]) -> String {
        check_segments(headers).unwrap_err().to_string()
    }

    const TEXT: u32 = PF_R | PF_X;
    const DATA: u32 = PF_R | PF_W;

    #[test]
    fn text_and_data_of_whole_pages_are_accepted() {
        let text = load(TEXT, 0, 5000);
        assert_eq!(check_segments(std::slice::from_ref(&text)), Ok(()));
        let all = [
            text,
            load(DATA, 8192, 10),
            other(PT_DYNAMIC, PF_R),
            other(PT_GNU_STACK, DATA),
        ];
        assert_eq!(check_segments(&all), Ok(()));
    }

    #[test]
    fn segments_that_a_blob_cannot_have_are_refused() {
        assert!(refusal(&[load(TEXT | PF_W, 0, 10)]).contains("writable and executable"));
        assert!(
            refusal(&[load(TEXT, 0, 10), load(TEXT | PF_W, 4096, 1)])
                .contains("writable and executable")
        );
        assert!(refusal(&[load(DATA, 0, 10)]).contains("r-x segment"));
        assert!(refusal(&[load(TEXT, 0x800, 10)]).contains("page"));
        assert!(
            refusal(&[load(TEXT, 0, 10), load(DATA, 8192, 10)])
                .contains("where the one before ends")
        );
        assert!(refusal(&[load(TEXT, 0, u64::MAX)]).contains("address space"));
        let data = load(DATA, 4096, 1);
        assert!(refusal(&[load(TEXT, 0, 10), data.clone(), data]).contains("at most one"));
        assert!(
            refusal(&[load(TEXT, 0, 10), other(PT_GNU_STACK, PF_R | PF_W | PF_X)])
                .contains("stack")
        );
        assert!(refusal(&[load(TEXT, 0, 10), other(PT_TLS, PF_R)]).contains("thread-local"));
        assert!(refusal(&[load(TEXT, 0, 10), other(PT_INTERP, PF_R)]).contains("interpreter"));
        assert!(refusal(&[]).contains("nothing to map"));
    }

    #[test]
    fn only_position_independent_x86_64_is_accepted() {
        let wide_little = Ctx::new(Container::Big, Endian::Little);
        let header = Header {
            e_machine: EM_X86_64,
            e_type: ET_DYN,
            ..Header::new(wide_little)
        };
        assert_eq!(check_header(&header), Ok(()));
        let executable = Header {
            e_type: goblin::elf::header::ET_EXEC,
            ..header
        };
        assert_eq!(
            check_header(&executable),
            Err(Refusal::Header("not position-independent"))
        );
        let arm = Header {
            e_machine: goblin::elf::header::EM_AARCH64,
            ..header
        };
        assert_eq!(check_header(&arm), Err(Refusal::Header("not for x86-64")));
    }

    #[test]
    fn what_a_loader_would_do_is_refused() {
        let check = |d_tag, d_val| check_dynamic_entry(&Dyn { d_tag, d_val });
        assert_eq!(check(dynamic::DT_FLAGS_1, dynamic::DF_1_PIE), Ok(()));
        assert_eq!(check(dynamic::DT_SYMTAB, 0x48), Ok(()));
        for (tag, value) in [
            (dynamic::DT_NEEDED, 1),
            (dynamic::DT_TEXTREL, 0),
            (dynamic::DT_FLAGS, dynamic::DF_TEXTREL),
            (dynamic::DT_FLAGS_1, dynamic::DF_1_NOW),
            (dynamic::DT_REL, 0x100),
            (DT_RELR, 0x100),
            (dynamic::DT_INIT_ARRAY, 0x100),
            (dynamic::DT_FINI, 0x100),
            (dynamic::DT_VERNEED, 0x100),
        ] {
            let refusal = check(tag, value).unwrap_err();
            assert!(matches!(refusal, Refusal::Dynamic { tag: named, .. } if named == tag));
        }
    }
}
