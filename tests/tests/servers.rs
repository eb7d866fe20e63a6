//! Servers in the middle of their work: clients outside wait while a server is away, and go on with it.

use integration_tests::victim::{Link, send};
use integration_tests::{Images, Program, Victim, present, root, run, said, skip, wait_until};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::Duration;

const KEEP: &str = "--tcp-established";
/// Longest time for an answer: the kernel sends again what was lost, ever less often.
const ANSWER: Duration = Duration::from_secs(60);
/// Time in which a server gets some of its work done.
const A_WHILE: Duration = Duration::from_millis(200);

/// Returns whether connections can be kept here, by this program.
fn possible(program: &str) -> bool {
    if !root() || !present(program) {
        return false;
    }
    let locks = run(&["check", "--feature", "network_lock_nftables"]);
    if !locks.status.success() {
        skip("no nftables");
    }
    locks.status.success()
}

/// An address that nobody else has: one of loopback, by our process id.
fn own_address(number: u8) -> SocketAddr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, 120 + number, high, low);
    SocketAddr::new(ip.into(), 7000)
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("it listens");
    client.set_read_timeout(Some(ANSWER)).expect("a limit");
    client
}

/// Takes a server away and brings it back.
fn move_away(victim: &mut Victim, name: &str, more: &[&str]) {
    let images = Images::new(victim, name);
    images.dump(victim.pid, &[&[KEEP], more].concat());
    let set = orchestrator::image::read(&images.0).expect("images");
    let tasks = set.snapshot.tasks.iter();
    let pids: Vec<u32> = tasks.map(|task| task.pid as u32).collect();
    victim.reap_with(&pids);
    let output = images.try_restore(&["-d", KEEP]);
    assert!(output.status.success(), "{}", said(&output));
}

