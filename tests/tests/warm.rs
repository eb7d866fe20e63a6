//! Warm starts: memory that is mapped from the page files, and memory of huge pages, which is read as such.

use integration_tests::victim::Link;
use integration_tests::{
    Images, Program, Victim, assert_refused, field, orchestrator, present, root, run, said, skip,
};
use std::process::{Command, Output, Stdio};

/// Pages that the victim reads all the time: 1 MiB.
const HOT: u64 = 256;
/// Pages that it has at least: 48 MiB.
const BIG: u64 = 12288;

/// Dumps the victim away, and returns its images.
fn dumped(victim: &mut Victim, more: &[&str]) -> Images {
    let images = Images::new(victim, "images");
    let all = victim.descendants();
    images.dump(victim.pid, more);
    victim.reap_with(&all);
    images
}

/// Restores by mapping; returns pages that were read, mapped, and used before, and how many areas were made.
fn restore(images: &Images) -> [u64; 4] {
    let output = images.try_restore(&["-d", "--map-images", "--display-stats"]);
    assert!(output.status.success(), "restore: {}", said(&output));
    counts(&output)
}

fn counts(output: &Output) -> [u64; 4] {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let rest = lines.next().unwrap_or_else(|| panic!("no {name}: {text}"));
        let words = rest.split_whitespace();
        words
            .filter_map(|word| word.parse().ok())
            .collect::<Vec<u64>>()
    };
    let (read, mapped) = (line("Pages restored:"), line("Pages mapped:"));
    [read[0], mapped[0], mapped[2], mapped[1]]
}

/// Memory is right, written or not, also what a child has; hardly any of it is read before it runs; a later dump keeps all of it, also
/// what was never touched, without the set that it was mapped from.
#[test]
fn mapped_memory_is_right() {
    if !root() {
        return;
    }
    for portable in [true, false] {
        let Some(program) = Program::compile("mapped", Link::Dynamic) else {
            return;
        };
        let mut victim = program.start(&[]);
        let more: &[&str] = if portable { &["--portable"] } else { &[] };
        let images = dumped(&mut victim, more);
        let [read, mapped, before, areas] = restore(&images);
        assert!(mapped >= 2 * BIG && read < BIG / 8, "{mapped}, {read} read");
        assert!(before == 0 && areas > 10, "{before}, {areas} areas");
        let again = Images::new(&victim, "again");
        let all = victim.descendants();
        again.dump(victim.pid, &[]);
        victim.reap_with(&all);
        std::fs::remove_dir_all(&images.0).expect("removed");
        match portable {
            true => again.restore(),
            false => drop(restore(&again)),
        }
        victim.check();
    }
}

