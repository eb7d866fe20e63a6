//! Between the fact and its record.

use crate::image::error::{Checked, wrong};
use crate::snapshot::Limit;
use proto::pb;

/// Number of limits: `RLIM_NLIMITS` of `include/uapi/asm-generic/resource.h`.
const LIMITS: usize = 16;

/// Returns the records of `limits`, by number.
pub(crate) fn to_records(limits: &[Limit]) -> Vec<pb::RlimitEntry> {
    limits
        .iter()
        .map(|limit| pb::RlimitEntry {
            cur: limit.soft,
            max: limit.hard,
        })
        .collect()
}

/// Returns the limits in `records`.
pub(crate) fn from_records(records: &[pb::RlimitEntry]) -> Checked<Vec<Limit>> {
    if records.len() > LIMITS {
        return wrong!(
            "{} resource limits, where Linux has {LIMITS}",
            records.len()
        );
    }
    let mut limits = Vec::with_capacity(records.len());
    for (number, record) in records.iter().enumerate() {
        if record.cur > record.max {
            return wrong!(
                "resource limit {number}: soft {} above hard {}",
                record.cur,
                record.max
            );
        }
        limits.push(Limit {
            soft: record.cur,
            hard: record.max,
        });
    }
    Ok(limits)
}
