//! Objects that are somebody else's, before and after: `--external` and `--inherit-fd`.

use integration_tests::victim::Link;
use integration_tests::{
    Images, PATIENCE, Program, Victim, assert_refused, field, present, root, run, said, skip,
};
use orchestrator::sys::tty;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

fn start(kind: &str, input: impl Into<Stdio>) -> Option<Victim> {
    if !root() {
        return None;
    }
    let program = Program::compile("outside", Link::Dynamic)?;
    Some(program.start_with(&[kind], input.into()))
}

/// Restores with `given` as the program's descriptor for `key`.
fn restore_with(images: &Images, given: OwnedFd, key: &str) {
    let dir = images.0.to_str().expect("UTF-8");
    // As its standard input: no other descriptor is there in the command, whatever else the tests have open.
    let output = Command::new(integration_tests::orchestrator())
        .args(["restore", "-D", dir, "-d", "--inherit-fd"])
        .arg(format!("fd[0]:{key}"))
        .stdin(given)
        .output()
        .expect("the orchestrator can be started");
    assert!(output.status.success(), "restore: {}", said(&output));
}

/// Restores without what was outside: that is refused, and the key is named.
fn refused_without(images: &Images, key: &str) {
    let output = images.try_restore(&["-d"]);
    assert_refused(&output, &["--inherit-fd", key]);
}

fn key_of_file(victim: &Victim) -> String {
    let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/0", victim.pid));
    let info = info.expect("its fdinfo");
    let mount = field(&info, "mnt_id:").and_then(|id| id.parse::<i32>().ok());
    let path = format!("/proc/{}/fd/0", victim.pid);
    let inode = std::fs::metadata(path).expect("its input").ino();
    format!("file[{:x}:{inode:x}]", mount.expect("a mount"))
}

fn opened(victim: &Victim, name: &str, text: &str) -> File {
    let path = victim.folder().join(name);
    file(&path, text)
}

fn file(path: &std::path::Path, text: &str) -> File {
    let mut options = std::fs::OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(true);
    let mut file = options.open(path).expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file.rewind().expect("its begin");
    file
}

#[test]
fn a_file() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let first = file(&folder.path().join("first"), "what was there before\n");
    let Some(mut victim) = start("file", first) else {
        return;
    };
    let key = key_of_file(&victim);
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &["--external", &key]);
    victim.reap();
    refused_without(&images, &key);
    let mut other = opened(&victim, "other", "another file\n");
    restore_with(
        &images,
        other.try_clone().expect("a duplicate").into(),
        &key,
    );
    victim.check();
    assert!(
        victim.text().contains("it reads another file"),
        "{}",
        victim.text()
    );
    let mut all = String::new();
    other.rewind().expect("its begin");
    other.read_to_string(&mut all).expect("text");
    assert_eq!(all, "another file\nanswer\n");
}

/// A file that no path leads to: its file system is mounted nowhere any more.
#[test]
fn a_file_of_another_mount() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let place = folder.path().to_str().expect("UTF-8");
    let does = |args: &[&str]| {
        let status = Command::new(args[0]).args(&args[1..]).status();
        status.is_ok_and(|status| status.success())
    };
    if !root() {
        return;
    }
    if !does(&["mount", "-t", "tmpfs", "none", place]) {
        return skip("nothing can be mounted");
    }
    let first = file(&folder.path().join("hidden"), "of no mount\n");
    assert!(does(&["umount", "-l", place]), "umount");
    let Some(mut victim) = start("file", first) else {
        return;
    };
    let images = Images::new(&victim, "images");
    let key = key_of_file(&victim);
    let output = images.try_dump(victim.pid, &[]);
    assert_refused(&output, &["descriptor 0"]);
    images.dump(victim.pid, &["--external", &key]);
    victim.reap();
    let other = opened(&victim, "other", "found again\n");
    restore_with(&images, other.into(), &key);
    victim.check();
    assert!(
        victim.text().contains("it reads found again"),
        "{}",
        victim.text()
    );
}

#[test]
fn a_socket() {
    let (own, theirs) = UnixStream::pair().expect("a pair");
    let Some(mut victim) = start("socket", OwnedFd::from(theirs)) else {
        return;
    };
    let inode = std::fs::metadata(format!("/proc/{}/fd/0", victim.pid));
    let inode = inode.expect("its input").ino();
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &[]);
    assert_refused(&output, &["descriptor 0", "--external unix[INODE]"]);
    images.dump(victim.pid, &["--external", &format!("unix[{inode}]")]);
    victim.reap();
    drop(own);
    let key = format!("socket[{inode}]");
    refused_without(&images, &key);
    let (mut own, theirs) = UnixStream::pair().expect("a pair");
    restore_with(&images, theirs.into(), &key);
    own.set_read_timeout(Some(PATIENCE)).expect("a limit");
    own.write_all(b"through another\n").expect("sent");
    victim.check();
    assert!(
        victim.text().contains("it reads through another"),
        "{}",
        victim.text()
    );
    let mut answer = [0; 7];
    own.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"answer\n");
}

