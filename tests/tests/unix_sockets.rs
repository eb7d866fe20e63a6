//! Unix sockets whose other ends are outside, what a restore does with their files, and servers that listen on them.

use integration_tests::victim::Link;
use integration_tests::{
    Images, PATIENCE, Program, Victim, assert_refused, present, root, said, steadily, wait_until,
};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

fn victim(name: &str, kind: &str) -> Option<Victim> {
    if !root() {
        return None;
    }
    Some(Program::compile(name, Link::Dynamic)?.start(&[kind]))
}

fn is_socket(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket())
}

/// A restore whose first files are there, and that fails later: its sockets go with it.
#[test]
fn a_restore_that_fails_leaves_no_socket() {
    let Some(mut victim) = victim("unix", "x") else {
        return;
    };
    let images = Images::new(&victim, "images");
    let others = victim.descendants();
    images.dump(victim.pid, &[]);
    victim.reap_with(&others);
    let served = victim.folder().join("served");
    assert!(is_socket(&served), "the dump leaves the file");
    // A folder is missing: the restore fails when it has begun.
    let near = victim.folder().join("folder/near");
    std::fs::remove_file(&near).expect("it is there");
    std::fs::remove_dir(victim.folder().join("folder")).expect("it is empty");
    let output = images.try_restore(&["-d"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(!is_socket(&served), "it stays: {}", said(&output));
    std::fs::create_dir(victim.folder().join("folder")).expect("a folder");
    images.restore();
    assert!(is_socket(&served) && is_socket(&near));
    victim.check();
}

/// A name that a living socket has, or something else, is not taken.
#[test]
fn a_name_that_somebody_has_is_not_taken() {
    let Some(mut victim) = victim("unix", "x") else {
        return;
    };
    let images = Images::new(&victim, "images");
    let others = victim.descendants();
    images.dump(victim.pid, &[]);
    victim.reap_with(&others);
    let served = victim.folder().join("served");
    std::fs::remove_file(&served).expect("it is there");
    let listener = UnixListener::bind(&served).expect("bound");
    assert_refused(&images.try_restore(&["-d"]), &["served", "in use"]);
    assert!(is_socket(&served));
    drop(listener);
    std::fs::remove_file(&served).expect("it is there");
    std::fs::write(&served, "mine").expect("written");
    assert_refused(&images.try_restore(&["-d"]), &["served", "no socket"]);
    assert_eq!(std::fs::read(&served).expect("it is there"), b"mine");
    std::fs::remove_file(&served).expect("it is there");
    images.restore();
    victim.check();
}

/// A connection to a server outside: refused, and with the user's word made again by its name.
#[test]
fn a_connection_to_a_server_outside_is_made_again() {
    if !root() || !present("python3") {
        return;
    }
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("server");
    let server = UnixListener::bind(&path).expect("bound");
    let script = r#"
import signal, socket, sys
# It waits even where it comes early.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
out = open(sys.argv[1], "a", buffering=1)
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[2])
s.sendall(b"hello\n")
out.write("READY\n")
signal.sigwait([signal.SIGUSR1])
s.sendall(b"again\n")
out.write("PASS\n" if s.recv(5) == b"heard" else "FAIL: not heard\n")
"#;
    let mut victim = Program::script("python3", script).start(&[path.to_str().expect("UTF-8")]);
    let (mut before, _) = server.accept().expect("accepted");
    let mut words = [0; 6];
    before.read_exact(&mut words).expect("its words");
    let images = Images::new(&victim, "images");
    let output = images.try_dump(victim.pid, &[]);
    assert_refused(&output, &["outside", "--ext-unix-sk"]);
    images.dump(victim.pid, &["--ext-unix-sk"]);
    victim.reap();
    drop(before);
    images.restore();
    let (mut after, _) = server.accept().expect("it connects again");
    victim.signal("USR1");
    after.read_exact(&mut words).expect("its words");
    assert_eq!(&words, b"again\n");
    after.write_all(b"heard").expect("it is there");
    assert!(wait_until(|| victim.verdict().is_some()));
    assert_eq!(victim.verdict().as_deref(), Some("PASS"));
}

/// An asyncio server and its clients, one of them another process, which ask before and after.
#[test]
fn an_asyncio_server_with_clients() {
    let script = r#"
import asyncio, os, signal, sys
out = open(sys.argv[1], "a", buffering=1)
name = sys.argv[1] + ".sock"
async def serve(reader, writer):
    while line := await reader.readline():
        writer.write(b"heard " + line)
        await writer.drain()
async def ask(reader, writer, word):
    writer.write(word + b"\n")
    await writer.drain()
    return await asyncio.wait_for(reader.readline(), 60) == b"heard " + word + b"\n"
async def client(pipe):
    reader, writer = await asyncio.open_unix_connection(name)
    ok = await ask(reader, writer, b"child before")
    os.write(pipe[1], b"r")
    while await asyncio.to_thread(os.read, pipe[2], 1):
        ok = ok and await ask(reader, writer, b"child after")
        os.write(pipe[1], b"y" if ok else b"n")
async def main():
    server = await asyncio.start_unix_server(serve, name)
    reader, writer = await asyncio.open_unix_connection(name)
    ok = await ask(reader, writer, b"before")
    ups, downs = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.close(downs[1])
        asyncio.events._set_running_loop(None)
        asyncio.run(client((0, ups[1], downs[0])))
        os._exit(0)
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(os.read, ups[0], 1)
    asked = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR1, asked.set)
    out.write("READY\n")
    await asked.wait()
    ok = ok and await ask(reader, writer, b"after")
    os.write(downs[1], b"?")
    ok = ok and await asyncio.to_thread(os.read, ups[0], 1) == b"y"
    late = await asyncio.open_unix_connection(name)
    ok = ok and await ask(*late, b"late")
    out.write("PASS\n" if ok else "FAIL: an answer\n")
    os._exit(0)
asyncio.run(main())
"#;
    if !root() || !present("python3") {
        return;
    }
    steadily(|| {
        let mut victim = Program::script("python3", script).start(&[]);
        for round in ["first", "second"] {
            let images = Images::new(&victim, round);
            let others = victim.descendants();
            images.dump(victim.pid, &[]);
            victim.reap_with(&others);
            images.restore();
        }
        victim.check();
    });
}

