//! Trees in a network namespace of their own: the victims check from inside that all of it is as it was.

use std::process::{Child, Command, Stdio};

use integration_tests::{
    Images, Program, Victim, assert_refused, orchestrator, present, root, run, said, skip,
    wait_until,
};

const KEEP: &str = "--tcp-established";

/// Returns whether victims can be made here, and their connections be kept.
fn possible() -> bool {
    if !root() || !present("ip") || !present("python3") {
        return false;
    }
    let locks = run(&["check", "--feature", "network_lock_nftables"]);
    if !locks.status.success() {
        skip("no nftables");
    }
    locks.status.success()
}

/// Starts a victim that makes itself a namespace with these things.
fn start(ways: &[&str]) -> Option<Victim> {
    let script = include_str!("../scripts/netns.py");
    possible().then(|| Program::script("python3", script).start(ways))
}

fn restore(images: &Images) {
    let output = images.try_restore(&["-d", KEEP]);
    assert!(output.status.success(), "{}", said(&output));
}

/// Returns the name of the namespace that a process is in.
fn namespace(pid: u32) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/net"));
    link.expect("a process").display().to_string()
}

#[test]
fn a_namespace_with_loopback() {
    let Some(mut victim) = start(&["lo"]) else {
        return;
    };
    for round in ["first", "second"] {
        let images = Images::new(&victim, round);
        images.dump(victim.pid, &[KEEP]);
        victim.reap();
        restore(&images);
    }
    assert_ne!(namespace(victim.pid), namespace(std::process::id()));
    victim.check();
}

#[test]
fn a_pair_of_links_inside() {
    let Some(mut victim) = start(&["lo", "pair"]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &[KEEP]);
    victim.reap();
    restore(&images);
    victim.check();
}

/// Returns whether the kernel has links of these kinds.
fn has_kinds(kinds: &[&str]) -> bool {
    let missing = kinds.iter().find(|kind| {
        let words = format!("ip link add probe type {kind}");
        let made = Command::new("unshare")
            .args(["-n", "sh", "-c", &words])
            .output();
        !made.is_ok_and(|made| made.status.success())
    });
    if let Some(kind) = missing {
        skip(&format!("no links of the kind {kind}"));
    }
    missing.is_none()
}

/// Rules of packets with sets, maps, objects and chains of one rule alone, and those that iptables makes of nftables.
#[test]
fn tables_of_nftables() {
    if !present("nft") {
        return;
    }
    let ways = match present("iptables-nft") {
        true => &["lo", "rules", "iptables"][..],
        false => &["lo", "rules"],
    };
    let Some(mut victim) = start(ways) else {
        return;
    };
    let portable = Images::new(&victim, "portable").try_dump(victim.pid, &[KEEP, "--portable"]);
    assert_refused(&portable, &["tables of nftables", "leave --portable out"]);
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &[KEEP]);
    victim.reap();
    restore(&images);
    victim.check();
}

/// Links that lie on others, and ports of a bridge, whatever the order of their numbers.
#[test]
fn links_of_other_kinds() {
    if !possible() || !has_kinds(&["bridge", "vxlan id 5 dstport 5", "ifb"]) {
        return;
    }
    let Some(mut victim) = start(&["lo", "kinds"]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &[KEEP]);
    victim.reap();
    restore(&images);
    victim.check();
}

/// A network namespace with a bridge, to which the victim's link leads. Ended when it goes.
struct Host(Child);

impl Host {
    fn start() -> Self {
        let script = "ip link set lo up && ip link add br0 type bridge && ip address add 10.99.0.1/24 dev br0 && ip link set br0 up && exec sleep 1000";
        let child = Command::new("unshare")
            .args(["-n", "sh", "-c", script])
            .stdin(Stdio::null())
            .spawn();
        let host = Self(child.expect("unshare can be started"));
        let is_up = wait_until(|| {
            let name = std::fs::read(format!("/proc/{}/comm", host.0.id()));
            name.is_ok_and(|name| name == b"sleep\n")
        });
        assert!(is_up, "no host");
        host
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let place = format!("--net=/proc/{}/ns/net", self.0.id());
        command.args([&place, program]).stdin(Stdio::null());
        command
    }

