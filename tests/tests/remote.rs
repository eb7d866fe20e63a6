//! Rounds of dumps whose pages go to a page server: the chain is made there.

use integration_tests::victim::Link;
use integration_tests::{
    Images, Program, Server, Victim, assert_refused, root, run, said, skip, steadily,
};
use orchestrator::image;
use orchestrator::memory::dirty::Method;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// Returns whether there can be rounds; says that the test is skipped where not.
fn has_rounds() -> bool {
    if !root() {
        return false;
    }
    if Method::of_this_kernel().is_none() {
        skip("no dirty tracking");
        return false;
    }
    true
}

fn start(name: &str, args: &[&str]) -> Option<Victim> {
    Some(Program::compile(name, Link::Dynamic)?.start(args))
}

fn dir(images: &Images) -> &str {
    images.0.to_str().expect("UTF-8")
}

/// Pre-dumps by a server, with more options; `previous` counts from the new folder on.
fn round(victim: &Victim, images: &Images, server: &Server, previous: Option<&str>) {
    let pid = victim.pid.to_string();
    let mut args = vec!["pre-dump", &pid, "-D", dir(images)];
    args.extend(server.options());
    if let Some(previous) = previous {
        args.extend(["--prev-images-dir", previous]);
    }
    let output = run(&args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
}

/// Bytes that the page files of a folder take.
fn stored(images: &Images) -> u64 {
    let entries = std::fs::read_dir(&images.0).expect("a folder").flatten();
    let pages = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"pages-"));
    pages
        .map(|entry| entry.metadata().expect("its size").blocks() * 512)
        .sum()
}

/// A program that writes, discards, forks and moves at full rate: two rounds and the dump, each to a folder of the server's own, of
/// which the last takes out what is superseded.
#[test]
fn a_chain_is_made_on_the_other_side() {
    if !has_rounds() {
        return;
    }
    let Some(mut victim) = start("rounds", &["7"]) else {
        return;
    };
    let here = [1, 2, 3].map(|number| Images::new(&victim, &format!("here-{number}")));
    let there = [1, 2, 3].map(|number| Images::new(&victim, &format!("there-{number}")));
    let mut previous: Option<String> = None;
    for (number, (here, there)) in (1..3).zip(here.iter().zip(&there)) {
        let from_there = previous.as_ref().map(|name| format!("../there-{name}"));
        let more: Vec<&str> = match &from_there {
            Some(path) => vec!["--prev-images-dir", path],
            None => Vec::new(),
        };
        let server = Server::start(&there.0, &more);
        let from_here = previous.as_ref().map(|name| format!("../here-{name}"));
        round(&victim, here, &server, from_here.as_deref());
        server.finish();
        previous = Some(number.to_string());
    }
    let before = stored(&there[0]) + stored(&there[1]);
    let server = Server::start(
        &there[2].0,
        &["--prev-images-dir", "../there-2", "--auto-dedup"],
    );
    let all = victim.descendants();
    let options = [&server.options()[..], &["--prev-images-dir", "../here-2"]].concat();
    here[2].dump(victim.pid, &options);
    server.finish();
    victim.reap_with(&all);
    assert_eq!(here.each_ref().map(stored), [0; 3], "pages stay here");
    let after = stored(&there[0]) + stored(&there[1]);
    assert!(
        after < before,
        "{after} bytes of {before} are left of the parents"
    );
    here[2].carry_over(&there[2]);
    let set = image::read(&there[2].0).expect("images");
    assert!(
        !set.snapshot.parent_files.is_empty(),
        "nothing is left to the rounds"
    );
    let output = there[2].try_restore(&["-d", "--host-clocks"]);
    assert!(output.status.success(), "restore: {}", said(&output));
    victim.check();
}

