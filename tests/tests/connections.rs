//! Connections of TCP: their other ends in the tree, and outside with somebody who goes on while the tree is away.

use integration_tests::victim::Link;
use integration_tests::{
    Images, Program, Victim, assert_refused, present, root, run, said, skip, steadily, wait_until,
};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// Time in which a packet would have come.
const A_WHILE: Duration = Duration::from_millis(400);
/// Longest time for an answer: the kernel sends again what was lost, ever less often.
const ANSWER: Duration = Duration::from_secs(60);
const KEEP: &str = "--tcp-established";

/// Returns whether connections can be kept here.
fn possible() -> bool {
    if !root() {
        return false;
    }
    let locks = run(&["check", "--feature", "network_lock_nftables"]);
    if !locks.status.success() {
        skip("no nftables");
    }
    locks.status.success()
}

fn start(name: &str) -> Option<Victim> {
    possible().then(|| Some(Program::compile(name, Link::Dynamic)?.start(&[])))?
}

fn restore(images: &Images) {
    let output = images.try_restore(&["-d", KEEP]);
    assert!(output.status.success(), "{}", said(&output));
}

/// Returns the tables that keep the network away from what was dumped of this root.
fn locks_of(pid: u32) -> String {
    let output = run(&["unlock", &pid.to_string()]);
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn both_ends_in_every_state() {
    steadily(|| {
        let Some(mut victim) = start("tcp") else {
            return;
        };
        for round in ["first", "second"] {
            let images = Images::new(&victim, round);
            images.dump(victim.pid, &[KEEP]);
            victim.reap();
            sleep(A_WHILE);
            restore(&images);
        }
        victim.check();
        assert_eq!(locks_of(victim.pid), "", "the network stays locked");
    });
}

#[test]
fn left_running() {
    let Some(victim) = start("tcp") else {
        return;
    };
    Images::new(&victim, "images").dump(victim.pid, &[KEEP, "--leave-running"]);
    assert_eq!(locks_of(victim.pid), "", "the network stays locked");
    victim.check();
}

/// It may be killed then and restored, or continued once the network is unlocked.
#[test]
fn left_stopped() {
    let Some(mut victim) = start("tcp") else {
        return;
    };
    let images = Images::new(&victim, "killed");
    images.dump(victim.pid, &[KEEP, "--leave-stopped"]);
    victim.signal("KILL");
    victim.reap();
    sleep(A_WHILE);
    restore(&images);
    assert_eq!(locks_of(victim.pid), "", "the network stays locked");
    Images::new(&victim, "continued").dump(victim.pid, &[KEEP, "--leave-stopped"]);
    let locks = locks_of(victim.pid);
    assert!(locks.contains("removed"), "{locks}");
    assert!(locks.contains("mended"), "{locks}");
    victim.signal("CONT");
    victim.check();
}

#[test]
fn not_without_the_users_word() {
    let Some(victim) = start("tcp") else {
        return;
    };
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &[]);
    assert_refused(&output, &["connection of TCP", KEEP]);
    // One that fails when all is read.
    let script = victim.folder().join("script");
    std::fs::write(
        &script,
        "#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION != post-dump ]\n",
    )
    .expect("a script");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("its mode");
    let script = script.to_str().expect("UTF-8");
    let output = images.try_dump(victim.pid, &[KEEP, "--action-script", script]);
    assert_refused(&output, &["post-dump"]);
    assert_eq!(locks_of(victim.pid), "", "the network stays locked");
    victim.check();
}

/// A server that answers each line with the same in capitals, and closes when its client has.
const SERVER: &str = r#"
import selectors, signal, socket, sys
out = open(sys.argv[1], "a", buffering=1)
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[2], int(sys.argv[3])))
s.listen(64)
asked = False
def ask(*_):
    global asked
    asked = True
signal.signal(signal.SIGUSR1, ask)
selector = selectors.DefaultSelector()
selector.register(s, selectors.EVENT_READ)
out.write("READY\n")
while not asked:
    for key, _ in selector.select(0.1):
        if key.fileobj is s:
            client, _ = s.accept()
            selector.register(client, selectors.EVENT_READ)
            continue
        data = key.fileobj.recv(1 << 16)
        if data:
            key.fileobj.sendall(data.upper())
        else:
            try:
                key.fileobj.sendall(b"BYE\n")
            except OSError:
                pass
            selector.unregister(key.fileobj)
            key.fileobj.close()
