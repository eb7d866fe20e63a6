//! From the fact to operations. Pure.
//!
//! The kernel's rule: a change of user id to or from 0 changes the capabilities along with it, unless
//! SECBIT_NO_SETUID_FIXUP is set; and each step may take away what a later one needs. So that bit is set first, then comes
//! what needs privileges (bounding set, groups, ids, ambient set, securebits), and the capabilities themselves at the end.

use crate::plan::{Builder, Host, Object, Report};
use crate::snapshot::{Creds, Thread};

/// `_LINUX_CAPABILITY_VERSION_3`.
const VERSION: u64 = 0x2008_0522;
/// `SECBIT_NO_SETUID_FIXUP` (`include/uapi/linux/securebits.h`).
const NO_SETUID_FIXUP: u32 = 1 << 2;
/// `PR_CAP_AMBIENT` and its functions.
const AMBIENT_RAISE: u64 = 2;
const AMBIENT_CLEAR_ALL: u64 = 4;

/// Adds the credentials of the calling thread, where they are not those it started with.
pub fn plan_creds(b: &mut Builder, thread: &Thread, host: &Host, report: &mut Report) {
    let (creds, now) = (&thread.creds, &host.creds);
    let known = u64::MAX >> (63 - host.last_cap.min(63));
    refuse_unreachable(thread, now, known, report);
    b.object(Object::Thread(thread.tid, "credentials"));
    let is_other_user = creds.uids != now.uids;
    if is_other_user {
        prctl(
            b,
            &[
                libc::PR_SET_SECUREBITS as u64,
                u64::from(now.securebits | NO_SETUID_FIXUP),
            ],
        );
    }
    if creds.cap_inheritable != now.cap_inheritable {
        // While the bounding set is still whole: it bounds what may be added here.
        capset(
            b,
            [
                now.cap_effective,
                now.cap_permitted,
                creds.cap_inheritable & known,
            ],
        );
    }
    for cap in bits(now.cap_bounding & known & !creds.cap_bounding) {
        prctl(b, &[libc::PR_CAPBSET_DROP as u64, cap]);
    }
    plan_ids(b, creds, now);
    if now.cap_ambient != 0 {
        prctl(b, &[libc::PR_CAP_AMBIENT as u64, AMBIENT_CLEAR_ALL]);
    }
    for cap in bits(creds.cap_ambient & known) {
        prctl(b, &[libc::PR_CAP_AMBIENT as u64, AMBIENT_RAISE, cap]);
    }
    if is_other_user || creds.securebits != now.securebits {
        prctl(
            b,
            &[libc::PR_SET_SECUREBITS as u64, u64::from(creds.securebits)],
        );
    }
    let wanted = [
        creds.cap_effective,
        creds.cap_permitted,
        creds.cap_inheritable,
    ];
    if wanted != [now.cap_effective, now.cap_permitted, now.cap_inheritable] {
        capset(b, wanted.map(|set| set & known));
    }
    if creds.no_new_privs && !now.no_new_privs {
        prctl(b, &[libc::PR_SET_NO_NEW_PRIVS as u64, 1]);
    }
}

fn refuse_unreachable(thread: &Thread, now: &Creds, known: u64, report: &mut Report) {
    let creds = &thread.creds;
    let wanted = creds.cap_permitted | creds.cap_effective;
    let missing = wanted & known & !now.cap_permitted;
    if missing != 0 {
        let list: Vec<String> = bits(missing).map(|cap| cap.to_string()).collect();
        report.refuse(
            format!("thread {}: capabilities {}", thread.tid, list.join(", ")),
            "this process has them not, and cannot give them",
            "restore with these capabilities",
        );
    }
    if creds.cap_bounding & known & !now.cap_bounding & !missing != 0 {
        report.lose(format!(
            "thread {}: its capability bounding set was larger than this process's",
            thread.tid
        ));
    }
    if now.no_new_privs && !creds.no_new_privs {
        report.lose(format!(
            "thread {}: no_new_privs is inherited from the caller",
            thread.tid
        ));
    }
}

fn plan_ids(b: &mut Builder, creds: &Creds, now: &Creds) {
    if creds.groups != now.groups {
        let bytes: Vec<u8> = creds
            .groups
            .iter()
            .flat_map(|group| group.to_le_bytes())
            .collect();
        let list = b.put(&bytes);
        b.call_returns(libc::SYS_setgroups, &[creds.groups.len() as u64, list], 0);
    }
    if creds.gids != now.gids {
        ids(b, [libc::SYS_setresgid, libc::SYS_setfsgid], creds.gids);
    }
    if creds.uids != now.uids {
        ids(b, [libc::SYS_setresuid, libc::SYS_setfsuid], creds.uids);
    }
}