/// All in one folder for each round, as on one machine: the server finds the parent that the dump names.
#[test]
fn a_chain_is_made_in_common_folders() {
    if !has_rounds() {
        return;
    }
    let Some(mut victim) = start("rounds", &["8"]) else {
        return;
    };
    let folders = [1, 2].map(|number| Images::new(&victim, &number.to_string()));
    let server = Server::start(&folders[0].0, &[]);
    round(&victim, &folders[0], &server, None);
    server.finish();
    let server = Server::start(&folders[1].0, &[]);
    let all = victim.descendants();
    let options = [&server.options()[..], &["--prev-images-dir", "../1"]].concat();
    folders[1].dump(victim.pid, &options);
    server.finish();
    victim.reap_with(&all);
    let set = image::read(&folders[1].0).expect("images");
    assert!(
        !set.snapshot.parent_files.is_empty(),
        "nothing is left to the round"
    );
    let output = folders[1].try_restore(&["-d", "--host-clocks"]);
    assert!(output.status.success(), "restore: {}", said(&output));
    victim.check();
}

/// A server that has no set before gets all pages; one whose set before lacks pages fails, and the program runs on.
#[test]
fn a_server_without_the_set_before_gets_all() {
    steadily(a_server_without_the_set_before_gets_all_once);
}

fn a_server_without_the_set_before_gets_all_once() {
    if !has_rounds() {
        return;
    }
    let Some(mut victim) = start("counter", &[]) else {
        return;
    };
    let names = [
        "here-1", "here-2", "here-3", "there-1", "there-2", "there-3", "empty",
    ];
    let [here, second, third, there, wrong, whole, _empty] =
        names.map(|name| Images::new(&victim, name));
    let server = Server::start(&there.0, &[]);
    round(&victim, &here, &server, None);
    server.finish();
    // A set before of which pages are missing.
    let name = format!("pagemap-{}.img", victim.pid);
    let other = Images::new(&victim, "other");
    let map = std::fs::read(there.0.join(&name)).expect("a pagemap");
    cut_last_run(&map, &other.0.join(&name));
    let server = Server::start(&wrong.0, &["--prev-images-dir", "../other"]);
    let options = [&server.options()[..], &["--prev-images-dir", "../here-1"]].concat();
    let output = second.try_dump(victim.pid, &options);
    assert_refused(&output, &["page server", "Invalid argument", "put back"]);
    let (done, words) = server.end();
    assert!(
        !done && words.contains("parent image set does not have"),
        "{words}"
    );
    assert_eq!(std::fs::read_dir(&wrong.0).expect("folder").count(), 0);
    victim.assert_free();
    // None at all.
    let server = Server::start(&whole.0, &["--prev-images-dir", "../empty"]);
    let options = [&server.options()[..], &["--prev-images-dir", "../here-1"]].concat();
    third.dump(victim.pid, &options);
    server.finish();
    victim.reap();
    third.carry_over(&whole);
    let set = image::read(&whole.0).expect("images");
    assert!(set.snapshot.parent_files.is_empty());
    whole.restore();
    victim.check();
}

/// Writes a pagemap without its last record: a file is two magic numbers, and records of a length and so many bytes.
fn cut_last_run(map: &[u8], to: &std::path::Path) {
    let mut at = 8;
    let mut last = at;
    while at < map.len() {
        last = at;
        let len = u32::from_le_bytes(map[at..at + 4].try_into().expect("4 bytes"));
        at += 4 + len as usize;
    }
    let mut file = File::create(to).expect("a file");
    std::io::Write::write_all(&mut file, &map[..last]).expect("written");
}

/// Pages that a child has in common with its parent cross once, and are shared again: the victim looks whether they are.
#[test]
fn common_pages_cross_once() {
    if !root() {
        return;
    }
    let Some(mut victim) = start("tree", &[]) else {
        return;
    };
    let [here, there, local] = ["here", "there", "local"].map(|name| Images::new(&victim, name));
    local.dump(victim.pid, &["--leave-running"]);
    let server = Server::start(&there.0, &[]);
    let all = victim.descendants();
    here.dump(victim.pid, &server.options());
    server.finish();
    victim.reap_with(&all);
    let [there_bytes, local_bytes] = [&there, &local].map(stored);
    assert!(
        there_bytes < local_bytes * 5 / 4,
        "{there_bytes} bytes are there, {local_bytes} in a set that is dumped here"
    );
    here.carry_over(&there);
    there.restore();
    victim.check();
}
