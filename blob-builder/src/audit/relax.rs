//! Takes the linker's global offset table out of the code.
//!
//! The compiler calls the memory functions through that table as soon as any of the prebuilt `core` is linked in (a bounds
//! check is enough): `core` was compiled with the module flag `RtLibUseGOT`, link-time optimisation keeps the flag for
//! the whole program, and no stable option clears it. A slot of the table holds an absolute address, so it would have to
//! be relocated. The compiler marks these references as not to be relaxed (`R_X86_64_GOTPCREL`, for the sake of linkers
//! before 2015), so lld leaves them; done here is what lld would do with `R_X86_64_GOTPCRELX` (psABI for x86-64, B.2):
//!
//! ```text
//! call [rip + slot]       ff 15 ....     call function          67 e8 ....
//! jmp [rip + slot]        ff 25 ....     jmp function; nop      e9 .... 90
//! mov reg, [rip + slot]   48 8b .. ....  lea reg, [function]    48 8d .. ....
//! ```
//!
//! Of the same length each, so that nothing moves. Relocations elsewhere than in the table are refused, and so is any
//! other instruction that reads it.

use super::Refusal;
use goblin::elf::Elf;
use goblin::elf::reloc::R_X86_64_RELATIVE;
use iced_x86::{Decoder, DecoderOptions, Instruction};
use std::collections::HashMap;
use std::ops::Range;

/// Name of the table's section.
const TABLE: &str = ".got";

/// Addresses in the table, by the slot's own address.
type Slots = HashMap<u64, u64>;

/// Makes every reference to the table in the code a direct one, and returns how many there were.
pub fn relax(elf: &Elf<'_>, image: &mut [u8], code: &Range<u64>) -> Result<usize, Refusal> {
    let slots = slots(elf)?;
    let Some(bytes) = image.get_mut(code.start as usize..code.end as usize) else {
        return Err(Refusal::Header("the code lies outside of the image"));
    };
    relax_code(bytes, code.start, &slots)
}

/// Returns what the relocations would put into the table, or the first relocation that is none of it.
fn slots(elf: &Elf<'_>) -> Result<Slots, Refusal> {
    let table = elf
        .section_headers
        .iter()
        .find(|header| elf.shdr_strtab.get_at(header.sh_name) == Some(TABLE))
        .map_or(0..0, |header| {
            header.sh_addr..header.sh_addr.saturating_add(header.sh_size)
        });
    let tables = [&elf.dynrelas, &elf.dynrels, &elf.pltrelocs];
    let of_sections = elf.shdr_relocs.iter().map(|(_, relocations)| relocations);
    let mut slots = Slots::new();
    for relocation in tables
        .into_iter()
        .chain(of_sections)
        .flat_map(|relocations| relocations.iter())
    {
        match relocation.r_addend {
            Some(addend)
                if relocation.r_type == R_X86_64_RELATIVE
                    && table.contains(&relocation.r_offset) =>
            {
                slots.insert(relocation.r_offset, addend as u64);
            }
            _ => {
                return Err(Refusal::Relocation {
                    at: relocation.r_offset,
                });
            }
        }
    }
    Ok(slots)
}

fn relax_code(bytes: &mut [u8], base: u64, slots: &Slots) -> Result<usize, Refusal> {
    let mut relaxed = 0;
    let code: Vec<Instruction> = Decoder::with_ip(64, bytes, base, DecoderOptions::NONE)
        .into_iter()
        .collect();
    for instruction in code.iter().filter(|one| one.is_ip_rel_memory_operand()) {
        let Some(&target) = slots.get(&instruction.ip_rel_memory_address()) else {
            continue;
        };
        let start = (instruction.ip() - base) as usize;
        let encoded = &mut bytes[start..start + instruction.len()];
        rewrite(encoded, instruction.ip(), target).ok_or_else(|| Refusal::Instruction {
            at: instruction.ip(),
            mnemonic: format!("{:?}", instruction.mnemonic()).to_lowercase(),
            why: "uses an address that would have to be relocated",
        })?;
        relaxed += 1;
    }
    Ok(relaxed)
}

/// Rewrites one instruction in its place, if it is of one of the three forms.
fn rewrite(encoded: &mut [u8], ip: u64, target: u64) -> Option<()> {
    let distance = |length: u64| {
        let distance = target.wrapping_sub(ip.wrapping_add(length)) as i64;
        i32::try_from(distance).ok().map(i32::to_le_bytes)
    };
    match *encoded {
        [0xff, 0x15, ..] => {
            encoded[..2].copy_from_slice(&[0x67, 0xe8]);
            encoded[2..].copy_from_slice(&distance(6)?);
        }
        [0xff, 0x25, ..] => {
            encoded[0] = 0xe9;
            encoded[1..5].copy_from_slice(&distance(5)?);
            encoded[5] = 0x90;
        }
        [0x48 | 0x4c, 0x8b, ..] => {
            encoded[1] = 0x8d;
            encoded[3..].copy_from_slice(&distance(7)?);
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Mnemonic, Register};

    const BASE: u64 = 0x100;
    const SLOT: u64 = 0x1000;
    const FUNCTION: u64 = 0x40;

    /// Relaxes one instruction with these first bytes, whose displacement of 32 bits at their end points to the slot.
    fn relaxed(opcode: &[u8], displacement_to: u64) -> Result<(Instruction, Vec<u8>), Refusal> {
        let length = opcode.len() as u64 + 4;
        let mut bytes = opcode.to_vec();
        bytes.extend(((displacement_to - BASE - length) as i32).to_le_bytes());
        relax_code(&mut bytes, BASE, &Slots::from([(SLOT, FUNCTION)]))?;
        let first = Decoder::with_ip(64, &bytes, BASE, DecoderOptions::NONE).decode();
        Ok((first, bytes))
    }

    #[test]
    fn calls_and_jumps_become_direct() {
        let (call, bytes) = relaxed(b"\xff\x15", SLOT).unwrap();
        assert_eq!(
            (call.mnemonic(), call.near_branch_target()),
            (Mnemonic::Call, FUNCTION)
        );
        assert_eq!(call.len(), bytes.len());
        let (jump, bytes) = relaxed(b"\xff\x25", SLOT).unwrap();
        assert_eq!(
            (jump.mnemonic(), jump.near_branch_target()),
            (Mnemonic::Jmp, FUNCTION)
        );
        assert_eq!(bytes.last(), Some(&0x90));
    }

    #[test]
    fn loads_become_relative_addresses_in_the_same_register() {
        for (opcode, register) in [
            (b"\x4c\x8b\x35", Register::R14),
            (b"\x48\x8b\x05", Register::RAX),
        ] {
            let (lea, bytes) = relaxed(opcode, SLOT).unwrap();
            assert_eq!(
                (lea.mnemonic(), lea.op0_register()),
                (Mnemonic::Lea, register)
            );
            assert_eq!(lea.ip_rel_memory_address(), FUNCTION);
            assert_eq!(lea.len(), bytes.len());
        }
    }

    #[test]
    fn other_uses_of_the_table_are_refused_and_other_data_is_left_alone() {
        let refusal = relaxed(b"\x48\x3b\x05", SLOT).unwrap_err();
        assert!(refusal.to_string().contains("cmp"), "{refusal}");
        let (load, _) = relaxed(b"\x48\x8b\x05", SLOT + 8).unwrap();
        assert_eq!(
            (load.mnemonic(), load.ip_rel_memory_address()),
            (Mnemonic::Mov, SLOT + 8)
        );
    }
}