/// Adds real, effective and saved id, which sets the file-system id to the effective one, and that where it is another.
fn ids(b: &mut Builder, [set_res, set_fs]: [i64; 2], ids: [u32; 4]) {
    let [real, effective, saved, fs] = ids.map(u64::from);
    b.call_returns(set_res, &[real, effective, saved], 0);
    if fs != effective {
        // It returns the old id and never an error, so it is asked twice.
        b.call_returns(set_fs, &[fs], effective as i64);
        b.call_returns(set_fs, &[fs], fs as i64);
    }
}

/// Adds `capset` of effective, permitted and inheritable capabilities.
fn capset(b: &mut Builder, sets: [u64; 3]) {
    let header = b.put_words(&[VERSION]);
    let low = sets.map(|set| set as u32);
    let high = sets.map(|set| (set >> 32) as u32);
    let bytes: Vec<u8> = low
        .iter()
        .chain(&high)
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let data = b.put(&bytes);
    b.call_returns(libc::SYS_capset, &[header, data], 0);
}

fn prctl(b: &mut Builder, args: &[u64]) {
    b.call_returns(libc::SYS_prctl, args, 0);
}

fn bits(set: u64) -> impl Iterator<Item = u64> {
    (0..64).filter(move |bit| set >> bit & 1 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETPCAP: u64 = 1 << 8;

    fn root() -> Host {
        let all = 0x1ff;
        Host {
            creds: Creds {
                cap_permitted: all,
                cap_effective: all,
                cap_bounding: all,
                ..Creds::default()
            },
            last_cap: 8,
            ..Host::default()
        }
    }

    fn planned(creds: Creds) -> (Builder, Report) {
        let thread = Thread {
            creds,
            ..Thread::default()
        };
        let (mut b, mut report) = (Builder::for_test(), Report::default());
        plan_creds(&mut b, &thread, &root(), &mut report);
        (b, report)
    }

    #[test]
    fn the_callers_own_credentials_need_nothing() {
        let (b, report) = planned(root().creds);
        assert_eq!(b.calls(), []);
        assert_eq!(report.refusals, []);
    }

    #[test]
    fn capabilities_are_given_up_after_all_that_needs_them() {
        let (b, _) = planned(Creds {
            uids: [1000, 1000, 1000, 7],
            groups: vec![4, 5],
            cap_inheritable: 2,
            cap_permitted: 3,
            cap_effective: 1,
            cap_ambient: 2,
            cap_bounding: 0xff,
            no_new_privs: true,
            ..Creds::default()
        });
        let prctl = |option: i32| (libc::SYS_prctl, option as u64);
        let order = [
            prctl(libc::PR_SET_SECUREBITS),
            (libc::SYS_capset, 0),
            prctl(libc::PR_CAPBSET_DROP),
            (libc::SYS_setgroups, 2),
            (libc::SYS_setresuid, 1000),
            (libc::SYS_setfsuid, 7),
            (libc::SYS_setfsuid, 7),
            prctl(libc::PR_CAP_AMBIENT),
            prctl(libc::PR_SET_SECUREBITS),
            (libc::SYS_capset, 0),
            prctl(libc::PR_SET_NO_NEW_PRIVS),
        ];
        let calls = b.calls();
        let made: Vec<(i64, u64)> = calls
            .iter()
            .map(|(nr, args)| match *nr {
                libc::SYS_capset => (*nr, 0),
                _ => (*nr, args[0]),
            })
            .collect();
        assert_eq!(made, order);
        assert_eq!(calls[0].1[1], 4, "the ids do not touch capabilities");
        assert_eq!(calls[2].1[1], SETPCAP.trailing_zeros().into());
        // Effective, permitted, inheritable: the lower words, then the upper ones.
        let sets = |at: usize| b.words_at(calls[at].1[1], 3);
        assert_eq!(
            sets(1),
            [0x1ff << 32 | 0x1ff, 2, 0],
            "still all but inheritable"
        );
        assert_eq!(sets(9), [3 << 32 | 1, 2, 0]);
    }

    #[test]
    fn capabilities_that_the_caller_has_not_are_refused() {
        let mut creds = root().creds;
        creds.cap_permitted = 0x1ff;
        let thread = Thread {
            tid: 5,
            creds,
            ..Thread::default()
        };
        let mut poor = root();
        poor.creds.cap_permitted = 0xff;
        let mut report = Report::default();
        plan_creds(&mut Builder::for_test(), &thread, &poor, &mut report);
        assert_eq!(report.refusals[0].object, "thread 5: capabilities 8");
    }
}
