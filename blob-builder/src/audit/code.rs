//! What the instructions say: one way into the kernel, nothing of the thread whose memory is borrowed (its fs and gs), no
//! address that is not relative to the image, nothing that a processor may lack, and no way to jump out.
//!
//! The section is decoded from its start to its end without gaps; an indirect jump is the only kind whose target is not
//! checked (a jump table is data).

use super::Refusal;
use crate::Tiles;
use iced_x86::{
    CpuidFeature, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};
use std::collections::HashSet;
use std::ops::Range;

/// What was seen in the instructions.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// How many there are.
    pub instructions: usize,
    /// Where the system calls are.
    pub syscalls: Vec<u64>,
}

/// What every x86-64 processor has: the baseline of the compiler's target, SSE2 included, x87 and MMX not.
const BASELINE: [CpuidFeature; 13] = [
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL286,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::X64,
    CpuidFeature::CMOV,
    CpuidFeature::CX8,
    CpuidFeature::SSE,
    CpuidFeature::SSE2,
    CpuidFeature::MULTIBYTENOP,
    CpuidFeature::PAUSE,
    CpuidFeature::SYSCALL,
];

/// Instructions that make the tile registers usable.
const TILES: [Mnemonic; 3] = [
    Mnemonic::Ldtilecfg,
    Mnemonic::Tilezero,
    Mnemonic::Tilerelease,
];

/// Other ways to change the privilege level or the code segment.
const FAR: [Mnemonic; 9] = [
    Mnemonic::Sysenter,
    Mnemonic::Sysexit,
    Mnemonic::Sysexitq,
    Mnemonic::Sysret,
    Mnemonic::Sysretq,
    Mnemonic::Iret,
    Mnemonic::Iretd,
    Mnemonic::Iretq,
    Mnemonic::Retf,
];

/// Checks the instructions at address `base` of an image of `mem_size` bytes.
pub fn check(bytes: &[u8], base: u64, mem_size: u64, tiles: Tiles) -> Result<Code, Refusal> {
    let code: Vec<Instruction> = Decoder::with_ip(64, bytes, base, DecoderOptions::NONE)
        .into_iter()
        .collect();
    let starts: HashSet<u64> = code.iter().map(Instruction::ip).collect();
    for instruction in &code {
        let fault = forbidden(instruction, tiles)
            .or_else(|| bad_memory(instruction, mem_size))
            .or_else(|| bad_target(instruction, &starts));
        if let Some(why) = fault {
            let mnemonic = format!("{:?}", instruction.mnemonic()).to_lowercase();
            return Err(Refusal::Instruction {
                at: instruction.ip(),
                mnemonic,
                why,
            });
        }
    }
    let syscalls = code
        .iter()
        .filter(|one| one.mnemonic() == Mnemonic::Syscall)
        .map(Instruction::ip)
        .collect();
    Ok(Code {
        instructions: code.len(),
        syscalls,
    })
}

/// Returns the one system call, which is in the gate.
pub fn gate(syscalls: &[u64], gate: Range<u64>) -> Result<u64, Refusal> {
    match syscalls {
        [only] if gate.contains(only) => Ok(*only),
        _ => Err(Refusal::Gate(syscalls.to_vec())),
    }
}

/// Returns why the instruction itself is none for a blob.
fn forbidden(instruction: &Instruction, tiles: Tiles) -> Option<&'static str> {
    let mnemonic = instruction.mnemonic();
    if instruction.is_invalid() {
        return Some("not an instruction");
    }
    if instruction.flow_control() == FlowControl::Interrupt {
        return Some("raises an interrupt");
    }
    if instruction.is_privileged() {
        return Some("privileged");
    }
    let far_operand = (0..instruction.op_count()).any(|operand| {
        matches!(
            instruction.op_kind(operand),
            OpKind::FarBranch16 | OpKind::FarBranch32
        )
    });
    if FAR.contains(&mnemonic)
        || far_operand
        || instruction.is_jmp_far_indirect()
        || instruction.is_call_far_indirect()
    {
        return Some("changes the code segment or the privilege level");
    }
    if tiles == Tiles::Configure && TILES.contains(&mnemonic) {
        return None;
    }
    let lacking = instruction
        .cpuid_features()
        .iter()
        .any(|feature| !BASELINE.contains(feature));
    lacking.then_some("not in the baseline of x86-64")
}