out.write("PASS\n")
"#;

struct Server {
    victim: Victim,
    address: SocketAddr,
}

impl Server {
    /// Starts one at an address that nobody else has: one of loopback, by our process id.
    fn start(number: u8) -> Option<Self> {
        if !possible() || !present("python3") {
            return None;
        }
        let address = own_address(number);
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let victim = Program::script("python3", SERVER).start(&[&ip, &port]);
        Some(Self { victim, address })
    }
}

fn own_address(number: u8) -> SocketAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 80 + number, high, low);
    SocketAddr::new(ip.into(), 7000)
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("it listens");
    client.set_read_timeout(Some(ANSWER)).expect("a limit");
    client
}

fn say(client: &mut TcpStream, words: &str) {
    client.write_all(words.as_bytes()).expect("it is there");
}

fn expect(client: &mut TcpStream, words: &str) {
    let mut got = vec![0; words.len()];
    client.read_exact(&mut got).expect("an answer");
    assert_eq!(String::from_utf8_lossy(&got), words);
}

/// Nothing comes, and above all no reset.
fn expect_silence(client: &mut TcpStream) {
    client.set_read_timeout(Some(A_WHILE)).expect("a limit");
    match client.read(&mut [0]) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
        other => panic!("while nobody is there: {other:?}"),
    }
    client.set_read_timeout(Some(ANSWER)).expect("a limit");
}

#[test]
fn clients_outside_go_on() {
    let Some(Server {
        mut victim,
        address,
    }) = Server::start(0)
    else {
        return;
    };
    let [mut idle, mut busy, mut leaving] = [(); 3].map(|()| connect(address));
    for client in [&mut idle, &mut busy, &mut leaving] {
        say(client, "hello\n");
        expect(client, "HELLO\n");
    }
    for round in ["first", "second"] {
        let images = Images::new(&victim, round);
        images.dump(victim.pid, &[KEEP]);
        victim.reap();
        say(&mut busy, "while you were away\n");
        if round == "second" {
            say(&mut leaving, "the last\n");
            leaving.shutdown(Shutdown::Write).expect("shut");
        }
        expect_silence(&mut busy);
        restore(&images);
        expect(&mut busy, "WHILE YOU WERE AWAY\n");
        say(&mut idle, "still here\n");
        expect(&mut idle, "STILL HERE\n");
        let mut new = connect(address);
        say(&mut new, "new\n");
        expect(&mut new, "NEW\n");
    }
    expect(&mut leaving, "THE LAST\nBYE\n");
    assert_eq!(leaving.read(&mut [0]).expect("the end"), 0);
    victim.check();
    assert_eq!(locks_of(victim.pid), "", "the network stays locked");
}

/// A half that the other end has closed before the dump: it will not say so again.
#[test]
fn the_end_of_a_client_outside_is_kept() {
    if !possible() || !present("python3") {
        return;
    }
    let script = r#"
import signal, socket, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
out = open(sys.argv[1], "a", buffering=1)
s = socket.socket()
s.bind((sys.argv[2], int(sys.argv[3])))
s.listen(1)
out.write("READY\n")
c, _ = s.accept()
# The end has come when it is told of.
while c.recv(1, socket.MSG_PEEK) and c.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) != b"\x08":
    pass
out.write("CLOSED\n")
signal.sigwait([signal.SIGUSR1])
words = b""
while True:
    part = c.recv(100)
    if not part:
        break
    words += part
c.sendall(b"heard " + words)
c.close()
out.write("PASS\n" if words == b"the last words" else "FAIL: %r\n" % words)
"#;
    let address = own_address(1);
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let mut victim = Program::script("python3", script).start(&[&ip, &port]);
    let mut client = connect(address);
    say(&mut client, "the last words");
    client.shutdown(Shutdown::Write).expect("shut");
    let is_closed = || victim.text().lines().any(|line| line == "CLOSED");
    assert!(wait_until(is_closed), "[{}]", victim.text());
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &[KEEP]);
    victim.reap();
    expect_silence(&mut client);
    restore(&images);
    victim.check();
    expect(&mut client, "heard the last words");
    assert_eq!(client.read(&mut [0]).expect("the end"), 0);
}

