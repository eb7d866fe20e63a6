//! Between the fact and its record.

use super::collect::INSTRUCTION;
use crate::image::error::{Checked, wrong};
use crate::snapshot::SeccompFilter;
use proto::pb;

/// `BPF_MAXINSNS`.
const MOST_INSTRUCTIONS: usize = 4096;
/// `SECCOMP_FILTER_FLAG_*`: those that may be set again, and the one of a listener.
const KNOWN: u32 = 0x3f;
const NEW_LISTENER: u32 = 1 << 3;

/// Returns the record of all filters.
pub(crate) fn to_record(filters: &[SeccompFilter]) -> pb::SeccompEntry {
    let record = |filter: &SeccompFilter| pb::SeccompFilter {
        filter: filter.program.clone(),
        prev: filter.prev,
        flags: Some(filter.flags),
    };
    pb::SeccompEntry {
        seccomp_filters: filters.iter().map(record).collect(),
    }
}

/// Returns the filter number `index` of a record.
pub(crate) fn from_record(index: usize, record: &pb::SeccompFilter) -> Checked<SeccompFilter> {
    let len = record.filter.len();
    if len == 0 || !len.is_multiple_of(INSTRUCTION) || len > MOST_INSTRUCTIONS * INSTRUCTION {
        return wrong!("{len} bytes are no program");
    }
    if let Some(prev) = record.prev.filter(|&prev| prev as usize >= index) {
        return wrong!("it was added to filter {prev}, which comes after it");
    }
    let flags = record.flags.unwrap_or(0);
    if flags & !KNOWN != 0 {
        return wrong!("its flags {flags:#x} are not known");
    }
    if flags & NEW_LISTENER != 0 {
        return wrong!("it has a listener, which is not restored");
    }
    Ok(SeccompFilter {
        prev: record.prev,
        program: record.filter.clone(),
        flags,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_comes_after_the_one_it_was_added_to() {
        let record = pb::SeccompFilter {
            filter: vec![0; 8],
            prev: Some(1),
            flags: None,
        };
        assert!(from_record(2, &record).is_ok());
        assert!(from_record(1, &record).is_err());
        let filter = vec![0; 9];
        assert!(from_record(2, &pb::SeccompFilter { filter, ..record }).is_err());
    }
}