/// Asks a server for something, and returns all that it says until it is satisfied; empty where nobody answers.
fn ask(path: &Path, question: &str, is_all: impl Fn(&str) -> bool) -> String {
    let mut heard = Vec::new();
    let asked = UnixStream::connect(path).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(question.as_bytes())?;
        let mut part = [0; 4096];
        while !is_all(&String::from_utf8_lossy(&heard)) {
            match stream.read(&mut part)? {
                0 => break,
                len => heard.extend_from_slice(&part[..len]),
            }
        }
        Ok(())
    });
    match asked {
        Ok(()) => String::from_utf8_lossy(&heard).into_owned(),
        Err(_) => String::new(),
    }
}

/// Carries a server through a dump while it runs on, and two cycles; it answers after each.
fn serves_on(victim: &mut Victim, answers: impl Fn(&Victim, &str) -> bool) {
    let began = wait_until(|| answers(victim, "first"));
    assert!(began, "it does not begin: {}", victim.text());
    let mut others = victim.descendants();
    let running = Images::new(victim, "running");
    running.dump(victim.pid, &["--leave-running"]);
    assert!(answers(victim, "running"), "{}", victim.text());
    for round in ["second", "third"] {
        let images = Images::new(victim, round);
        others = victim.descendants();
        images.dump(victim.pid, &[]);
        victim.reap_with(&others);
        images.restore();
        assert_eq!(victim.descendants(), others, "not the processes there were");
        assert!(answers(victim, round), "{round}: {}", victim.text());
    }
    // A master that runs makes a new worker for one that is killed, which nobody knows of.
    victim.signal("STOP");
    victim.kill_with(&others);
}

/// A master, which listens, and two workers, which answer.
#[test]
fn nginx_with_two_workers() {
    let script = r#"
folder=$(dirname "$1")
cat >"$folder/conf" <<END
daemon off;
user root;
worker_processes 2;
pid $folder/pid;
error_log $folder/error.log;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path $folder/body;
    proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi;
    scgi_temp_path $folder/scgi;
    server { listen unix:$folder/server; location / { return 200 "\$pid heard \$request_uri\n"; } }
}
END
echo READY
exec nginx -p "$folder" -e "$folder/error.log" -c "$folder/conf"
"#;
    if !root() || !present("nginx") {
        return;
    }
    steadily(|| {
        let mut victim = Program::script("bash", script).start(&[]);
        serves_on(&mut victim, |victim, word| {
            let question = format!("GET /{word} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n");
            let path = victim.folder().join("server");
            let answer = ask(&path, &question, |_| false);
            answer.starts_with("HTTP/1.1 200") && answer.ends_with(&format!(" heard /{word}\n"))
        });
    });
}

/// A database with threads and timers, which still has what it was told before.
#[test]
fn redis_without_a_port() {
    let script = r#"
folder=$(dirname "$1")
echo READY
exec redis-server --port 0 --unixsocket "$folder/server" --dir "$folder" --save "" --daemonize no
"#;
    if !root() || !present("redis-server") {
        return;
    }
    steadily(|| {
        let mut victim = Program::script("bash", script).start(&[]);
        serves_on(&mut victim, |victim, word| {
            let path = victim.folder().join("server");
            // What was told first is asked for each time.
            let told = match word {
                "first" => ask(&path, "SET key kept\r\n", |heard| heard == "+OK\r\n"),
                _ => "+OK\r\n".into(),
            };
            let asked = ask(&path, "GET key\r\n", |heard| heard == "$4\r\nkept\r\n");
            told == "+OK\r\n" && asked == "$4\r\nkept\r\n"
        });
    });
}

/// An empty message behind others is shown to one look only: the next dump names it, and loses nothing in silence.
#[test]
fn an_empty_message_that_was_looked_at() {
    let script = r#"
import signal, socket, sys
# It waits even where it comes early.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
out = open(sys.argv[1], "a", buffering=1)
one, other = socket.socketpair(socket.AF_UNIX, getattr(socket, sys.argv[2]))
for word in (b"before", b"", b"after"):
    one.send(word)
out.write("READY\n")
signal.sigwait([signal.SIGUSR1])
got = [other.recv(20) for _ in range(3)]
out.write("PASS\n" if got == [b"before", b"", b"after"] else "FAIL: %r\n" % got)
"#;
    if !root() || !present("python3") {
        return;
    }
    for kind in ["SOCK_DGRAM", "SOCK_SEQPACKET"] {
        let mut victim = Program::script("python3", script).start(&[kind]);
        let first = Images::new(&victim, "first");
        first.dump(victim.pid, &["--leave-running"]);
        let second = Images::new(&victim, "second");
        let output = second.try_dump(victim.pid, &[]);
        assert_refused(&output, &["socket:[", "empty message"]);
        assert!(victim.lives(), "a dump that is refused harms nobody");
        // The first dump has all of it.
        victim.kill();
        first.restore();
        victim.check();
    }
}