#[test]
fn a_lock_that_stays_is_found() {
    let Some(Server {
        mut victim,
        address,
    }) = Server::start(2)
    else {
        return;
    };
    let mut client = connect(address);
    say(&mut client, "hello\n");
    expect(&mut client, "HELLO\n");
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &[KEEP]);
    victim.reap();
    say(&mut client, "nobody hears it\n");
    expect_silence(&mut client);
    let told = locks_of(victim.pid);
    assert!(
        told.contains(&format!("orchestrator-{}-", victim.pid)),
        "[{told}]"
    );
    assert_eq!(locks_of(victim.pid), "", "it is gone");
    // Now the kernel says that there is no such connection.
    let error = client.read(&mut [0]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn connections_that_are_left_out_are_closed() {
    let Some(Server {
        mut victim,
        address,
    }) = Server::start(3)
    else {
        return;
    };
    let mut client = connect(address);
    say(&mut client, "hello\n");
    expect(&mut client, "HELLO\n");
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &["--tcp-close"]);
    victim.reap();
    let ended = client.read(&mut [0]);
    assert!(matches!(ended, Ok(0) | Err(_)), "it goes on: {ended:?}");
    let output = images.try_restore(&["-d"]);
    assert!(output.status.success(), "{}", said(&output));
    let mut new = connect(address);
    say(&mut new, "new\n");
    expect(&mut new, "NEW\n");
    victim.check();
}

/// Redis with clients that count: no answer is lost, none is given twice.
#[test]
fn redis_and_its_clients() {
    if !possible() || !present("redis-server") {
        return;
    }
    let address = own_address(4);
    let script = format!(
        "echo READY >\"$1\"; exec redis-server --bind {} --port {} --save '' --dir \"$(dirname \"$1\")\"\n",
        address.ip(),
        address.port()
    );
    let mut victim = Program::script("bash", &script).start(&[]);
    assert!(
        wait_until(|| TcpStream::connect(address).is_ok()),
        "[{}]",
        victim.text()
    );
    let mut clients: Vec<TcpStream> = (0..10).map(|_| connect(address)).collect();
    let mut count = 0;
    let mut all_count = |clients: &mut [TcpStream]| {
        for client in clients.iter_mut() {
            say(client, "INCR count\r\n");
        }
        let mut answers: Vec<u32> = clients.iter_mut().map(number).collect();
        answers.sort_unstable();
        let wanted: Vec<u32> = (count + 1..=count + clients.len() as u32).collect();
        assert_eq!(answers, wanted);
        count += clients.len() as u32;
    };
    all_count(&mut clients);
    for round in ["first", "second"] {
        let images = Images::new(&victim, round);
        images.dump(victim.pid, &[KEEP]);
        victim.reap();
        restore(&images);
        all_count(&mut clients);
    }
    say(&mut clients[0], "SHUTDOWN NOSAVE\r\n");
    victim.reap();
}

/// Reads the answer to INCR.
fn number(client: &mut TcpStream) -> u32 {
    let mut text = String::new();
    let mut byte = [0];
    while byte != *b"\n" {
        client.read_exact(&mut byte).expect("an answer");
        text.push(char::from(byte[0]));
    }
    let number = text.trim().strip_prefix(':').map(str::parse);
    number.expect("a number").expect("a number")
}

/// A connection that its other end has broken off, with bytes that nobody has read: these come first, then the error, or
/// nothing where that was heard.
#[test]
fn what_came_before_a_reset_is_kept() {
    if !possible() || !present("python3") {
        return;
    }
    let script = r#"
import ctypes, signal, socket, struct, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
out = open(sys.argv[1], "a", buffering=1)
def pair(family, address):
    s = socket.socket(family)
    s.bind((address, 0))
    s.listen(1)
    c = socket.create_connection(s.getsockname()[:2])
    a, _ = s.accept()
    return a, c
def broken(family, address):
    a, c = pair(family, address)
    c.sendall(b"asd")
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()
    return a, a.getsockname()
told, heard = broken(socket.AF_INET, sys.argv[2]), broken(socket.AF_INET, sys.argv[2])
heard[0].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
all = [told, heard]
try:
    all.append(broken(socket.AF_INET6, "::1"))
except OSError:
    pass
out.write("READY\n")
signal.sigwait([signal.SIGUSR1])
faults = []
for a, name in all:
    if a.getsockname() != name:
        faults.append("name %r" % (a.getsockname(),))
    if a.recv(100) != b"asd":
        faults.append("bytes")
for (a, _), wanted in zip(all, [True, False, True]):
    try:
        rest, was_told = a.recv(100), False
    except ConnectionResetError:
        rest, was_told = b"", True
    if rest or was_told != wanted:
        faults.append("the end of %r: %r" % (a, was_told))
    try:
        a.send(b"x")
        faults.append("sent")
    except (BrokenPipeError, ConnectionResetError):
        pass
out.write("PASS\n" if not faults else "FAIL: %r\n" % faults)
"#;
    let ip = own_address(5).ip().to_string();
    let mut victim = Program::script("python3", script).start(&[&ip]);
    for round in ["first", "second"] {
        let images = Images::new(&victim, round);
        images.dump(victim.pid, &[]);
        victim.reap();
        restore(&images);
    }
    victim.check();
}

