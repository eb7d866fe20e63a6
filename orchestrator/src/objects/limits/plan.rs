//! From the fact to operations. Pure.

use crate::plan::{Builder, Object, Report};
use crate::snapshot::Limit;

/// Names by number (`include/uapi/asm-generic/resource.h`).
const NAMES: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];
/// Those that a restore may run into: FSIZE, DATA, STACK, NPROC, NOFILE, MEMLOCK, AS, SIGPENDING.
const IN_THE_WAY: [usize; 8] = [1, 2, 3, 6, 7, 8, 9, 11];

/// Adds the raising of soft limits, inherited from the caller, that a restore may run into. Those of the task follow at
/// the end; a limit that is not in the images stays as it was inherited.
pub fn plan_room(b: &mut Builder, limits: &[Limit], host: &[Limit]) {
    for number in IN_THE_WAY {
        if let (Some(_), Some(inherited)) = (limits.get(number), host.get(number))
            && inherited.soft != inherited.hard
        {
            set(b, number, inherited.hard, inherited.hard);
        }
    }
}

/// Adds the limits of the task.
pub fn plan_limits(
    b: &mut Builder,
    limits: &[Limit],
    host: &[Limit],
    can_raise: bool,
    report: &mut Report,
) {
    for (number, limit) in limits.iter().enumerate() {
        let Some(name) = NAMES.get(number) else {
            report.refuse(
                format!("resource limit {number}"),
                "no such limit is known",
                "",
            );
            continue;
        };
        let host_hard = host.get(number).map_or(u64::MAX, |host| host.hard);
        if limit.hard > host_hard && !can_raise {
            report.refuse(
                *name,
                format!(
                    "its hard limit is {}, and this process may not go above {host_hard}",
                    words(limit.hard)
                ),
                "restore with CAP_SYS_RESOURCE, or raise the hard limit of the caller",
            );
        }
        b.object(Object::Task(name));
        set(b, number, limit.soft, limit.hard);
    }
}

fn set(b: &mut Builder, number: usize, soft: u64, hard: u64) {
    let limit = b.put_words(&[soft, hard]);
    b.call_returns(libc::SYS_prlimit64, &[0, number as u64, limit, 0], 0);
}

fn words(limit: u64) -> String {
    match limit {
        u64::MAX => "unlimited".into(),
        limit => limit.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(soft: u64, hard: u64) -> Limit {
        Limit { soft, hard }
    }

    #[test]
    fn only_limits_that_come_back_are_raised() {
        let mut b = Builder::for_test();
        let host = [limit(1, 9); 16];
        plan_room(&mut b, &[limit(2, 3); 3], &host);
        let calls = b.calls();
        assert_eq!(
            calls.iter().map(|call| call.1[1]).collect::<Vec<_>>(),
            [1, 2]
        );
        assert_eq!(b.words_at(calls[0].1[2], 2), [9, 9]);
    }

    #[test]
    fn a_hard_limit_above_the_callers_needs_the_right_to_raise_it() {
        let host = [limit(1, 9); 16];
        for (can_raise, refusals) in [(false, 1), (true, 0)] {
            let (mut b, mut report) = (Builder::for_test(), Report::default());
            plan_limits(
                &mut b,
                &[limit(1, 9), limit(1, 10)],
                &host,
                can_raise,
                &mut report,
            );
            assert_eq!(report.refusals.len(), refusals);
            assert_eq!(b.calls().len(), 2);
        }
    }
}
