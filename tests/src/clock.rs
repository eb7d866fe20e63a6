//! Tests that measure time, on machines that stand still at times: a virtual machine may lose seconds at once, and a busy
//! one gives a process its turn late.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a test is tried while the machine keeps standing still.
const TRIES: usize = 3;

/// Lateness from which on a failure proves nothing.
const STALL: Duration = Duration::from_millis(300);

/// Runs a test that measures time. A failure counts unless this machine was seen to stand still meanwhile, or if that was
/// so each time.
pub fn steadily(test: impl Fn()) {
    for attempt in 1.. {
        let (outcome, late) = watched(&test);
        match outcome {
            Ok(()) => return,
            Err(reason) if late < STALL || attempt == TRIES => resume_unwind(reason),
            Err(_) => {
                eprintln!("attempt {attempt} failed while the machine stood still for {late:?}");
            }
        }
    }
}

/// Runs `test`, and measures by how much a short sleep beside it was late at worst.
fn watched(test: &impl Fn()) -> (std::thread::Result<()>, Duration) {
    let ended = AtomicBool::new(false);
    let worst = AtomicU64::new(0);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let began = Instant::now();
                std::thread::sleep(Duration::from_millis(20));
                let late = began.elapsed().as_millis() as u64 - 20;
                worst.fetch_max(late, Ordering::Relaxed);
            }
        });
        let outcome = catch_unwind(AssertUnwindSafe(test));
        ended.store(true, Ordering::Relaxed);
        outcome
    });
    (outcome, Duration::from_millis(worst.into_inner()))
}