#[test]
fn a_lock_of_iptables_where_it_is_asked_for() {
    if !possible() {
        return;
    }
    if !run(&["check", "--feature", "has_ipt_legacy"])
        .status
        .success()
        || !present("iptables")
    {
        return skip("no iptables");
    }
    let Some(Server {
        mut victim,
        address,
    }) = Server::start(6)
    else {
        return;
    };
    let mut client = connect(address);
    say(&mut client, "hello\n");
    expect(&mut client, "HELLO\n");
    let by = ["--network-lock", "iptables", KEEP];
    for round in ["first", "second"] {
        let images = Images::new(&victim, round);
        images.dump(victim.pid, &by);
        victim.reap();
        say(&mut client, "while you were away\n");
        expect_silence(&mut client);
        restore(&images);
        expect(&mut client, "WHILE YOU WERE AWAY\n");
    }
    assert_eq!(locks_of(victim.pid), "", "the network stays locked");
    Images::new(&victim, "running").dump(victim.pid, &[&by[..], &["--leave-running"]].concat());
    assert_eq!(locks_of(victim.pid), "", "the network stays locked");
    let images = Images::new(&victim, "lost");
    images.dump(victim.pid, &by);
    victim.reap();
    let told = locks_of(victim.pid);
    assert!(told.contains("of iptables"), "[{told}]");
    assert_eq!(locks_of(victim.pid), "", "they are gone");
}

/// Without its programs one clear error, before anything is changed.
#[test]
fn no_lock_of_iptables_without_its_programs() {
    let Some(Server { victim, address }) = Server::start(7) else {
        return;
    };
    let mut client = connect(address);
    say(&mut client, "hello\n");
    expect(&mut client, "HELLO\n");
    if Path::new("/usr/sbin/iptables-restore").exists()
        || Path::new("/sbin/iptables-restore").exists()
    {
        return skip("iptables is installed");
    }
    let images = Images::new(&victim, "images");
    let by = ["--network-lock", "iptables", KEEP];
    let output = images.try_dump(victim.pid, &by);
    assert_refused(&output, &["no program iptables-restore"]);
    say(&mut client, "still\n");
    expect(&mut client, "STILL\n");
    victim.check();
}

/// What a dump leaves behind that is killed while it reads a connection.
#[test]
fn a_connection_left_in_repair_is_mended() {
    let Some(Server { victim, address }) = Server::start(8) else {
        return;
    };
    let mut client = connect(address);
    say(&mut client, "hello\n");
    expect(&mut client, "HELLO\n");
    let script = r#"
import ctypes, os, re, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
pid = int(sys.argv[2])
pidfd = os.pidfd_open(pid)
for number in os.listdir("/proc/%d/fd" % pid):
    if os.readlink("/proc/%d/fd/%s" % (pid, number)).startswith("socket:"):
        one = socket.socket(fileno=libc.syscall(438, pidfd, int(number), 0))
        if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            one.setsockopt(socket.IPPROTO_TCP, 19, 1)
open(sys.argv[1], "a").write("READY\nPASS\n")
"#;
    let file = victim.folder().join("repair.py");
    std::fs::write(&file, script).expect("a script");
    let out = victim.folder().join("repaired");
    let status = std::process::Command::new("python3")
        .args([&file, &out])
        .arg(victim.pid.to_string())
        .status();
    assert!(status.expect("python3").success());
    let told = locks_of(victim.pid);
    assert!(told.contains("mended descriptor"), "[{told}]");
    assert_eq!(locks_of(victim.pid), "", "it is mended");
    say(&mut client, "still\n");
    expect(&mut client, "STILL\n");
    victim.check();
}
