//! Real interpreters in the middle of their work, whose result is checked.

use integration_tests::victim::Link;
use integration_tests::{Images, Program, Victim, present, root, steadily};
use std::thread::sleep;
use std::time::Duration;

const PYTHON: &str = r#"
import hashlib, signal, sys, threading, time

out = open(sys.argv[1], "a", buffering=1)
work = open(sys.argv[1] + ".work", "w+")
asked = threading.Event()
# Some 200 MiB.
objects = [str(n) * 3 for n in range(2500000)]
ticks, sums = [0] * 4, {}

def on_ask(number, frame):
    asked.set()

def tick(which):
    while not asked.is_set():
        time.sleep(0.01)
        ticks[which] += 1

def compute(state, rounds):
    for _ in range(rounds):
        state = hashlib.sha256(state).digest()
    return state

def worker():
    # In the same pieces as the check, with a line to a file for each.
    state = b"start"
    for piece in range(300):
        state = compute(state, 2000)
        work.write("%d %s\n" % (piece, state.hex()))
        sums[piece] = state
        time.sleep(0.002)

signal.signal(signal.SIGUSR1, on_ask)
threads = [threading.Thread(target=tick, args=(n,)) for n in range(4)] + [threading.Thread(target=worker)]
for thread in threads:
    thread.start()
out.write("READY\n")
while not asked.is_set():
    asked.wait(0.2)
for thread in threads:
    thread.join()
work.flush()
work.seek(0)
lines = work.read().splitlines()
state, wrong = b"start", None
for piece in range(300):
    state = compute(state, 2000)
    if sums[piece] != state or lines[piece] != "%d %s" % (piece, state.hex()):
        wrong = "piece %d" % piece
        break
if wrong is None and not all(o == str(n) * 3 for n, o in enumerate(objects)):
    wrong = "objects"
if wrong is None and min(ticks) < 5:
    wrong = "ticks %r" % ticks
out.write("PASS\n" if wrong is None else "FAIL: %s\n" % wrong)
"#;

const NODE: &str = r#"
const fs = require("fs");
const out = process.argv[2];
const say = (text) => fs.appendFileSync(out, text + "\n");
let count = 0, last = process.hrtime.bigint(), largest = 0n;
const seen = [];
const timer = setInterval(() => { count += 1; seen.push(count); say("count " + count); }, 50);
process.on("SIGUSR1", () => {});
process.removeAllListeners("SIGUSR1");
process.on("SIGUSR1", () => {
  clearInterval(timer);
  const right = seen.every((value, at) => value === at + 1) && count > 3;
  fs.readFile(out, "utf8", (error, text) => {
    const lines = error ? [] : text.split("\n").filter((line) => line.startsWith("count "));
    const same = lines.length === count && lines.every((line, at) => line === "count " + (at + 1));
    say(right && same ? "PASS" : "FAIL: counted " + count + ", lines " + lines.length + " " + error);
    process.exit(0);
  });
});
fs.readFile(out, () => say("READY"));
"#;

const PERL: &str = r#"
use strict;
use warnings;
use Time::HiRes qw(sleep);
open(my $out, ">>", $ARGV[0]) or die;
select((select($out), $| = 1)[0]);
my %words = map { $_ => $_ * $_ } 1 .. 100000;
my ($asked, $count) = (0, 0);
my $text = "";
$SIG{USR1} = sub { $asked = 1 };
print $out "READY\n";
until ($asked) {
    $count++;
    $text .= chr(65 + $count % 26);
    print $out "count $count\n";
    sleep(0.02);
}
my $wrong = "";
for my $n (1 .. 100000) { $wrong = "word $n" if $words{$n} != $n * $n }
for my $n (1 .. $count) { $wrong = "letter $n" if substr($text, $n - 1, 1) ne chr(65 + $n % 26) }
print $out $wrong ? "FAIL: $wrong\n" : "PASS\n";
"#;

/// Dumps it while it runs on, then carries it through ten cycles of dump and restore, and lets it check itself.
fn goes_on(start: impl Fn() -> Option<Victim>) {
    steadily(|| {
        let Some(mut victim) = start() else {
            return;
        };
        sleep(Duration::from_millis(200));
        let images = Images::new(&victim, "running");
        images.dump(victim.pid, &["--leave-running"]);
        victim.assert_free();
        for cycle in 1..=10 {
            let images = Images::new(&victim, &format!("cycle-{cycle}"));
            images.dump(victim.pid, &[]);
            victim.reap();
            images.restore();
            sleep(Duration::from_millis(150));
            victim.assert_free();
            // Two hundred mebibytes each.
            std::fs::remove_dir_all(&images.0).expect("removed");
        }
        victim.check();
    });
}

fn script(interpreter: &str, text: &str) -> Option<Victim> {
    (root() && present(interpreter)).then(|| Program::script(interpreter, text).start(&[]))
}

#[test]
fn python_with_threads_a_file_200_mib_and_a_computation() {
    goes_on(|| script("python3", PYTHON));
}

#[test]
fn node_counting_on_a_timer() {
    goes_on(|| script("node", NODE));
}

#[test]
fn perl_counting() {
    goes_on(|| script("perl", PERL));
}

#[test]
fn c_dynamic() {
    goes_on(|| {
        Some(
            root()
                .then(|| Program::compile("counter", Link::Dynamic))??
                .start(&[]),
        )
    });
}

#[test]
fn c_static() {
    goes_on(|| {
        Some(
            root()
                .then(|| Program::compile("counter", Link::Static))??
                .start(&[]),
        )
    });
}

#[test]
fn rust_with_a_hundred_threads() {
    goes_on(|| root().then(|| Program::rust("hundred").start(&[])));
}