    fn ip(&self, words: &str) {
        let status = self.command("ip").args(words.split(' ')).status();
        assert!(status.is_ok_and(|status| status.success()), "ip {words}");
    }

    /// Restores in it.
    fn restore(&self, images: &Images, more: &[&str]) -> std::process::Output {
        let mut command = self.command(orchestrator().to_str().expect("UTF-8"));
        let dir = images.0.to_str().expect("UTF-8");
        command.args(["restore", "-d", "-D", dir, KEEP]).args(more);
        command.output().expect("nsenter can be started")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks the server of the victim again and again, over one connection, until its input ends.
const CLIENT: &str = r#"
import socket, sys, threading
out = open(sys.argv[1], "a", buffering=1)
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
s = socket.create_connection(("10.99.0.2", 778), timeout=60)
count = 0
while not ended.is_set() or count < 2:
    s.sendall(b"line %d\n" % count)
    answer = b""
    while not answer.endswith(b"\n"):
        part = s.recv(100)
        assert part, "closed"
        answer += part
    assert answer == b"LINE %d\n" % count, answer
    count += 1
    out.write("%d\n" % count)
out.write("PASS\n")
"#;

/// A server in a namespace of its own, a client outside of it: both go on when the server is somewhere else, with its address.
#[test]
fn a_server_moves_to_a_new_namespace() {
    if !possible() || !present("unshare") || !present("nsenter") {
        return;
    }
    let host = Host::start();
    let Some(mut victim) = given("moves", |pid| {
        host.ip(&format!(
            "link add out0 type veth peer name eth0 address 02:00:00:00:99:02 netns {pid}"
        ));
        host.ip("link set out0 master br0 up");
    }) else {
        return;
    };
    let output = victim.folder().join("client");
    let client = host
        .command("python3")
        .args(["-c", CLIENT])
        .arg(&output)
        .stdin(Stdio::piped())
        .spawn();
    let mut client = client.expect("python3 can be started");
    let said_by_client = || std::fs::read_to_string(&output).unwrap_or_default();
    assert!(
        wait_until(|| said_by_client().lines().count() > 3),
        "no answers"
    );
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &[KEEP]);
    victim.reap();
    let before = said_by_client().lines().count();
    let refused = host.restore(&images, &[]);
    assert_refused(&refused, &["eth0", "outside", "--external veth[eth0]:"]);
    let restored = host.restore(&images, &["--external", "veth[eth0]:moved@br0"]);
    assert!(restored.status.success(), "{}", said(&restored));
    let went_on = wait_until(|| said_by_client().lines().count() > before + 3);
    assert!(went_on, "the client stands still: {}", said_by_client());
    drop(client.stdin.take());
    assert!(client.wait().is_ok_and(|status| status.success()));
    assert!(said_by_client().ends_with("PASS\n"), "{}", said_by_client());
    victim.check();
}

/// Starts a victim with a link that somebody gives it from outside; `mark` is a word of this test alone.
fn given(mark: &str, give: impl Fn(u32)) -> Option<Victim> {
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        // It waits for the link before it is ready.
        scope.spawn(|| send.send(start(&["lo", "outward", mark])));
        let waiting = || waiting_for_a_link(mark);
        assert!(
            wait_until(|| waiting().map(&give).is_some()),
            "nobody waits for a link"
        );
    });
    receive.recv().ok().flatten()
}

/// A link that lies on one of the host.
#[test]
fn a_link_upon_one_outside() {
    if !possible() || !present("unshare") || !present("nsenter") {
        return;
    }
    let host = Host::start();
    let Some(mut victim) = given("lies upon", |pid| {
        host.ip(&format!(
            "link add link br0 name eth0 netns {pid} index 77 type macvlan mode private"
        ));
    }) else {
        return;
    };
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &[KEEP]);
    victim.reap();
    let refused = host.restore(&images, &[]);
    assert_refused(
        &refused,
        &["eth0 (macvlan)", "outside", "--external macvlan[eth0]:"],
    );
    let restored = host.restore(&images, &["--external", "macvlan[eth0]:br0"]);
    assert!(restored.status.success(), "{}", said(&restored));
    victim.check();
}