/// No lock of the network stays.
fn assert_unlocked(victim: &Victim) {
    let output = run(&["unlock", &victim.pid.to_string()]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(output.stdout.is_empty(), "{}", said(&output));
}

/// Clients of redis that write without pause. Each counts by itself: an answer that is lost, or given twice, is seen at once.
#[test]
fn redis_under_load() {
    const CLIENTS: usize = 50;
    if !possible("redis-server") {
        return;
    }
    let address = own_address(0);
    let script = format!(
        "echo READY >\"$1\"; exec redis-server --bind {} --port {} --save '' --dir \"$(dirname \"$1\")\"\n",
        address.ip(),
        address.port()
    );
    let mut victim = Program::script("bash", &script).start(&[]);
    let is_up = wait_until(|| TcpStream::connect(address).is_ok());
    assert!(is_up, "[{}]", victim.text());
    let clients: Vec<TcpStream> = (0..CLIENTS).map(|_| connect(address)).collect();
    let is_over = AtomicBool::new(false);
    let counts: Vec<u64> = scope(|scope| {
        let work = |(number, client): (usize, TcpStream)| {
            let mut answers = BufReader::new(client.try_clone().expect("a duplicate"));
            let (mut client, mut count) = (client, 0_u64);
            while !is_over.load(Ordering::Relaxed) {
                write!(client, "INCR count{number}\r\n").expect("it is there");
                let mut line = String::new();
                answers.read_line(&mut line).expect("an answer");
                count += 1;
                assert_eq!(line.trim(), format!(":{count}"), "client {number}");
            }
            count
        };
        let clients = clients.into_iter().enumerate();
        let working: Vec<_> = clients.map(|one| scope.spawn(move || work(one))).collect();
        for round in ["first", "second"] {
            sleep(A_WHILE);
            move_away(&mut victim, round, &[]);
        }
        sleep(A_WHILE);
        is_over.store(true, Ordering::Relaxed);
        let counts = working.into_iter();
        counts.map(|one| one.join().expect("no error")).collect()
    });
    let mut client = connect(address);
    let mut answers = BufReader::new(client.try_clone().expect("a duplicate"));
    for (number, count) in counts.iter().enumerate() {
        write!(client, "GET count{number}\r\n").expect("it is there");
        let (mut head, mut line) = (String::new(), String::new());
        answers.read_line(&mut head).expect("an answer");
        answers.read_line(&mut line).expect("an answer");
        assert_eq!(line.trim(), count.to_string(), "what client {number} wrote");
    }
    assert_unlocked(&victim);
    client
        .write_all(b"SHUTDOWN NOSAVE\r\n")
        .expect("it is there");
    victim.reap();
}

/// Bytes of the file that nginx serves.
const FILE: usize = 32 << 20;

fn byte_at(place: usize) -> u8 {
    (place.wrapping_mul(2_654_435_761) >> 13) as u8
}

/// Reads so many bytes of the file, from a place on.
fn expect_file(client: &mut TcpStream, from: usize, len: usize) {
    let mut buffer = vec![0; 64 << 10];
    let (mut at, end) = (from, from + len);
    while at < end {
        let most = buffer.len().min(end - at);
        let read = client.read(&mut buffer[..most]).expect("more of the file");
        assert!(read > 0, "it ends at {at}");
        for (place, byte) in buffer[..read].iter().enumerate() {
            assert_eq!(*byte, byte_at(at + place), "byte {}", at + place);
        }
        at += read;
    }
}

/// Asks for the file, and reads the head of the answer.
fn ask_for_file(client: &mut TcpStream) {
    client
        .write_all(b"GET /file HTTP/1.1\r\nHost: here\r\n\r\n")
        .expect("it is there");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[test]
fn nginx_in_the_middle_of_a_file() {
    if !possible("nginx") {
        return;
    }
    let address = own_address(1);
    let script = format!(
        r#"
folder=$(dirname "$1")
cd "$folder"
cat >conf <<END
daemon off; user root; worker_processes 2; pid $folder/pid; error_log $folder/errors;
events {{ worker_connections 64; }}
http {{
    access_log off; sendfile on; keepalive_timeout 600; send_timeout 600;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{ listen {address}; root $folder; }}
}}
END
echo READY
exec nginx -p "$folder" -c "$folder/conf"
"#
    );
    let mut victim = Program::script("bash", &script).start(&[]);
    let content: Vec<u8> = (0..FILE).map(byte_at).collect();
    std::fs::write(victim.folder().join("file"), content).expect("a file");
    let is_up = wait_until(|| TcpStream::connect(address).is_ok());
    assert!(is_up, "[{}]", victim.text());
    let mut clients: Vec<TcpStream> = (0..3).map(|_| connect(address)).collect();
    clients.iter_mut().for_each(ask_for_file);
    let part = FILE / 4;
    for (round, name) in ["first", "second"].into_iter().enumerate() {
        for client in &mut clients {
            expect_file(client, round * part, part);
        }
        move_away(&mut victim, name, &[]);
    }
    for client in &mut clients {
        expect_file(client, 2 * part, FILE - 2 * part);
        // The same connection serves on.
        ask_for_file(client);
        expect_file(client, 0, FILE);
    }
    assert_unlocked(&victim);
    let others = victim.descendants();
    victim.signal("QUIT");
    others.iter().for_each(|&pid| send("TERM", pid));
    victim.reap_with(&others);
}

/// A stream of which each word is known. `ORCHESTRATOR_STREAM_MIB` and `ORCHESTRATOR_STREAM_ROUNDS` have it be longer.
#[test]
fn a_stream_of_tcp() {
    let number = |name: &str, usual: usize| {
        let set = std::env::var(name).ok();
        set.and_then(|text| text.parse().ok()).unwrap_or(usual)
    };
    let mib = number("ORCHESTRATOR_STREAM_MIB", 128);
    let rounds = number("ORCHESTRATOR_STREAM_ROUNDS", 3);
    if !possible("cc") {
        return;
    }
    let Some(program) = Program::compile("stream", Link::Dynamic) else {
        return;
    };
    let address = own_address(2);
    let mut victim = program.start(&[&address.ip().to_string(), &mib.to_string()]);
    let mut client = connect(address);
    let mut word = 0_u64;
    let mut expect = |client: &mut TcpStream, words: usize| {
        let mut buffer = vec![0; 64 << 10];
        let mut left = words * 8;
        while left > 0 {
            let some = buffer.len().min(left);
            client.read_exact(&mut buffer[..some]).expect("more");
            for bytes in buffer[..some].chunks_exact(8) {
                let wanted = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let got = u64::from_ne_bytes(bytes.try_into().expect("8 bytes"));
                assert_eq!(got, wanted, "word {word}");
                word += 1;
            }
            left -= some;
        }
    };
    let words = (mib << 20) / 8;
    for round in 0..rounds {
        expect(&mut client, words / (rounds + 1));
        move_away(&mut victim, &format!("round-{round}"), &[]);
    }
    expect(&mut client, words - words / (rounds + 1) * rounds);
    client.write_all(b"y").expect("it is there");
    assert_unlocked(&victim);
    victim.check();
}

/// A server that answers, and closes what its clients have closed; its lines tell how many connections it has.
const ECHO: &str = r#"
import selectors, signal, socket, sys
out = open(sys.argv[1], "a", buffering=1)
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[2], int(sys.argv[3])))
s.listen(64)
s.setblocking(False)
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
        try:
            if key.fileobj is s:
                client, _ = s.accept()
                selector.register(client, selectors.EVENT_READ)
                continue
            data = key.fileobj.recv(1 << 16)
            if data:
                key.fileobj.sendall(data)
                continue
        except BlockingIOError:
            continue
        except OSError:
            pass
        selector.unregister(key.fileobj)
        key.fileobj.close()
out.write("PASS\n")
"#;

/// Clients come and go without pause while a server is dumped; one stays.
#[test]
fn a_flood_of_short_connections() {
    const MOST: usize = 3000;
    if !possible("python3") {
        return;
    }
    let address = own_address(3);
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let mut victim = Program::script("python3", ECHO).start(&[&ip, &port]);
    let descriptors = |victim: &Victim| {
        let all = std::fs::read_dir(format!("/proc/{}/fd", victim.pid));
        all.map_or(0, Iterator::count)
    };
    let before = descriptors(&victim);
    let mut stays = connect(address);
    let echo = |client: &mut TcpStream, words: &[u8]| {
        client.write_all(words).expect("it is there");
        let mut got = vec![0; words.len()];
        client.read_exact(&mut got).expect("an answer");
        assert_eq!(got, words);
    };
    echo(&mut stays, b"before");
    let (is_over, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    if count.fetch_add(1, Ordering::Relaxed) >= MOST {
                        break;
                    }
                    // It may be away.
                    match TcpStream::connect_timeout(&address, A_WHILE) {
                        Ok(client) => drop(client),
                        Err(_) => sleep(Duration::from_millis(5)),
                    }
                }
            });
        }
        for round in ["first", "second"] {
            sleep(A_WHILE);
            move_away(&mut victim, round, &["--skip-in-flight"]);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(count.into_inner() > 10, "nobody came");
    echo(&mut stays, b"after");
    echo(&mut connect(address), b"somebody new");
    let is_settled = wait_until(|| descriptors(&victim) <= before + 1);
    assert!(is_settled, "{} descriptors stay", descriptors(&victim));
    assert_unlocked(&victim);
    victim.check();
}
