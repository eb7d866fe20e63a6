//! Between the fact and its record: one `creds_entry` per thread.

use crate::image::error::{Checked, wrong};
use crate::snapshot::Creds;
use proto::pb;

/// `NGROUPS_MAX` of `include/uapi/linux/limits.h`.
const MAX_GROUPS: usize = 65536;
/// Bits of `SECUREBITS` that exist (`include/uapi/linux/securebits.h`).
const SECUREBITS: u32 = 0xfff;

/// Returns the record of `creds`.
pub(crate) fn to_record(creds: &Creds) -> pb::CredsEntry {
    let [uid, euid, suid, fsuid] = creds.uids;
    let [gid, egid, sgid, fsgid] = creds.gids;
    pb::CredsEntry {
        uid,
        gid,
        euid,
        egid,
        suid,
        sgid,
        fsuid,
        fsgid,
        cap_inh: words(creds.cap_inheritable),
        cap_prm: words(creds.cap_permitted),
        cap_eff: words(creds.cap_effective),
        cap_bnd: words(creds.cap_bounding),
        cap_amb: words(creds.cap_ambient),
        secbits: creds.securebits,
        groups: creds.groups.clone(),
        lsm_profile: creds.lsm_profile.clone(),
        no_new_privs: creds.no_new_privs.then_some(1),
        ..Default::default()
    }
}

/// Returns the fact in `record`.
pub(crate) fn from_record(record: &pb::CredsEntry) -> Checked<Creds> {
    if record.groups.len() > MAX_GROUPS {
        return wrong!(
            "{} groups are more than a process can have",
            record.groups.len()
        );
    }
    if record.secbits & !SECUREBITS != 0 {
        return wrong!("securebits {:#x} are not known", record.secbits);
    }
    Ok(Creds {
        uids: [record.uid, record.euid, record.suid, record.fsuid],
        gids: [record.gid, record.egid, record.sgid, record.fsgid],
        groups: record.groups.clone(),
        cap_inheritable: set(&record.cap_inh)?,
        cap_permitted: set(&record.cap_prm)?,
        cap_effective: set(&record.cap_eff)?,
        cap_bounding: set(&record.cap_bnd)?,
        cap_ambient: set(&record.cap_amb)?,
        securebits: record.secbits,
        no_new_privs: record.no_new_privs.unwrap_or(0) != 0,
        lsm_profile: record.lsm_profile.clone(),
    })
}

/// A capability set is stored as two words, the low one first.
fn words(set: u64) -> Vec<u32> {
    vec![set as u32, (set >> 32) as u32]
}

fn set(words: &[u32]) -> Checked<u64> {
    match *words {
        [] => Ok(0),
        [low] => Ok(u64::from(low)),
        [low, high] => Ok(u64::from(low) | u64::from(high) << 32),
        _ => wrong!("a capability set of {} words", words.len()),
    }
}