/// Returns the process of this test that waits for a link, by a word of its arguments.
fn waiting_for_a_link(mark: &str) -> Option<u32> {
    let own = std::process::id();
    let children = std::fs::read_dir(format!("/proc/{own}/task")).ok()?;
    let pids = children.flatten().flat_map(|task| {
        let text = std::fs::read_to_string(task.path().join("children"));
        let text = text.unwrap_or_default();
        let pids: Vec<u32> = text.split(' ').filter_map(|pid| pid.parse().ok()).collect();
        pids
    });
    let mut pids = pids.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(mark)
    });
    pids.find(|pid| namespace(*pid) != namespace(own))
}

#[test]
fn left_running_in_its_namespace() {
    let Some(victim) = start(&["lo"]) else {
        return;
    };
    let before = namespace(victim.pid);
    Images::new(&victim, "images").dump(victim.pid, &[KEEP, "--leave-running"]);
    assert_eq!(namespace(victim.pid), before);
    victim.check();
}

/// The names of the links in the network namespace of a process.
fn links(pid: u32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).expect("its links");
    let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_string()).collect()
}

/// A program in a network namespace of its own, with a link beside loopback if it is to have one.
const BARE: &str = r#"
import ctypes, signal, subprocess, sys, time
out = open(sys.argv[1], "a", buffering=1)
assert ctypes.CDLL(None).unshare(0x40000000) == 0
for name in sys.argv[2:]:
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", name + "peer"], check=True)
asked = []
signal.signal(signal.SIGUSR1, lambda *_: asked.append(1))
out.write("READY\n")
while not asked:
    time.sleep(0.05)
out.write("PASS\n")
"#;

/// A tree comes into a namespace that is there, whichever it was in; or into one in which nothing is.
#[test]
fn another_namespace_than_its_own() {
    if !possible() {
        return;
    }
    let mut victim = Program::script("python3", BARE).start(&["one"]);
    let other = Program::script("python3", BARE).start(&["two"]);
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &[KEEP]);
    victim.reap();
    let refused = images.try_restore(&["-d", KEEP, "--join-ns", "net:/dev/null"]);
    assert_refused(&refused, &["--join-ns"]);
    let place = format!("net:{}", other.pid);
    let output = images.try_restore(&["-d", KEEP, "--join-ns", &place]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(namespace(victim.pid), namespace(other.pid));
    victim.signal("KILL");
    victim.reap();
    let output = images.try_restore(&["-d", KEEP, "--empty-ns", "net"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(links(victim.pid), ["lo"]);
    assert_ne!(namespace(victim.pid), namespace(std::process::id()));
    let images = Images::new(&victim, "nothing");
    images.dump(victim.pid, &[KEEP, "--empty-ns", "net"]);
    victim.reap();
    restore(&images);
    assert_eq!(links(victim.pid), ["lo"]);
    victim.check();
}

/// They are named, and the rule that tracks them is kept.
#[test]
fn tracked_connections() {
    if !present("nft") {
        return;
    }
    let Some(mut victim) = start(&["lo", "tracked"]) else {
        return;
    };
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &[KEEP]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("network namespace tracks"),
        "{}",
        said(&output)
    );
    victim.reap();
    restore(&images);
    victim.check();
}

/// What is not known is named, and the target is as it was.
#[test]
fn what_is_not_kept_of_a_namespace() {
    let Some(victim) = start(&["lo", "queue"]) else {
        return;
    };
    let output = Images::new(&victim, "images").try_dump(victim.pid, &[KEEP]);
    assert_refused(&output, &["network device lo", "queueing discipline tbf"]);
    victim.check();
}

/// As above, of links that are kept.
#[test]
fn what_is_not_kept_of_links() {
    let Some(victim) = start(&["lo", "xdp"]) else {
        return;
    };
    let output = Images::new(&victim, "images").try_dump(victim.pid, &[KEEP]);
    assert_refused(&output, &["network device lo", "program of XDP"]);
    victim.check();
}
