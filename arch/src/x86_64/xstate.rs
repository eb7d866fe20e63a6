//! Where the parts of an XSAVE area lie, as this CPU tells (Intel SDM vol. 1, 13.4; the standard format).

use core::arch::x86_64::__cpuid_count;

/// Leaf that describes extended state.
const LEAF: u32 = 0xd;
/// Bytes of the legacy region and the header: the least that an area has.
const HEADER_END: usize = 576;

/// Place of one component in an area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Component {
    /// Offset in bytes.
    pub offset: usize,
    /// Length in bytes.
    pub len: usize,
}

/// Returns the components of this machine (2..=62) with their places, ascending. Ask once: under virtualization each
/// question leaves the guest.
pub fn components() -> impl Iterator<Item = (u32, Component)> {
    let root = __cpuid_count(LEAF, 0);
    let supported = u64::from(root.eax) | u64::from(root.edx) << 32;
    let end = area_len();
    let numbers = (2..63).filter(move |number| supported >> number & 1 != 0);
    let places = numbers.map(|number| {
        let leaf = __cpuid_count(LEAF, number);
        (
            number,
            Component {
                offset: leaf.ebx as usize,
                len: leaf.eax as usize,
            },
        )
    });
    // What the processor has and the kernel did not enable lies beyond the area.
    places.filter(move |(_, place)| place.offset >= HEADER_END && place.offset + place.len <= end)
}

/// Returns the length of the area that `NT_X86_XSTATE` gives and takes: that of all components the kernel enabled.
#[must_use]
pub fn area_len() -> usize {
    (__cpuid_count(LEAF, 0).ebx as usize).max(HEADER_END)
}

/// Returns which components the kernel enabled (XCR0); 0 where the processor has no XSAVE.
#[must_use]
#[expect(unsafe_code, reason = "an instruction that a processor may lack")]
pub fn enabled() -> u64 {
    /// `CPUID.1:ECX.OSXSAVE`.
    const OSXSAVE: u32 = 1 << 27;
    if __cpuid_count(1, 0).ecx & OSXSAVE == 0 {
        return 0;
    }
    let (low, high): (u32, u32);
    // SAFETY: with OSXSAVE set programs may read XCR0; it changes nothing but the two registers.
    unsafe {
        core::arch::asm!(
            "xgetbv",
            in("ecx") 0,
            out("eax") low,
            out("edx") high,
            options(nomem, nostack, preserves_flags),
        );
    }
    u64::from(high) << 32 | u64::from(low)
}
