//! Who has a word at the stages of a dump and a restore, and what happens when it says no.

use integration_tests::victim::Link;
use integration_tests::{Images, Program, Victim, assert_refused, root, said, wait_until};

fn counter() -> Option<Victim> {
    if !root() {
        return None;
    }
    Some(Program::compile("counter", Link::Dynamic)?.start(&[]))
}

/// Returns a script that keeps what it was told in a file, and fails at this stage.
fn script(victim: &Victim, fails: &str) -> String {
    let told = victim.folder().join("told");
    format!(
        "echo \"$CRTOOLS_SCRIPT_ACTION ${{CRTOOLS_INIT_PID-none}} ${{CRTOOLS_IMAGE_DIR##*/}}\" >> {}; test $CRTOOLS_SCRIPT_ACTION != {fails}",
        told.display()
    )
}

/// Returns what scripts were told since this was last asked.
fn told(victim: &Victim) -> Vec<String> {
    let told = victim.folder().join("told");
    let text = std::fs::read_to_string(&told).unwrap_or_default();
    let _ = std::fs::remove_file(told);
    text.lines().map(str::to_string).collect()
}

#[test]
fn scripts_are_told_of_each_stage() {
    let Some(mut victim) = counter() else {
        return;
    };
    let images = Images::new(&victim, "images");
    let pid = victim.pid;
    let at = |stage: &str| format!("{stage} {pid} images");
    images.dump(pid, &["--action-script", &script(&victim, "never")]);
    assert_eq!(told(&victim), [at("pre-dump"), at("post-dump")]);
    victim.reap();
    // What comes after all is made cannot be refused any more.
    let output = images.try_restore(&["-d", "--action-script", &script(&victim, "post-resume")]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("post-resume"), "{}", said(&output));
    let stages = ["post-restore", "pre-resume", "post-resume"].map(at);
    let first = ["pre-restore none images".to_string()];
    assert_eq!(told(&victim), [&first[..], &stages[..]].concat());
    victim.check();
}

#[test]
fn a_script_that_fails_stops_a_dump() {
    let Some(victim) = counter() else {
        return;
    };
    let images = Images::new(&victim, "images");
    for (fails, has_images) in [("pre-dump", false), ("post-dump", true)] {
        let output = images.try_dump(victim.pid, &["--action-script", &script(&victim, fails)]);
        assert_refused(&output, &[fails]);
        victim.assert_free();
        assert_eq!(
            images.0.join("inventory.img").exists(),
            has_images,
            "{fails}"
        );
    }
    victim.check();
}

#[test]
fn a_script_that_fails_stops_a_restore() {
    let Some(mut victim) = counter() else {
        return;
    };
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &[]);
    victim.reap();
    for fails in ["pre-restore", "post-restore"] {
        let output = images.try_restore(&["-d", "--action-script", &script(&victim, fails)]);
        assert_refused(&output, &[fails]);
        assert!(wait_until(|| !victim.lives()), "it lives after {fails}");
    }
    images.restore();
    victim.check();
}

#[test]
fn a_signal_that_comes_before_the_first_instruction_interrupts_the_call() {
    if !root() {
        return;
    }
    for call in ["pause", "nanosleep", "poll"] {
        let Some(program) = Program::compile("once", Link::Dynamic) else {
            return;
        };
        let mut victim = program.start(&[call]);
        let sleeps = wait_until(|| victim.state() == Some('S'));
        assert!(sleeps, "{call}: state {:?}", victim.state());
        let images = Images::new(&victim, "images");
        images.dump(victim.pid, &[]);
        victim.reap();
        let script = "test $CRTOOLS_SCRIPT_ACTION != post-restore || kill -USR1 $CRTOOLS_INIT_PID";
        let output = images.try_restore(&["-d", "--action-script", script]);
        assert!(output.status.success(), "{call}: {}", said(&output));
        let heard = wait_until(|| victim.verdict().is_some());
        assert!(heard, "{call}: it sleeps on, in state {:?}", victim.state());
        assert_eq!(victim.verdict().as_deref(), Some("PASS"), "{call}");
    }
}

#[test]
fn a_command_that_cannot_be_run_is_found_out_before_the_restore() {
    let Some(mut victim) = counter() else {
        return;
    };
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &[]);
    victim.reap();
    for command in [
        &["--exec-cmd", "--", "no-such-program"][..],
        &["--exec-cmd"],
    ] {
        let output = images.try_restore(command);
        assert_refused(&output, &["--exec-cmd"]);
        assert!(!victim.lives(), "it lives: {}", said(&output));
    }
    let output = images.try_restore(&["--exec-cmd", "--", "echo", "instead"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "instead\n",
        "{}",
        said(&output)
    );
    victim.check();
}
