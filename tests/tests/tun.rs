//! TUN and TAP devices, which are the machine's: each test has names of its own, and removes what has them.

use integration_tests::victim::Link;
use integration_tests::{Images, Program, Victim, assert_refused, root, said, skip};
use std::path::Path;
use std::process::Command;

/// Devices of a test, which go with it.
struct Devices(String);

impl Devices {
    /// Returns names that nobody has.
    fn of(test: &str) -> Self {
        Self(format!("ot{}{test}", std::process::id()))
    }

    fn remove(&self) {
        for kind in ["n", "p"] {
            let name = format!("{}{kind}", self.0);
            // There may be none.
            let _ = Command::new("ip").args(["link", "del", &name]).output();
        }
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        self.remove();
    }
}

fn start(devices: &Devices, kind: &str) -> Option<Victim> {
    if !root() {
        return None;
    }
    if !Path::new("/dev/net/tun").exists() || Command::new("ip").arg("-V").output().is_err() {
        skip("no /dev/net/tun, or no ip");
        return None;
    }
    Some(Program::compile("tun", Link::Dynamic)?.start(&[&devices.0, kind]))
}

fn dump(victim: &mut Victim, name: &str) -> (Images, String) {
    let images = Images::new(victim, name);
    let others = victim.descendants();
    let output = images.try_dump(victim.pid, &[]);
    assert!(output.status.success(), "{}", said(&output));
    victim.reap_with(&others);
    (images, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn queues_come_back() {
    let devices = Devices::of("q");
    let Some(mut victim) = start(&devices, "") else {
        return;
    };
    for round in ["images-1", "images-2"] {
        dump(&mut victim, round).0.restore();
    }
    victim.check();
}

#[test]
fn packets_that_wait() {
    let devices = Devices::of("w");
    let Some(mut victim) = start(&devices, "packet") else {
        return;
    };
    let (images, text) = dump(&mut victim, "images");
    let words = format!("packets that wait in a TUN or TAP device {}n", devices.0);
    assert!(text.contains(&words), "{text}");
    images.restore();
    victim.check();
}

#[test]
fn a_device_that_goes() {
    let devices = Devices::of("g");
    let Some(victim) = start(&devices, "goes") else {
        return;
    };
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &[]);
    assert_refused(&output, &["descriptor 4", "goes with its last descriptor"]);
    victim.assert_free();
    victim.check();
}

#[test]
fn a_device_that_is_not_there_at_the_restore() {
    let devices = Devices::of("r");
    let Some(mut victim) = start(&devices, "") else {
        return;
    };
    let (images, _) = dump(&mut victim, "images");
    devices.remove();
    let output = images.try_restore(&["-d"]);
    assert_refused(&output, &["there is no interface", &devices.0]);
}
