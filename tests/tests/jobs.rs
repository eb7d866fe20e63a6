//! Jobs of many processes, dumped and restored in the middle: each checks its result itself.

use integration_tests::{Images, Program, present, root, wait_until};
use std::thread::sleep;
use std::time::Duration;

/// Cycles of dump and restore in the middle of a job.
const CYCLES: usize = 3;
/// Time that a job runs between them.
const A_WHILE: Duration = Duration::from_millis(300);

/// Runs a script that writes READY when it is about to begin and PASS when its result is right. One that could be over too soon
/// waits before its end for the file `finish` beside its output.
fn goes_on(interpreter: &str, script: &str) {
    if !root() || !present(interpreter) {
        return;
    }
    let mut victim = Program::script(interpreter, script).start(&[]);
    for number in 0..CYCLES {
        sleep(A_WHILE);
        let images = Images::new(&victim, &format!("images-{number}"));
        let others = victim.descendants();
        assert!(!others.is_empty(), "the job is over before cycle {number}");
        images.dump(victim.pid, &["--file-locks"]);
        victim.reap();
        // Those that ended before the dump are nobody's any more, and others began after the look.
        let set = orchestrator::image::read(&images.0).expect("images");
        let pids: Vec<u32> = set
            .snapshot
            .tasks
            .iter()
            .map(|task| task.pid as u32)
            .collect();
        victim.reap_with(&pids);
        images.restore();
    }
    std::fs::write(victim.folder().join("finish"), "").expect("written");
    let over = wait_until(|| victim.verdict().is_some() || !victim.lives());
    assert!(over, "the job does not end: [{}]", victim.text());
    assert_eq!(
        victim.verdict().as_deref(),
        Some("PASS"),
        "[{}]",
        victim.text()
    );
}

/// Pipes, a queue and semaphores in deleted files that all processes map.
#[test]
fn a_pool_of_python_in_the_middle_of_a_map() {
    goes_on(
        "python3",
        r#"
import multiprocessing, os, sys, time

def work(number):
    result = 0
    for step in range(150000):
        result = (result * 31 + number * step) % 1000003
    return result

if __name__ == "__main__":
    say = lambda words: open(sys.argv[1], "a").write(words + "\n")
    say("READY")
    with multiprocessing.Pool(4) as pool:
        results = pool.map(work, range(700), chunksize=1)
        while not os.path.exists(os.path.dirname(sys.argv[1]) + "/finish"):
            time.sleep(0.02)
    right = len(results) == 700 and all(results[number] == work(number) for number in range(0, 700, 20))
    say("PASS" if right else "FAIL: another result")
"#,
    );
}

/// Subshells, groups whose leaders end, and a job in the background.
#[test]
fn a_pipeline_of_four_stages_of_bash() {
    goes_on(
        "bash",
        r#"
output=$1
folder=$(dirname "$output")
( sleep 1; echo over > "$folder/background" ) &
echo READY >> "$output"
sum=$( ( for i in $(seq 1 3000); do echo "line $i"; [ $((i % 20)) = 0 ] && sleep 0.01; done
    until [ -e "$folder/finish" ]; do sleep 0.02; done ) |
    sed 's/line/other/' | awk '{sum += $2; print $2} END {print "sum", sum}' | tail -n 1)
wait
if [ "$sum" = "sum 4501500" ] && [ "$(cat "$folder/background")" = over ]; then
    echo PASS >> "$output"
else
    echo "FAIL: $sum" >> "$output"
fi
"#,
    );
}

/// A build: make, shells, compilers, and the pipe that hands out their number.
#[test]
fn make_with_eight_jobs_in_the_middle_of_a_build() {
    if !present("make") || !present("cc") {
        return;
    }
    goes_on(
        "bash",
        r#"
output=$1
cd "$(dirname "$output")" && mkdir build && cd build || exit
for i in $(seq 1 24); do
    echo "int f$i(int x) { int s = 0; for (int i = 0; i < x; i++) s += i * $i; return s; }" > f$i.c
done
{
    echo '#include <stdio.h>'
    for i in $(seq 1 24); do echo "int f$i(int);"; done
    echo 'int main(void) { long s = 0;'
    for i in $(seq 1 24); do echo "s += f$i(10);"; done
    echo 'printf("%ld\n", s); return 0; }'
} > main.c
{
    echo 'OBJECTS = $(patsubst %.c,%.o,$(wildcard *.c))'
    echo 'prog: $(OBJECTS)'
    printf '\tuntil [ -e ../finish ]; do sleep 0.02; done; cc -o $@ $(OBJECTS)\n'
    echo '%.o: %.c'
    printf '\tsleep 0.5; cc -O2 -c -o $@ $<\n'
} > Makefile
echo READY >> "$output"
make -s -j8 && result=$(./prog)
if [ "$result" = 13500 ]; then echo PASS; else echo "FAIL: $result"; fi >> "$output"
"#,
    );
}
