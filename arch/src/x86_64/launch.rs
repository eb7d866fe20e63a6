//! The program that a tree begins with: an executable of one page that maps the arena and goes on in it.
//!
//! It is executed for an address space that nobody else's pages were ever in, whatever the size of the orchestrator. It
//! has no stack to speak of, no library and no variables: all that it has to know is written into its instructions.

/// What the program is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Descriptor of the arena's memory.
    pub fd: u32,
    /// Address of the arena.
    pub base: u64,
    /// Bytes of it that are code.
    pub text_len: u64,
    /// Bytes of all of it.
    pub len: u64,
    /// Where to go on.
    pub entry: u64,
    /// Stack pointer there.
    pub stack: u64,
    /// First argument there.
    pub arg: u64,
}

/// Exit status where the arena cannot be mapped.
pub const NO_ARENA: i32 = 112;

/// Length of the program.
pub const PROGRAM_LEN: usize = HEADERS_LEN + CODE.len();

/// Address of its first byte: what linkers choose, below every arena.
const ADDRESS: u64 = 0x40_0000;
const ELF_HEADER_LEN: usize = 64;
const HEADERS_LEN: usize = ELF_HEADER_LEN + 56;

/// The instructions, zero where [`program`] writes.
#[rustfmt::skip]
const CODE: [u8; 145] = [
    0xb8, 9, 0, 0, 0,                         //   0 mov eax, 9              mmap
    0x48, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0,       //   5 movabs rdi, base
    0x48, 0xbe, 0, 0, 0, 0, 0, 0, 0, 0,       //  15 movabs rsi, text_len
    0xba, 5, 0, 0, 0,                         //  25 mov edx, 5              PROT_READ | PROT_EXEC
    0x41, 0xba, 0x01, 0x00, 0x10, 0x00,       //  30 mov r10d, 0x100001      MAP_SHARED | MAP_FIXED_NOREPLACE
    0x41, 0xb8, 0, 0, 0, 0,                   //  36 mov r8d, fd
    0x45, 0x31, 0xc9,                         //  42 xor r9d, r9d
    0x0f, 0x05,                               //  45 syscall
    0x48, 0x39, 0xf8,                         //  47 cmp rax, rdi
    0x75, 0x4f,                               //  50 jne 131
    0xb8, 9, 0, 0, 0,                         //  52 mov eax, 9              mmap
    0x48, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0,       //  57 movabs rdi, base + text_len
    0x48, 0xbe, 0, 0, 0, 0, 0, 0, 0, 0,       //  67 movabs rsi, len - text_len
    0xba, 3, 0, 0, 0,                         //  77 mov edx, 3              PROT_READ | PROT_WRITE
    0x49, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0,       //  82 movabs r9, text_len
    0x0f, 0x05,                               //  92 syscall
    0x48, 0x39, 0xf8,                         //  94 cmp rax, rdi
    0x75, 0x20,                               //  97 jne 131
    0x48, 0xbc, 0, 0, 0, 0, 0, 0, 0, 0,       //  99 movabs rsp, stack
    0x48, 0xbf, 0, 0, 0, 0, 0, 0, 0, 0,       // 109 movabs rdi, arg
    0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0,       // 119 movabs rax, entry
    0xff, 0xe0,                               // 129 jmp rax
    0xbf, NO_ARENA as u8, 0, 0, 0,            // 131 mov edi, NO_ARENA
    0xb8, 231, 0, 0, 0,                       // 136 mov eax, 231            exit_group
    0x0f, 0x05,                               // 141 syscall
    0x0f, 0x0b,                               // 143 ud2
];

/// Returns the bytes of the executable.
#[must_use]
pub fn program(launch: &Launch) -> [u8; PROGRAM_LEN] {
    let mut bytes = [0; PROGRAM_LEN];
    let (headers, code) = bytes.split_at_mut(HEADERS_LEN);
    write_headers(headers);
    code.copy_from_slice(&CODE);
    let words = [
        (7, launch.base),
        (17, launch.text_len),
        (59, launch.base + launch.text_len),
        (69, launch.len - launch.text_len),
        (84, launch.text_len),
        (101, launch.stack),
        (111, launch.arg),
        (121, launch.entry),
    ];
    for (at, word) in words {
        put(code, at, &word.to_le_bytes());
    }
    put(code, 38, &launch.fd.to_le_bytes());
    bytes
}

/// Writes an ELF header and one program header, which loads the whole file as code.
fn write_headers(bytes: &mut [u8]) {
    let half = |value: u16| value.to_le_bytes();
    let word = |value: u32| value.to_le_bytes();
    let xword = |value: u64| value.to_le_bytes();
    // Class 64 bit, little endian, version 1.
    put(bytes, 0, b"\x7fELF\x02\x01\x01");
    // ET_EXEC, EM_X86_64, version 1, entry, program headers.
    put(bytes, 16, &half(2));
    put(bytes, 18, &half(62));
    put(bytes, 20, &word(1));
    put(bytes, 24, &xword(ADDRESS + HEADERS_LEN as u64));
    put(bytes, 32, &xword(ELF_HEADER_LEN as u64));
    put(bytes, 52, &half(ELF_HEADER_LEN as u16));
    put(bytes, 54, &half(56));
    put(bytes, 56, &half(1));
    // PT_LOAD, readable and executable, from offset 0.
    let segment = &mut bytes[ELF_HEADER_LEN..];
    put(segment, 0, &word(1));
    put(segment, 4, &word(5));
    put(segment, 16, &xword(ADDRESS));
    put(segment, 24, &xword(ADDRESS));
    put(segment, 32, &xword(PROGRAM_LEN as u64));
    put(segment, 40, &xword(PROGRAM_LEN as u64));
    put(segment, 48, &xword(0x1000));
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_is_told_stands_in_its_instructions() {
        let launch = Launch {
            fd: 0x0102_0304,
            base: 0x10_0000_0000,
            text_len: 0x2000,
            len: 0x9000,
            entry: 0x10_0000_0010,
            stack: 0x10_0000_5000,
            arg: 0x10_0000_3000,
        };
        let bytes = program(&launch);
        let code = &bytes[HEADERS_LEN..];
        let word = |at: usize| u64::from_le_bytes(code[at..at + 8].try_into().unwrap());
        assert_eq!(&code[36..42], b"\x41\xb8\x04\x03\x02\x01");
        assert_eq!(word(7), launch.base);
        assert_eq!(word(59), 0x10_0000_2000);
        assert_eq!(word(69), 0x7000);
        // Each immediate follows an opcode of two bytes that begins with REX.W.
        for at in [7, 17, 59, 69, 84, 101, 111, 121] {
            assert!(matches!(code[at - 2], 0x48 | 0x49), "{at}");
        }
        // Both conditional jumps go to the end.
        for at in [50_usize, 97] {
            assert_eq!(code[at], 0x75);
            assert_eq!(at + 2 + usize::from(code[at + 1]), 131);
        }
        assert_eq!(code[132], 112);
    }
}
