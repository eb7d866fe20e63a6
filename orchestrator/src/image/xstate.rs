//! Between an XSAVE area in the standard format and its record.
//!
//! The record names each component that the peer knows; the others (AMX tiles) are extensions by number. Offsets are
//! those of the machine at hand, so that an area of one processor is laid out for another that has the components in use.

use std::sync::OnceLock;

use arch::native::xstate::{Component, area_len, components};
use proto::pb;

use super::error::{Checked, wrong};

/// Offsets in the legacy region (Intel SDM vol. 1, table 10-2).
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
const ST_SPACE: usize = 32;
const XMM_SPACE: usize = 160;
/// The header: which components are not in their initial state.
const XSTATE_BV: usize = 512;
/// End of the header.
const HEADER_END: usize = 576;
/// Components that the legacy region holds: x87 and SSE.
const LEGACY: u64 = 0b11;
/// Components with a field of their own in the peer's record.
const AVX: u32 = 2;
const BNDREGS: u32 = 3;
const BNDCSR: u32 = 4;
const OPMASK: u32 = 5;
const ZMM_HI256: u32 = 6;
const HI16_ZMM: u32 = 7;
const PKRU: u32 = 9;
const PEER: [u32; 7] = [AVX, BNDREGS, BNDCSR, OPMASK, ZMM_HI256, HI16_ZMM, PKRU];
/// Initial values (Intel SDM vol. 1, 13.6).
const INITIAL_FCW: u32 = 0x37f;
const INITIAL_MXCSR: u32 = 0x1f80;

/// Where the components lie in an area.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    len: usize,
    components: Vec<(u32, Component)>,
}

impl Layout {
    /// Returns the layout of this machine.
    pub(super) fn of_this_machine() -> &'static Self {
        // Under virtualization each question to the processor leaves the guest.
        static LAYOUT: OnceLock<Layout> = OnceLock::new();
        LAYOUT.get_or_init(|| Self {
            len: area_len(),
            components: components().collect(),
        })
    }

    fn place(&self, number: u32) -> Option<Component> {
        self.components
            .iter()
            .find(|(other, _)| *other == number)
            .map(|(_, place)| *place)
    }
}

/// Returns the record of `area` and its components that have no field in it.
pub(super) fn to_record(
    area: &[u8],
    layout: &Layout,
) -> (pb::UserX86FpregsEntry, Vec<pb::ExtXstate>) {
    if area.len() < XMM_SPACE + 256 {
        let initial = pb::UserX86FpregsEntry {
            cwd: INITIAL_FCW,
            mxcsr: INITIAL_MXCSR,
            st_space: vec![0; 32],
            xmm_space: vec![0; 64],
            ..Default::default()
        };
        return (initial, Vec::new());
    }
    let mut record = legacy_to_record(area);
    if area.len() < HEADER_END {
        return (record, Vec::new());
    }
    let bv = word64(area, XSTATE_BV);
    let known = PEER
        .iter()
        .fold(LEGACY, |known, number| known | 1 << number);
    let bytes = |number| {
        layout
            .place(number)
            .and_then(|at| area.get(at.offset..at.offset + at.len))
    };
    let words = |number| {
        bytes(number)
            .unwrap_or_default()
            .chunks_exact(4)
            .map(|word| word32(word, 0))
            .collect()
    };
    let longs = |number| {
        bytes(number)
            .unwrap_or_default()
            .chunks_exact(8)
            .map(|long| word64(long, 0))
            .collect()
    };
    record.xsave = Some(pb::UserX86XsaveEntry {
        xstate_bv: bv & known,
        ymmh_space: words(AVX),
        bndreg_state: longs(BNDREGS),
        bndcsr_state: longs(BNDCSR),
        opmask_reg: longs(OPMASK),
        zmm_upper: longs(ZMM_HI256),
        hi16_zmm: longs(HI16_ZMM),
        pkru: words(PKRU),
        cet: None,
    });
    let others = layout
        .components
        .iter()
        .filter(|(number, _)| bv & !known & 1 << number != 0);
    let extra = others.filter_map(|(number, _)| {
        Some(pb::ExtXstate {
            component: *number,
            data: bytes(*number)?.to_vec(),
        })
    });
    (record, extra.collect())
}

/// What a record says of extended state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Xstate {
    /// The area, laid out for this machine.
    pub(super) area: Vec<u8>,
    /// Components in use that this machine does not have.
    pub(super) missing: Vec<u32>,
}

/// Returns the area in `record` and `extra`.
pub(super) fn from_record(
    record: &pb::UserX86FpregsEntry,
    extra: &[pb::ExtXstate],
    layout: &Layout,
) -> Checked<Xstate> {
    let mut area = vec![0; layout.len];
    legacy_from_record(record, &mut area)?;
    let Some(xsave) = &record.xsave else {
        area[XSTATE_BV..XSTATE_BV + 8].copy_from_slice(&LEGACY.to_le_bytes());
        return Ok(Xstate {
            area,
            missing: Vec::new(),
        });
    };
    // The peer writes one for every thread of a processor that has them.
    if xsave.cet.as_ref().is_some_and(|cet| cet.cet != 0) {
        return wrong!("it has a shadow stack, which this build does not restore");
    }
    let mut bv = xsave.xstate_bv;
    let mut missing = Vec::new();
    for (number, bytes) in parts(xsave, extra) {
        if extra.iter().any(|part| part.component == number) {
            bv |= 1 << number;
        }
        match layout.place(number) {
            _ if bytes.is_empty() => {}
            Some(place) if bytes.len() <= place.len => {
                area[place.offset..place.offset + bytes.len()].copy_from_slice(&bytes);
            }
            Some(place) => {
                return wrong!(
                    "xstate component {number} has {} bytes, not {}",
                    bytes.len(),
                    place.len
                );
            }
            None if bv >> number & 1 == 1 => missing.push(number),
            None => {}
        }
    }
    check_named(bv, xsave, extra)?;
    for number in &missing {
        bv &= !(1 << number);
    }
    area[XSTATE_BV..XSTATE_BV + 8].copy_from_slice(&bv.to_le_bytes());
    Ok(Xstate { area, missing })
}

