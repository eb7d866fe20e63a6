//! Pre-copy, then post-copy: rounds go to the other side, what was written since comes when it is asked for. And how long a tree
//! stands still for that.

use integration_tests::victim::{Link, send};
use integration_tests::{
    Images, Place, Program, Source, Victim, has_lazy_memory, orchestrator, present, root, run,
    said, skip, wait_until,
};
use orchestrator::image;
use orchestrator::memory::dirty::Method;
use orchestrator::snapshot::PageLocation;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

/// Returns whether there can be rounds; says that the test is skipped where not.
fn has_rounds() -> bool {
    let has = Method::of_this_kernel().is_some();
    if !has {
        skip("no dirty tracking");
    }
    has
}

/// Returns how many pages the images of a dump leave to their source, and how many are in them and their parents.
fn count(images: &Images) -> [u64; 2] {
    let set = image::read(&images.0).expect("images");
    let tasks = set.snapshot.tasks.iter();
    let runs = tasks.flat_map(|task| task.mm.iter().flat_map(|mm| &mm.pages));
    runs.fold([0; 2], |[left, here], run| match run.at {
        PageLocation::Source => [left + run.pages, here],
        _ => [left, here + run.pages],
    })
}

/// Returns the number in front of some words of a text.
fn number_before(text: &str, words: &str) -> Option<u64> {
    let (before, _) = text.split_once(words)?;
    before.rsplit([' ', '\n']).next()?.parse().ok()
}

/// Two folders, one machine: of two rounds and a dump only the pages are asked for that neither round had.
#[test]
fn what_rounds_brought_is_not_asked_for() {
    if !has_lazy_memory() || !has_rounds() || !present("unshare") {
        return;
    }
    let Some(program) = Program::compile("migrated", Link::Dynamic) else {
        return;
    };
    let mut victim = program.start(&[]);
    let pid = victim.pid.to_string();
    let names = ["1", "2", "3"];
    let here = names.map(|name| Images::new(&victim, &format!("here-{name}")));
    let there = names.map(|name| Images::new(&victim, &format!("there-{name}")));
    for round in [0, 1] {
        let mut args = vec![
            "pre-dump",
            &pid,
            "-D",
            here[round].0.to_str().expect("UTF-8"),
        ];
        if round > 0 {
            args.extend(["--prev-images-dir", "../here-1"]);
        }
        let output = run(&args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        here[round].carry_over(&there[round]);
        send("USR2", victim.pid);
        let word = format!("round {}\n", round + 1);
        assert!(wait_until(|| victim.text().contains(&word)), "no {word}");
    }
    for round in [1, 2] {
        let parent = format!("../there-{round}");
        std::os::unix::fs::symlink(parent, there[round].0.join("parent")).expect("a link");
    }
    let more = ["--prev-images-dir", "../here-2"];
    let mut source = Source::start(&Place::default(), &victim, &here[2], &more);
    here[2].carry_over(&there[2]);
    let [left, rest] = count(&there[2]);
    // Each fifth of 2048 was written since the last round, and some of the stack.
    assert!((410..450).contains(&left), "{left} pages are left");
    assert!(rest > 2048 - left, "{rest} pages are in the images");
    let output = source.restore(&Place::default(), &victim, &there[2], ("check", "0"));
    source.assert_passed(&output, &victim);
    victim.reap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        number_before(&text, " came from the source"),
        Some(left),
        "{text}"
    );
    let read = number_before(&text, " pages were read here");
    assert!(read.is_some_and(|read| read > 1500), "{text}");
}

/// A network namespace. Ended when it goes.
struct Machine(Child);

impl Machine {
    fn start() -> Machine {
        let child = Place::default()
            .command("unshare")
            .args(["-n", "sh", "-c", "ip link set lo up && exec sleep 1000"])
            .spawn();
        let machine = Machine(child.expect("unshare can be started"));
        let is_up = wait_until(|| {
            let name = std::fs::read(format!("/proc/{}/comm", machine.0.id()));
            name.is_ok_and(|name| name == b"sleep\n")
        });
        assert!(is_up, "no network namespace");
        machine
    }

    fn place(&self) -> Place {
        Place(Some(format!("/proc/{}/ns/net", self.0.id())))
    }

