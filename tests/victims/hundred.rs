//! A hundred threads, each blocked in one of futex, sleep, poll and read, a quarter in each. After SIGUSR1 all are woken and
//! have to say what they waited for, at their right time.

use std::fs::OpenOptions;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

const EACH: usize = 25;
/// How long the sleepers sleep, in all: longer than the dumps of a test.
const SLEEP: Duration = Duration::from_secs(8);

static ASKED: AtomicBool = AtomicBool::new(false);

#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
    fn poll(fds: *mut PollFd, count: u64, timeout: i32) -> i32;
}

extern "C" fn on_ask(_: i32) {
    ASKED.store(true, Ordering::SeqCst);
}

type Told = Result<(), String>;

fn on_futex(gate: Arc<(Mutex<bool>, Condvar)>) -> Told {
    let (open, bell) = &*gate;
    let mut open = open.lock().unwrap();
    while !*open {
        open = bell.wait(open).unwrap();
    }
    Ok(())
}

fn on_sleep() -> Told {
    let begin = Instant::now();
    sleep(SLEEP);
    let took = begin.elapsed();
    // Ten dumps may each make it a little later, none may make it shorter.
    if took < SLEEP || took > SLEEP + Duration::from_secs(2) {
        return Err(format!("a sleep took {took:?}, wanted {SLEEP:?}"));
    }
    Ok(())
}

fn on_poll(mut end: PipeReader, number: u8) -> Told {
    const POLLIN: i16 = 1;
    let mut polled = PollFd { fd: end.as_raw_fd(), events: POLLIN, revents: 0 };
    let ready = unsafe { poll(&mut polled, 1, -1) };
    if ready != 1 || polled.revents != POLLIN {
        return Err(format!("poll: {ready}, {}", std::io::Error::last_os_error()));
    }
    on_read(&mut end, number)
}

fn on_read(end: &mut PipeReader, number: u8) -> Told {
    let mut byte = [0];
    match end.read(&mut byte) {
        Ok(1) if byte[0] == number => Ok(()),
        other => Err(format!("read: {other:?}, {byte:?} instead of {number}")),
    }
}

fn main() {
    let path = std::env::args().nth(1).expect("a name for the output");
    let mut output = OpenOptions::new().append(true).open(path).expect("the output");
    unsafe { signal(10, on_ask) };
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let mut writers: Vec<PipeWriter> = Vec::new();
    let mut threads: Vec<JoinHandle<Told>> = Vec::new();
    for number in 0..EACH as u8 {
        let other = gate.clone();
        threads.push(spawn(move || on_futex(other)));
        threads.push(spawn(on_sleep));
        let (end, writer) = std::io::pipe().expect("a pipe");
        writers.push(writer);
        threads.push(spawn(move || on_poll(end, number)));
        let (mut end, writer) = std::io::pipe().expect("a pipe");
        writers.push(writer);
        threads.push(spawn(move || on_read(&mut end, number)));
    }
    sleep(Duration::from_millis(200));
    writeln!(output, "READY").expect("written");
    while !ASKED.load(Ordering::SeqCst) {
        sleep(Duration::from_millis(20));
    }
    let early = threads
        .iter()
        .enumerate()
        .filter(|(number, thread)| number % 4 != 1 && thread.is_finished())
        .count();
    *gate.0.lock().unwrap() = true;
    gate.1.notify_all();
    for (number, writer) in writers.iter_mut().enumerate() {
        writer.write_all(&[number as u8 / 2]).expect("written");
    }
    let mut wrong: Vec<String> = threads
        .into_iter()
        .filter_map(|thread| thread.join().unwrap().err())
        .collect();
    if early > 0 {
        wrong.push(format!("{early} threads ended unasked"));
    }
    let verdict = match wrong.first() {
        None => "PASS".to_string(),
        Some(first) => format!("FAIL: {} of 100 threads, the first: {first}", wrong.len()),
    };
    writeln!(output, "{verdict}").expect("written");
}
