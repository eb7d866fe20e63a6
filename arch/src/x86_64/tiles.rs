//! AMX tiles: how a thread comes to have them.
#![expect(unsafe_code, reason = "instructions that a processor may lack")]

/// `LDTILECFG`'s memory operand (Intel SDM vol. 1, 18.2): palette 1, and one tile of one row of four bytes.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes_per_row: [u16; 16],
    rows: [u8; 16],
}

const _: () = assert!(size_of::<Config>() == 64);

/// Uses a tile once, and gives it up: only then has the kernel room in its copy of the thread's registers for tile data.
///
/// # Safety
/// The processor has AMX and the kernel allows it to this thread.
pub unsafe fn make_usable() {
    let mut config = Config {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        bytes_per_row: [0; 16],
        rows: [0; 16],
    };
    config.bytes_per_row[0] = 4;
    config.rows[0] = 1;
    // SAFETY: the caller promises that the instructions are there; nobody has anything in tile registers.
    unsafe {
        core::arch::asm!(
            "ldtilecfg [{config}]",
            "tilezero tmm0",
            "tilerelease",
            config = in(reg) &raw const config,
            options(nostack),
        );
    }
}