/// Checks that each component in use has its bytes: the kernel would load whatever lies there.
fn check_named(bv: u64, xsave: &pb::UserX86XsaveEntry, extra: &[pb::ExtXstate]) -> Checked<()> {
    let parts = parts(xsave, extra);
    let present = parts.iter().filter(|(_, bytes)| !bytes.is_empty());
    let named = present.fold(LEGACY, |named, (number, _)| named | 1 << number);
    match bv & !named {
        0 => Ok(()),
        rest => wrong!("the bytes of xstate components {rest:#x} are missing"),
    }
}

/// Returns the bytes of each component beyond the legacy region.
fn parts(xsave: &pb::UserX86XsaveEntry, extra: &[pb::ExtXstate]) -> Vec<(u32, Vec<u8>)> {
    let words = |words: &[u32]| {
        words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let longs = |longs: &[u64]| {
        longs
            .iter()
            .flat_map(|long| long.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let mut parts = vec![
        (AVX, words(&xsave.ymmh_space)),
        (BNDREGS, longs(&xsave.bndreg_state)),
        (BNDCSR, longs(&xsave.bndcsr_state)),
        (OPMASK, longs(&xsave.opmask_reg)),
        (ZMM_HI256, longs(&xsave.zmm_upper)),
        (HI16_ZMM, longs(&xsave.hi16_zmm)),
        (PKRU, words(&xsave.pkru)),
    ];
    let others = extra
        .iter()
        .filter(|part| (2..63).contains(&part.component));
    parts.extend(
        others
            .filter(|part| !PEER.contains(&part.component))
            .map(|part| (part.component, part.data.clone())),
    );
    parts
}

fn legacy_to_record(area: &[u8]) -> pb::UserX86FpregsEntry {
    let half = |at: usize| u32::from(u16::from_le_bytes([area[at], area[at + 1]]));
    let words = |at: usize, count: usize| {
        (0..count)
            .map(|index| word32(area, at + index * 4))
            .collect()
    };
    pb::UserX86FpregsEntry {
        cwd: half(0),
        swd: half(2),
        twd: half(4),
        fop: half(6),
        rip: word64(area, 8),
        rdp: word64(area, 16),
        mxcsr: word32(area, MXCSR),
        mxcsr_mask: word32(area, MXCSR_MASK),
        st_space: words(ST_SPACE, 32),
        xmm_space: words(XMM_SPACE, 64),
        padding: Vec::new(),
        xsave: None,
    }
}

fn legacy_from_record(record: &pb::UserX86FpregsEntry, area: &mut [u8]) -> Checked<()> {
    for (at, value) in [
        (0, record.cwd),
        (2, record.swd),
        (4, record.twd),
        (6, record.fop),
    ] {
        let Ok(half) = u16::try_from(value) else {
            return wrong!("x87 control word {value:#x} has more than 16 bits");
        };
        area[at..at + 2].copy_from_slice(&half.to_le_bytes());
    }
    // The kernel refuses reserved bits (fpu/regset.c).
    if record.mxcsr > 0xffff {
        return wrong!("MXCSR {:#x} has reserved bits", record.mxcsr);
    }
    if record.st_space.len() > 32 || record.xmm_space.len() > 64 {
        return wrong!(
            "{} x87 and {} SSE words",
            record.st_space.len(),
            record.xmm_space.len()
        );
    }
    area[8..16].copy_from_slice(&record.rip.to_le_bytes());
    area[16..24].copy_from_slice(&record.rdp.to_le_bytes());
    area[MXCSR..MXCSR + 4].copy_from_slice(&record.mxcsr.to_le_bytes());
    area[MXCSR_MASK..MXCSR_MASK + 4].copy_from_slice(&record.mxcsr_mask.to_le_bytes());
    for (start, words) in [(ST_SPACE, &record.st_space), (XMM_SPACE, &record.xmm_space)] {
        for (slot, word) in area[start..].chunks_exact_mut(4).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
    }
    Ok(())
}

fn word32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4]
        .iter()
        .rev()
        .fold(0, |word, &byte| word << 8 | u32::from(byte))
}

fn word64(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8]
        .iter()
        .rev()
        .fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record as CRIU 4.2 writes it, which has these words for each thread where the processor has shadow stacks.
    fn with_cet(cet: u64, ssp: u64) -> pb::UserX86FpregsEntry {
        let (mut record, _) = to_record(&[], Layout::of_this_machine());
        record.xsave = Some(pb::UserX86XsaveEntry {
            xstate_bv: LEGACY,
            cet: Some(pb::UserX86CetEntry { cet, ssp }),
            ..Default::default()
        });
        record
    }

    #[test]
    fn a_shadow_stack_is_refused_only_where_it_is_on() {
        let layout = Layout::of_this_machine();
        from_record(&with_cet(0, 0), &[], layout).unwrap();
        let error = from_record(&with_cet(1, 0x7fff_0000), &[], layout).unwrap_err();
        assert!(format!("{error:?}").contains("shadow stack"), "{error:?}");
    }
}