/// Returns both sides of a pseudo-terminal that echoes nothing.
fn terminal() -> (File, OwnedFd) {
    let mut options = std::fs::OpenOptions::new();
    let master = options.read(true).write(true).open("/dev/ptmx");
    let master = master.expect("a terminal");
    tty::switch(&master, tty::Switch::Lock, false).expect("not locked");
    let slave = tty::open_slave(&master).expect("its slave");
    let mut settings = tty::settings(&slave).expect("its settings");
    // ECHO of the local flags.
    settings.flags[3] &= !0o10;
    tty::set_settings(&slave, &settings).expect("other settings");
    (master, slave)
}

fn terminal_of_another(kind: &str) {
    let (master, slave) = terminal();
    let stat = std::fs::metadata(format!("/proc/self/fd/{}", slave.as_raw_fd()));
    let stat = stat.expect("the slave");
    let Some(mut victim) = start(kind, slave) else {
        return;
    };
    let key = format!("tty[{:x}:{:x}]", stat.rdev(), stat.dev());
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &[]);
    assert_refused(&output, &["descriptor 0"]);
    images.dump(victim.pid, &["--external", &key]);
    victim.reap();
    drop(master);
    refused_without(&images, &key);
    let (mut master, slave) = terminal();
    restore_with(&images, slave, &key);
    master.write_all(b"typed elsewhere\n").expect("typed");
    victim.check();
    assert!(
        victim.text().contains("it reads typed elsewhere"),
        "{}",
        victim.text()
    );
}

#[test]
fn a_terminal() {
    terminal_of_another("terminal");
}

#[test]
fn a_controlling_terminal() {
    terminal_of_another("controlling");
}

/// A terminal of the machine is opened again by its name; one that cannot be opened here is not asked for.
#[test]
fn a_terminal_of_the_machine() {
    let all = ["/dev/console", "/dev/tty5", "/dev/tty0", "/dev/ttyS0"];
    let mut options = std::fs::OpenOptions::new();
    let options = options.read(true).write(true);
    let found: Vec<_> = all
        .iter()
        .filter_map(|path| Some((*path, options.open(path).ok()?)))
        .filter(|(_, terminal)| tty::settings(terminal).is_ok())
        .collect();
    if found.is_empty() {
        return skip("no terminal of the machine can be opened");
    }
    for (path, terminal) in found {
        let Some(mut victim) = start("none", terminal) else {
            return;
        };
        let images = Images::new(&victim, "images");
        images.dump(victim.pid, &[]);
        victim.reap();
        let output = images.try_restore(&["-d"]);
        assert!(output.status.success(), "{path}: {}", said(&output));
        let link = std::fs::read_link(format!("/proc/{}/fd/0", victim.pid));
        assert_eq!(link.expect("its input"), std::path::Path::new(path));
    }
}

/// What cannot be left out yet is an error with each command, and what is nothing of the tree is named.
#[test]
fn what_has_no_meaning() {
    let Some(mut victim) = start("none", Stdio::null()) else {
        return;
    };
    let images = Images::new(&victim, "images");
    let dir = images.0.to_str().expect("UTF-8");
    let pid = victim.pid.to_string();
    let kinds = ["mnt[]:s", "dev[8/1]:d", "net[4026531840]:n", "pid[1]:p"];
    for kind in kinds {
        for command in [&["dump", &pid][..], &["pre-dump", &pid], &["restore"]] {
            let output = run(&[command, &["-D", dir, "--external", kind]].concat());
            let name = kind.split('[').next().unwrap_or_default();
            assert_refused(&output, &["--external", name, "not kept yet"]);
        }
    }
    for none in ["file[0:1]", "tty[1:2]", "pipe[1]", "unix[1]"] {
        let output = images.try_dump(victim.pid, &["-R", "--external", none]);
        assert!(output.status.success(), "{}", said(&output));
        let words = format!("--external {none}: nothing of the tree");
        assert!(said(&output).contains(&words), "{}", said(&output));
    }
    victim.assert_free();
    images.dump(victim.pid, &[]);
    victim.reap();
    // It reads what comes of /dev/null: that is another thing than what it is told to look at.
    let output = images.try_restore(&["-d"]);
    assert!(output.status.success(), "{}", said(&output));
}

/// A socket of the network that the program was given; a restore gives it another, by the kernel's own name for the first.
#[test]
fn a_socket_of_the_network() {
    if !root() || !present("python3") {
        return;
    }
    let script = r#"
import signal, socket, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
out = open(sys.argv[1], "a", buffering=1)
s = socket.socket(fileno=0)
out.write("READY\n")
signal.sigwait([signal.SIGUSR1])
words, sender = s.recvfrom(100)
s.sendto(words.upper(), sender)
out.write("PASS\n")
"#;
    let socket = || UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let first = OwnedFd::from(socket());
    let program = Program::script("python3", script);
    let mut victim = program.start_with(&[], Stdio::from(first));
    let link = std::fs::read_link(format!("/proc/{}/fd/0", victim.pid)).expect("its socket");
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &[]);
    victim.reap();
    let (second, asker) = (socket(), socket());
    let address = second.local_addr().expect("its name");
    restore_with(&images, second.into(), &link.to_string_lossy());
    asker.set_read_timeout(Some(PATIENCE)).expect("a limit");
    asker.send_to(b"is anybody there", address).expect("sent");
    victim.check();
    let mut answer = [0; 32];
    let len = asker.recv(&mut answer).expect("an answer");
    assert_eq!(&answer[..len], b"IS ANYBODY THERE");
}