/// Returns why an operand is none for a blob.
fn bad_memory(instruction: &Instruction, mem_size: u64) -> Option<&'static str> {
    let is_thread = |register| matches!(register, Register::FS | Register::GS);
    if is_thread(instruction.segment_prefix()) {
        return Some("uses fs or gs, which are the target's");
    }
    for operand in 0..instruction.op_count() {
        match instruction.op_kind(operand) {
            OpKind::Register if instruction.op_register(operand).is_segment_register() => {
                return Some("uses a segment register");
            }
            OpKind::Memory => {}
            _ => continue,
        }
        if instruction.is_ip_rel_memory_operand() {
            if instruction.ip_rel_memory_address() >= mem_size {
                return Some("addresses something outside of the image");
            }
        } else if instruction.memory_base() == Register::None && !is_arithmetic(instruction) {
            return Some("uses an absolute address");
        }
    }
    None
}

/// Returns whether the operand of `lea` is a multiplication, and not an address.
fn is_arithmetic(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Lea && instruction.memory_index() != Register::None
}

/// Returns why a jump or call is none for a blob: its target must be an instruction as decoded.
fn bad_target(instruction: &Instruction, starts: &HashSet<u64>) -> Option<&'static str> {
    let is_near = (0..instruction.op_count()).any(|operand| {
        matches!(
            instruction.op_kind(operand),
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64
        )
    });
    (is_near && !starts.contains(&instruction.near_branch_target()))
        .then_some("goes to where no instruction of the image begins")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Size of the image that the samples stand in.
    const MEM_SIZE: u64 = 4096;

    fn refusal(bytes: &[u8]) -> String {
        check(bytes, 0, MEM_SIZE, Tiles::Refused)
            .unwrap_err()
            .to_string()
    }

    fn syscalls(bytes: &[u8]) -> Vec<u64> {
        check(bytes, 0, MEM_SIZE, Tiles::Refused).unwrap().syscalls
    }

    #[test]
    fn ordinary_code_is_accepted() {
        // sub rsp, 24; xorps xmm0, xmm0; movaps [rsp], xmm0; lea rax, [rip]; lea rcx, [rax*8]; rep stosb; call 0; ud2
        let code = b"\x48\x83\xec\x18\x0f\x57\xc0\x0f\x29\x04\x24\x48\x8d\x05\0\0\0\0\x48\x8d\x0c\xc5\0\0\0\0\
            \xf3\xaa\xe8\xdf\xff\xff\xff\x0f\x0b";
        let seen = check(code, 0, MEM_SIZE, Tiles::Refused).unwrap();
        assert_eq!(
            seen,
            Code {
                instructions: 8,
                syscalls: vec![]
            }
        );
    }

    #[test]
    fn one_system_call_is_accepted_and_only_in_the_gate() {
        let one = b"\xc3\x0f\x05\xc3";
        assert_eq!(gate(&syscalls(one), 1..4), Ok(1));
        assert_eq!(gate(&syscalls(one), 3..4), Err(Refusal::Gate(vec![1])));
        let two = b"\x0f\x05\xc3\x0f\x05\xc3";
        assert_eq!(gate(&syscalls(two), 0..3), Err(Refusal::Gate(vec![0, 3])));
        assert_eq!(gate(&syscalls(b"\xc3"), 0..1), Err(Refusal::Gate(vec![])));
    }

    #[test]
    fn other_ways_into_the_kernel_are_refused() {
        assert!(refusal(b"\x0f\x34").contains("privilege level"), "sysenter");
        assert!(refusal(b"\xcd\x80").contains("interrupt"), "int 0x80");
        assert!(refusal(b"\xcc").contains("interrupt"), "int3");
        assert!(refusal(b"\xf4").contains("privileged"), "hlt");
        assert!(refusal(b"\xee").contains("privileged"), "out dx, al");
        assert!(
            refusal(b"\x0f\x20\xc0").contains("privileged"),
            "mov rax, cr0"
        );
        assert!(refusal(b"\xcb").contains("code segment"), "retf");
        assert!(
            refusal(b"\xff\x28").contains("code segment"),
            "jmp far [rax]"
        );
        assert!(refusal(b"\x48\xcf").contains("code segment"), "iretq");
    }

    #[test]
    fn the_registers_of_the_target_thread_are_refused() {
        assert!(
            refusal(b"\x64\x48\x8b\x04\x25\0\0\0\0").contains("fs or gs"),
            "mov rax, fs:[0]"
        );
        assert!(
            refusal(b"\x65\x48\x8b\x00").contains("fs or gs"),
            "mov rax, gs:[rax]"
        );
        assert!(
            refusal(b"\x8e\xd8").contains("segment register"),
            "mov ds, eax"
        );
        assert!(refusal(b"\x0f\xa0").contains("segment register"), "push fs");
        assert!(
            refusal(b"\xf3\x48\x0f\xae\xd0").contains("baseline"),
            "wrfsbase rax"
        );
    }

    #[test]
    fn absolute_addresses_are_refused() {
        assert!(
            refusal(b"\x48\x8b\x04\x25\x34\x12\0\0").contains("absolute"),
            "mov rax, [0x1234]"
        );
        assert!(
            refusal(b"\x48\xa1\x34\x12\0\0\0\0\0\0").contains("absolute"),
            "movabs rax, [0x1234]"
        );
        assert!(
            refusal(b"\x48\x8b\x04\xc5\x34\x12\0\0").contains("absolute"),
            "mov rax, [rax*8 + 0x1234]"
        );
        assert!(
            refusal(b"\x48\x8d\x04\x25\x34\x12\0\0").contains("absolute"),
            "lea rax, [0x1234]"
        );
    }

    #[test]
    fn what_lies_outside_of_the_image_is_refused() {
        assert!(
            refusal(b"\x48\x8d\x05\0\x10\0\0").contains("outside"),
            "lea rax, [rip + 0x1000]"
        );
        assert!(
            refusal(b"\x48\x8d\x05\xf0\xff\xff\xff").contains("outside"),
            "lea rax, [rip - 16]"
        );
        assert!(
            refusal(b"\xeb\x10").contains("no instruction"),
            "jmp behind the end"
        );
        assert!(
            refusal(b"\xe8\0\x10\0\0").contains("no instruction"),
            "call behind the end"
        );
        // test al, 0x0f with its second byte, then 0x05: jumped into, it would be a second system call.
        assert!(
            refusal(b"\xeb\x01\xa8\x0f\x05\0\0\0\0").contains("no instruction"),
            "jmp into the middle"
        );
    }

    #[test]
    fn what_a_processor_may_lack_is_refused() {
        assert!(
            refusal(b"\xc5\xfd\xef\xc0").contains("baseline"),
            "vpxor ymm0, ymm0, ymm0"
        );
        assert!(
            refusal(b"\xf3\x0f\xb8\xc0").contains("baseline"),
            "popcnt eax, eax"
        );
        assert!(
            refusal(b"\x66\x0f\x38\x00\xc1").contains("baseline"),
            "pshufb xmm0, xmm1"
        );
        assert!(refusal(b"\xd9\xe8").contains("baseline"), "fld1");
        assert!(refusal(b"\x0f\x31").contains("baseline"), "rdtsc");
        assert!(
            refusal(b"\x06").contains("not an instruction"),
            "push es, gone in 64-bit mode"
        );
        assert!(
            refusal(b"\x48").contains("not an instruction"),
            "a prefix without its instruction"
        );
    }

    #[test]
    fn tiles_are_made_usable_by_the_restorer_only() {
        // ldtilecfg [rax]; tilezero tmm0; tilerelease
        let code = b"\xc4\xe2\x78\x49\x00\xc4\xe2\x7b\x49\xc0\xc4\xe2\x78\x49\xc0";
        assert!(refusal(code).contains("baseline"));
        assert_eq!(
            check(code, 0, MEM_SIZE, Tiles::Configure)
                .unwrap()
                .instructions,
            3
        );
        let load = b"\xc4\xe2\x7b\x4b\x04\x20";
        let refused = check(load, 0, MEM_SIZE, Tiles::Configure).unwrap_err();
        assert!(refused.to_string().contains("tileloadd"), "{refused}");
    }
}