    fn ip(&self, words: &str) {
        let status = self.place().command("ip").args(words.split(' ')).status();
        assert!(status.is_ok_and(|status| status.success()), "ip {words}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// MiB of a store's values: as `STORE_MIB` says, or few.
fn store_mib() -> u64 {
    let given = std::env::var("STORE_MIB").ok();
    given.and_then(|mib| mib.parse().ok()).unwrap_or(16)
}

/// Starts a store and its client in a network namespace.
fn store(place: &Place) -> Victim {
    let script = include_str!("../scripts/store.py");
    let mib = store_mib().to_string();
    let place: Vec<&str> = place.0.iter().map(String::as_str).collect();
    Program::script("python3", script).start(&[&[&mib[..]], &place[..]].concat())
}

/// Runs a command of rounds there, and returns how long it stood still, in microseconds, and how many pages were written.
fn stood_still(place: &Place, command: &str, victim: &Victim, more: &[&str]) -> [u64; 2] {
    let output = place
        .command(orchestrator().to_str().expect("UTF-8"))
        .args([command, &victim.pid.to_string(), "--display-stats"])
        .args(more)
        .output()
        .expect("the orchestrator can be started");
    assert!(output.status.success(), "{command}: {}", said(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ["Frozen time:", "Memory pages written:"].map(|name| {
        let rest = integration_tests::field(&text, name).unwrap_or_default();
        let number = rest.split_whitespace().next().unwrap_or_default();
        number
            .parse()
            .unwrap_or_else(|_| panic!("{name} in {text}"))
    })
}

/// Five rounds under load: the last dump writes, and stands still for, a part of what a dump of all does. `STORE_MIB=500` measures.
#[test]
fn a_store_stands_still_for_what_changed() {
    if !root() || !has_rounds() || !present("redis-server") || !present("python3") {
        return;
    }
    let here = Place::default();
    let mut victim = store(&here);
    let all = victim.descendants();
    let full = Images::new(&victim, "full");
    let dir = full.0.to_str().expect("UTF-8");
    let [of_all, all_pages] = stood_still(&here, "dump", &victim, &["-D", dir, "--leave-running"]);
    std::fs::remove_dir_all(&full.0).expect("removed");
    let mut more: Vec<String> = Vec::new();
    let mut rounds = Vec::new();
    for round in 1..=5 {
        let images = Images::new(&victim, &round.to_string());
        let dir = images.0.to_str().expect("UTF-8").to_string();
        let mut args = vec!["-D", &dir];
        args.extend(more.iter().map(String::as_str));
        rounds.push(stood_still(&here, "pre-dump", &victim, &args));
        more = vec!["--prev-images-dir".into(), format!("../{round}")];
    }
    let images = Images::new(&victim, "6");
    let dir = images.0.to_str().expect("UTF-8");
    let mut args = vec!["-D", dir];
    args.extend(more.iter().map(String::as_str));
    let [last, pages] = stood_still(&here, "dump", &victim, &args);
    victim.reap_with(&all);
    images.restore();
    victim.check();
    eprintln!(
        "stood still for {of_all} us ({all_pages} pages), then {last} us ({pages} pages); rounds {rounds:?}"
    );
    assert!(pages * 2 < all_pages, "{pages} of {all_pages} pages");
    // Only on a machine that does nothing else, and of a large store, time says something.
    if std::env::var_os("STORE_MIB").is_some() {
        assert!(last * 5 <= of_all, "{last} of {of_all} us");
    }
}

/// Two network namespaces: three rounds go to page servers on the other side, what was written since comes when it is asked for.
#[test]
fn a_store_moves_between_machines() {
    let programs = ["redis-server", "python3", "ip", "unshare"];
    if !has_lazy_memory() || !has_rounds() || !programs.into_iter().all(present) {
        return;
    }
    let [here, there] = [0; 2].map(|_| Machine::start());
    let link = format!(
        "link add wire type veth peer name wire netns {}",
        there.0.id()
    );
    here.ip(&link);
    for (machine, address) in [(&here, "10.98.0.1/24"), (&there, "10.98.0.2/24")] {
        machine.ip(&format!("address add {address} dev wire"));
        machine.ip("link set wire up");
    }
    let mut victim = store(&here.place());
    let all = victim.descendants();
    let mut previous: [Vec<String>; 2] = [Vec::new(), Vec::new()];
    for round in 1..=3 {
        let [ours, theirs] =
            ["here", "there"].map(|side| Images::new(&victim, &format!("{side}-{round}")));
        let mut server = there
            .place()
            .command(orchestrator().to_str().expect("UTF-8"))
            .args([
                "page-server",
                "--address",
                "10.98.0.2",
                "--port",
                "7001",
                "-D",
            ])
            .arg(&theirs.0)
            .args(&previous[1])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a server");
        let mut line = String::new();
        let out = server.stdout.as_mut().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("a line");
        let mut args = vec!["-D", ours.0.to_str().expect("UTF-8")];
        args.extend(["--page-server", "--address", "10.98.0.2", "--port", "7001"]);
        args.extend(previous[0].iter().map(String::as_str));
        stood_still(&here.place(), "pre-dump", &victim, &args);
        assert!(
            server.wait().is_ok_and(|status| status.success()),
            "a round"
        );
        previous = ["here", "there"]
            .map(|side| vec!["--prev-images-dir".into(), format!("../{side}-{round}")]);
    }
    let [ours, theirs] = ["here-last", "there-last"].map(|name| Images::new(&victim, name));
    let reach = ["--address", "10.98.0.1", "--port", "7002"];
    let more: Vec<&str> = previous[0].iter().map(String::as_str).collect();
    let mut source = Source::start_at(&here.place(), &victim, &ours, (&reach, &more));
    ours.carry_over(&theirs);
    std::os::unix::fs::symlink("../there-3", theirs.0.join("parent")).expect("a link");
    let [left, rest] = count(&theirs);
    assert!(left < rest, "{left} pages are left, {rest} are there");
    let output = source.restore(&there.place(), &victim, &theirs, ("check", "0"));
    source.assert_passed(&output, &victim);
    victim.reap_with(&all);
    eprintln!(
        "{left} pages were left, {rest} were there: {}",
        said(&output)
    );
}
