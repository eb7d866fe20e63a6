//! SIGKILL of the orchestrator at random moments of a dump: the victim lives and knows nothing of it.

use integration_tests::victim::Link;
use integration_tests::{Images, Program, orchestrator, root, steadily};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const KILLS: u32 = 100;

/// Fewer where a kill at one moment is known to end the victim, about once in 900 kills: docs/injection.md.
const KILLS_UNDER_SECCOMP: u32 = 25;

/// Seconds that the victim's timed waits last: longer than all dumps together.
const WAITS: &str = "12";

#[test]
fn the_victim_outlives_a_killed_dump() {
    // The kernel ends a plain sigtimedwait with EINTR when a tracer that stopped it dies before it can mend that.
    outlives_killed_dumps("threads", &[WAITS, "sigwait"], KILLS);
}

/// Its filters kill it for whatever it would do to get rid of the parasite, but for the return from a signal.
#[test]
fn a_victim_under_seccomp_outlives_a_killed_dump() {
    outlives_killed_dumps("confined", &["restart"], KILLS_UNDER_SECCOMP);
}

fn outlives_killed_dumps(name: &str, args: &[&str], kills: u32) {
    steadily(|| {
        if !root() {
            return;
        }
        let Some(program) = Program::compile(name, Link::Dynamic) else {
            return;
        };
        // Ready before the victim's waits begin.
        orchestrator();
        let mut victim = program.start(args);
        let whole = Instant::now();
        Images::new(&victim, "whole").dump(victim.pid, &["--leave-running"]);
        let whole = whole.elapsed();
        let mut random = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |now| now.as_nanos() as u64);
        for round in 0..kills {
            random = next(random);
            let moment = whole.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64);
            killed_dump(
                &Images::new(&victim, &format!("images-{round}")),
                victim.pid,
                moment,
            );
            eprintln!("dump {round} of {whole:?} killed after {moment:?}");
            victim.assert_free();
            victim.assert_lives();
        }
        Images::new(&victim, "last").dump(victim.pid, &["--leave-running"]);
        victim.check();
    });
}

/// xorshift64*, whose high bits are good.
fn next(mut state: u64) -> u64 {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d)
}

fn killed_dump(images: &Images, pid: u32, moment: Duration) {
    let mut dump = Command::new(orchestrator())
        .args(["dump", &pid.to_string(), "--leave-running", "-D"])
        .arg(&images.0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the orchestrator can be started");
    sleep(moment);
    // `kill` of the standard library is SIGKILL; one that has ended already is as good.
    let _ = dump.kill();
    let _ = dump.wait();
}