/// The second restore sees nothing of what the first one wrote: that went to copies.
#[test]
fn the_working_set_of_one_run_is_ready_in_the_next() {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("mapped", Link::Dynamic) else {
        return;
    };
    let mut victim = program.start(&[]);
    let images = dumped(&mut victim, &[]);
    restore(&images);
    let dir = images.0.to_str().expect("UTF-8");
    let is_hot = integration_tests::wait_until(|| {
        let output = run(&["working-set", &victim.pid.to_string(), "-D", dir]);
        assert!(output.status.success(), "working-set: {}", said(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let used = text.split(' ').next().and_then(|word| word.parse().ok());
        used.unwrap_or(0) >= HOT
    });
    assert!(is_hot, "the working set is not seen");
    victim.kill_with(&victim.descendants());
    let [_, mapped, before, _] = restore(&images);
    assert!(
        (HOT..mapped / 4).contains(&before),
        "{before} of {mapped} pages were used"
    );
    victim.check();
}

/// One of several that restore the same set at once, each in a process namespace of its own.
const ONE: &str = r#"
"$BIN" restore -D "$IMAGES" -d --map-images --host-clocks || exit 3
all() { while [ "$(ls "$PLACE" | grep -c "^$1")" -lt 3 ]; do sleep 0.01; kill -0 "$VICTIM" || exit 6; done; }
: > "$PLACE/up$ONE"
all up
sleep 0.1
cat /proc/$VICTIM/smaps > "$PLACE/smaps$ONE" || exit 4
: > "$PLACE/seen$ONE"
all seen
kill -USR1 "$VICTIM" || exit 5
while kill -0 "$VICTIM" 2>/dev/null; do sleep 0.01; done
"#;

/// Returns of the areas of page files how much is there, and how much of that is shared, in KiB.
fn shared(smaps: &str) -> [u64; 2] {
    let mut sums = [0; 2];
    let mut is_page_file = false;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if first.contains('-') && !first.contains(':') {
            is_page_file = line.contains("/pages-");
        }
        let value: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
        match first {
            "Rss:" if is_page_file => sums[0] += value,
            "Shared_Clean:" | "Shared_Dirty:" if is_page_file => sums[1] += value,
            _ => {}
        }
    }
    sums
}

#[test]
fn restores_of_one_set_share_its_pages() {
    if !root() || !present("unshare") {
        return;
    }
    let Some(program) = Program::compile("mapped", Link::Dynamic) else {
        return;
    };
    let mut victim = program.start(&[]);
    let images = dumped(&mut victim, &[]);
    let place = victim.folder().join("place");
    std::fs::create_dir(&place).expect("a folder");
    let start = |one: &str| {
        Command::new("unshare")
            .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["bash", "-c", ONE])
            .env("BIN", orchestrator())
            .env("IMAGES", &images.0)
            .env("PLACE", &place)
            .env("ONE", one)
            .env("VICTIM", victim.pid.to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("unshare can be started")
    };
    let all = ["1", "2", "3"].map(start);
    for one in all {
        let output = one.wait_with_output().expect("its end");
        assert!(output.status.success(), "{}", said(&output));
    }
    for one in 1..=3 {
        let smaps = std::fs::read_to_string(place.join(format!("smaps{one}"))).expect("smaps");
        let [there, shared] = shared(&smaps);
        assert!(
            shared >= HOT * 4 && shared * 10 > there * 9,
            "{shared} KiB of {there} are shared"
        );
    }
    let text = victim.text();
    assert_eq!(text.matches("PASS").count(), 3, "{text}");
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    if !root() {
        return;
    }
    let Some(program) = Program::compile("counter", Link::Dynamic) else {
        return;
    };
    let mut victim = program.start(&[]);
    let images = dumped(&mut victim, &["--compress", "lz4"]);
    let output = images.try_restore(&["-d", "--map-images"]);
    assert_refused(&output, &["packed", "convert"]);
    for option in ["--auto-dedup", "--stream", "--lazy-pages"] {
        let output = images.try_restore(&["-d", "--map-images", option]);
        assert_refused(&output, &["--map-images", "cannot be used with"]);
    }
    images.restore();
    victim.check();
}

/// Memory that asks for transparent huge pages has them from the start, as much as new memory of the same kind can have.
#[test]
fn memory_that_asks_for_huge_pages_has_them() {
    if !root() {
        return;
    }
    for more in [&["-d"][..], &["-d", "--map-images"]] {
        let Some(program) = Program::compile("thp", Link::Dynamic) else {
            return;
        };
        let mut victim = program.start(&[]);
        let images = dumped(&mut victim, &[]);
        let output = images.try_restore(more);
        assert!(output.status.success(), "restore: {}", said(&output));
        victim.check();
        let text = victim.text();
        let number = |name: &str| field(&text, name)?.parse::<u64>().ok();
        let (Some(huge), Some(new)) = (number("huge "), number("new ")) else {
            panic!("it wrote {text}");
        };
        if new == 0 {
            return skip("no transparent huge pages");
        }
        assert!(huge * 2 >= new, "{huge} KiB are huge, of new memory {new}");
    }
}
