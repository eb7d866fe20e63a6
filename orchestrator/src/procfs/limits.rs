//! `/proc/PID/limits`: resource limits. Everybody may read it, where `prlimit` of another user's process needs
//! `CAP_SYS_RESOURCE`.

use super::text::{Line, lines};
use super::{Result, Subject};
use crate::sys::process::Limit;

const FILE: &str = "limits";

/// Number of limits.
pub const COUNT: usize = 16;

/// Their names in the file, in the order of `RLIMIT_*` (`fs/proc/base.c`).
const NAMES: [&str; COUNT] = [
    "Max cpu time",
    "Max file size",
    "Max data size",
    "Max stack size",
    "Max core file size",
    "Max resident set",
    "Max processes",
    "Max open files",
    "Max locked memory",
    "Max address space",
    "Max file locks",
    "Max pending signals",
    "Max msgqueue size",
    "Max nice priority",
    "Max realtime priority",
    "Max realtime timeout",
];

/// Reads the limits of a process, number n = `RLIMIT_*` n; `u64::MAX` = none.
pub fn read(of: impl Into<Subject>) -> Result<[Limit; COUNT]> {
    parse(&of.into().read(FILE)?)
}

/// Parses the bytes of `limits`.
pub fn parse(bytes: &[u8]) -> Result<[Limit; COUNT]> {
    let mut limits = [Limit { soft: 0, hard: 0 }; COUNT];
    // The first line is the heading.
    let mut rows = lines(FILE, bytes).skip(1);
    for (limit, name) in limits.iter_mut().zip(NAMES) {
        let mut line = rows
            .next()
            .unwrap_or_else(|| Line::new(FILE, COUNT + 1, b""));
        line.expect(name.as_bytes(), name)?;
        *limit = Limit {
            soft: value(&mut line)?,
            hard: value(&mut line)?,
        };
    }
    Ok(limits)
}

fn value(line: &mut Line<'_>) -> Result<u64> {
    line.skip_blanks();
    if line.skip(b"unlimited") {
        return Ok(u64::MAX);
    }
    line.number("a limit")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Pid;
    use crate::sys::process::prlimit;

    #[test]
    fn it_agrees_with_prlimit() {
        let limits = read(Pid::this()).expect("limits");
        for (resource, limit) in limits.into_iter().enumerate() {
            assert_eq!(prlimit(Pid::this(), resource as u32, None), Ok(limit));
        }
    }

    #[test]
    fn numbers_and_none_are_read() {
        let mut text = String::from(
            "Limit                     Soft Limit           Hard Limit           Units     \n",
        );
        for name in NAMES {
            text += &format!("{name:25} {:20} {:20} {:10}\n", 1024, "unlimited", "");
        }
        let limits = parse(text.as_bytes()).expect("parses");
        assert_eq!((limits[15].soft, limits[15].hard), (1024, u64::MAX));
        let short = parse(&text.as_bytes()[..text.len() - 81]).expect_err("one is missing");
        assert!(
            short.to_string().contains("expected Max realtime timeout"),
            "{short}"
        );
    }
}
