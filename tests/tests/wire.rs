//! Pages and images that travel: to a page server over loopback, and whole sets through one pipe.

use integration_tests::victim::Link;
use integration_tests::{
    Images, Program, Server, Victim, assert_refused, orchestrator, root, run, said, steadily,
    wait_until,
};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// Time for a victim to get on with what it does: its threads come back to what they wait for.
const A_WHILE: std::time::Duration = std::time::Duration::from_millis(400);

fn start(name: &str) -> Option<Victim> {
    if !root() {
        return None;
    }
    Some(Program::compile(name, Link::Dynamic)?.start(&[]))
}

fn names(images: &Images, prefix: &str) -> usize {
    let entries = std::fs::read_dir(&images.0).expect("the folder").flatten();
    let names = entries.map(|entry| entry.file_name().into_string().expect("UTF-8"));
    names.filter(|name| name.starts_with(prefix)).count()
}

fn is_empty(images: &Images) -> bool {
    std::fs::read_dir(&images.0).expect("the folder").count() == 0
}

/// Pages at the server and records at the client are one set.
fn by_page_server(name: &'static str) {
    steadily(|| {
        let Some(mut victim) = start(name) else {
            return;
        };
        let (here, there) = (Images::new(&victim, "here"), Images::new(&victim, "there"));
        let server = Server::start(&there.0, &[]);
        let others = victim.descendants();
        here.dump(victim.pid, &server.options());
        let (done, words) = server.end();
        assert!(done, "{words}");
        victim.reap_with(&others);
        assert_eq!((names(&here, "pages-"), names(&here, "pagemap-")), (0, 0));
        here.carry_over(&there);
        there.restore();
        std::thread::sleep(A_WHILE);
        victim.check();
    });
}

#[test]
fn a_process_goes_by_page_server() {
    by_page_server("maps");
}

#[test]
fn a_tree_goes_by_page_server() {
    by_page_server("sessions");
}

#[test]
fn shared_memory_and_threads_go_by_page_server() {
    by_page_server("threads");
}

/// Both write to one folder, as a server on the same machine may.
#[test]
fn client_and_server_share_a_folder() {
    steadily(|| {
        let Some(mut victim) = start("counter") else {
            return;
        };
        let images = Images::new(&victim, "images");
        // An older set, which the new one replaces.
        images.dump(victim.pid, &["--leave-running"]);
        let server = Server::start(&images.0, &[]);
        images.dump(victim.pid, &server.options());
        let (done, words) = server.end();
        assert!(done, "{words}");
        assert_eq!(
            (names(&images, "pages-"), names(&images, "pagemap-")),
            (1, 1)
        );
        victim.reap();
        images.restore();
        std::thread::sleep(A_WHILE);
        victim.check();
    });
}

#[test]
fn without_a_server_the_target_is_untouched() {
    let Some(victim) = start("counter") else {
        return;
    };
    let images = Images::new(&victim, "images");
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener
            .local_addr()
            .expect("an address")
            .port()
            .to_string()
    };
    let output = images.try_dump(victim.pid, &["--page-server", "--port", &port]);
    assert_refused(&output, &["page server", "refused", "untouched"]);
    assert!(is_empty(&images));
    let output = images.try_dump(victim.pid, &["--page-server"]);
    assert_refused(&output, &["--port"]);
    victim.assert_free();
    victim.check();
}

/// What a client sends is checked, the error tells what, and nothing is left.
#[test]
fn hostile_clients_are_refused() {
    let request = |command: u16, flags: u16, pages: u64, address: u64, holder: u64| {
        let mut bytes = Vec::new();
        bytes.extend(command.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend([0; 4]);
        [pages, address, holder]
            .iter()
            .for_each(|word| bytes.extend(word.to_le_bytes()));
        bytes
    };
    let open = request(4, 0, 0, 0, 0x701);
    let page = [request(6, 4, 1, 0x2000, 0x701), vec![1; 4096]].concat();
    let twice = [open.clone(), page.clone(), page.clone()].concat();
    let cases: [(&str, Vec<u8>); 8] = [
        ("not known", request(99, 0, 0, 0, 0x701)),
        ("not known", request(4, 0, 0, 0, 0x7ff)),
        ("opened", page.clone()),
        ("overlap", twice),
        (
            "cannot be",
            [open.clone(), request(6, 4, u64::MAX, 0x1000, 0x701)].concat(),
        ),
        (
            "cannot be",
            [open.clone(), request(6, 4, 1, 0x1001, 0x701)].concat(),
        ),
        (
            "parent image set",
            [open.clone(), request(2, 0, 1, 0x1000, 0x701)].concat(),
        ),
        ("gone", [open, page[..3000].to_vec()].concat()),
    ];
    for (word, bytes) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Server::start(folder.path(), &[]);
        let mut client = server.client();
        // It may be gone before all is sent.
        let _ = client.write_all(&bytes);
        let _ = client.shutdown(std::net::Shutdown::Write);
        let (done, words) = server.end();
        assert!(!done && words.contains(word), "{word:?} wanted: {words}");
        assert_eq!(words.lines().count(), 1, "{words}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 0);
    }
}

/// The reason of the server is the dump's.
#[test]
fn a_full_disk_of_the_server_is_told_to_the_client() {
    let Some(victim) = start("maps") else {
        return;
    };
    let (here, there) = (Images::new(&victim, "here"), Images::new(&victim, "there"));
    let Some(_small) = Small::mount(&there.0) else {
        return;
    };
    let server = Server::start(&there.0, &[]);
    let output = here.try_dump(victim.pid, &server.options());
    assert_refused(&output, &["No space left", "put back"]);
    let (done, words) = server.end();
    assert!(!done && words.contains("No space left"), "{words}");
    assert!(is_empty(&here) && is_empty(&there));
    victim.assert_free();
    victim.check();
}

/// A file system with little room, unmounted when it goes.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(dir: &'a Path) -> Option<Self> {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "none"])
            .arg(dir)
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            integration_tests::skip("cannot mount");
            return None;
        }
        Some(Small(dir))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

/// SIGKILL of the server in the middle: the target runs on.
#[test]
fn a_server_that_is_killed_fails_the_dump() {
    let Some(victim) = start("maps") else {
        return;
    };
    let (here, there) = (Images::new(&victim, "here"), Images::new(&victim, "there"));
    let mut server = Server::start(&there.0, &[]);
    // A connection that is taken and never read: the dump waits for its first answer.
    stop(server.child.id());
    let dumping = spawn_dump(&victim, &here, &server.options());
    let connected = wait_until(|| has_connection(&server.port));
    server.child.kill().expect("killed");
    let _ = server.child.wait();
    assert!(connected, "the dump does not connect");
    let output = dumping.wait_with_output().expect("its output");
    assert_refused(&output, &["page server", "untouched"]);
    assert!(is_empty(&here));
    victim.assert_free();
    victim.check();
}

fn stop(pid: u32) {
    let status = Command::new("kill")
        .args(["-STOP", &pid.to_string()])
        .status();
    assert!(status.is_ok_and(|status| status.success()));
}

/// Returns whether somebody is connected to a port of this machine.
fn has_connection(port: &str) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let port = format!(":{:04X} 01 ", port.parse::<u16>().expect("a port"));
    table.contains(&port)
}

fn spawn_dump(victim: &Victim, images: &Images, more: &[&str]) -> Child {
    Command::new(orchestrator())
        .args(["dump", &victim.pid.to_string(), "-D"])
        .arg(&images.0)
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the dump can be started")
}

/// SIGKILL of the client in the middle: the server says so, ends, and leaves nothing.
#[test]
fn a_client_that_is_killed_fails_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let script = "exec 3<>/dev/tcp/127.0.0.1/$0; head -c 20 /dev/zero >&3; sleep 1000";
    let mut client = Command::new("bash")
        .args(["-c", script, &server.port])
        .spawn()
        .expect("bash can be started");
    assert!(wait_until(|| has_connection(&server.port)));
    client.kill().expect("killed");
    let _ = client.wait();
    let _ = Command::new("true").status();
    let (done, words) = server.end();
    assert!(!done && words.contains("gone"), "{words}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("folder").count(), 0);
}

/// It goes on in the background, and tells when it is ready and under which id.
#[test]
fn a_server_in_the_background_tells_when_it_is_ready() {
    let Some(mut victim) = start("counter") else {
        return;
    };
    let (here, there) = (Images::new(&victim, "here"), Images::new(&victim, "there"));
    let dir = there.0.to_str().expect("UTF-8");
    let work = victim.folder().to_str().expect("UTF-8").to_string();
    let args = [
        "--daemon",
        "--pidfile",
        "ps.pid",
        "--port",
        "0",
        "--address",
        "127.0.0.1",
    ];
    let output = run(&[&["page-server", "-D", dir, "-W", &work], &args[..]].concat());
    assert!(output.status.success(), "{}", said(&output));
    let line = String::from_utf8_lossy(&output.stdout).trim().to_string();
    let port = line.rsplit(':').next().expect("a port");
    let pid = std::fs::read_to_string(victim.folder().join("ps.pid")).expect("a pid file");
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    here.dump(
        victim.pid,
        &["--page-server", "--address", "127.0.0.1", "--port", port],
    );
    victim.reap();
    assert!(wait_until(|| !Path::new(&format!("/proc/{pid}")).exists()));
    here.carry_over(&there);
    there.restore();
    victim.check();
}

/// Dumps into a file of a stream.
fn dump_stream(victim: &Victim, more: &[&str]) -> (std::path::PathBuf, Output) {
    let path = victim.folder().join("stream");
    let output = Command::new(orchestrator())
        .args(["dump", &victim.pid.to_string(), "--stream"])
        .args(more)
        .current_dir(victim.folder())
        .stdin(Stdio::null())
        .stdout(File::create(&path).expect("a file"))
        .stderr(Stdio::piped())
        .output()
        .expect("the dump can be started");
    (path, output)
}

fn restore_stream(folder: &Path, stream: Stdio, more: &[&str]) -> Output {
    Command::new(orchestrator())
        .args(["restore", "--stream", "-d"])
        .args(more)
        .current_dir(folder)
        .stdin(stream)
        .output()
        .expect("the restore can be started")
}

fn through_a_stream(name: &'static str) {
    steadily(|| {
        let Some(mut victim) = start(name) else {
            return;
        };
        let others = victim.descendants();
        let (path, output) = dump_stream(&victim, &[]);
        assert!(output.status.success(), "{}", said(&output));
        victim.reap_with(&others);
        let stream = File::open(path).expect("the stream");
        let output = restore_stream(victim.folder(), stream.into(), &[]);
        assert!(output.status.success(), "{}", said(&output));
        std::thread::sleep(A_WHILE);
        victim.check();
    });
}

#[test]
fn a_process_goes_through_a_stream() {
    through_a_stream("maps");
}

#[test]
fn a_tree_goes_through_a_stream() {
    through_a_stream("tree");
}

#[test]
fn deleted_files_go_through_a_stream() {
    through_a_stream("ghosts");
}

/// Through a real pipe, from one command to the other.
#[test]
fn a_process_goes_from_command_to_command() {
    steadily(|| {
        let Some(mut victim) = start("counter") else {
            return;
        };
        let mut dump = Command::new(orchestrator())
            .args(["dump", &victim.pid.to_string(), "--stream"])
            .current_dir(victim.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the dump can be started");
        let pipe = dump.stdout.take().expect("piped");
        // The id has to be free before the restore takes it.
        let mut middle = Command::new("bash")
            .args(["-c", "cat >stream && cat stream"])
            .current_dir(victim.folder())
            .stdin(pipe)
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash can be started");
        let pipe = middle.stdout.take().expect("piped");
        assert!(dump.wait().expect("its status").success());
        victim.reap();
        let output = restore_stream(victim.folder(), pipe.into(), &[]);
        assert!(output.status.success(), "{}", said(&output));
        let _ = middle.wait();
        victim.check();
    });
}

/// A stream that is cut, or in which a bit is wrong, is refused, and leaves nothing.
#[test]
fn damaged_streams_are_refused() {
    let Some(victim) = start("counter") else {
        return;
    };
    let (path, output) = dump_stream(&victim, &["--leave-running"]);
    assert!(output.status.success(), "{}", said(&output));
    let whole = std::fs::read(path).expect("the stream");
    let empty = tempfile::tempdir().expect("a folder");
    let wrong = empty.path().join("wrong");
    let mut cases = Vec::new();
    for len in [0, 7, 30, whole.len() / 2, whole.len() - 24, whole.len() - 1] {
        cases.push((whole[..len].to_vec(), "before the image set is complete"));
    }
    for at in [0, 8, 70, whole.len() / 2, whole.len() - 20] {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        cases.push((bytes, "stream of images"));
    }
    for (bytes, word) in cases {
        std::fs::write(&wrong, bytes).expect("written");
        let stream = File::open(&wrong).expect("the stream");
        assert_refused(&restore_stream(empty.path(), stream.into(), &[]), &[word]);
    }
    assert_eq!(std::fs::read_dir(empty.path()).expect("folder").count(), 1);
    victim.check();
}

/// One who stops reading fails the dump, and the target runs on.
#[test]
fn a_reader_that_is_gone_fails_the_dump() {
    let Some(victim) = start("maps") else {
        return;
    };
    let mut dump = Command::new(orchestrator())
        .args(["dump", &victim.pid.to_string(), "--stream"])
        .current_dir(victim.folder())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the dump can be started");
    let mut pipe = dump.stdout.take().expect("piped");
    let mut first = [0; 100];
    pipe.read_exact(&mut first).expect("the first bytes");
    drop(pipe);
    let output = dump.wait_with_output().expect("its output");
    assert_refused(&output, &["stream of images", "runs on"]);
    victim.assert_free();
    victim.check();
}

fn packed(name: &'static str, options: &'static [&str]) {
    steadily(|| {
        let Some(mut victim) = start(name) else {
            return;
        };
        let images = Images::new(&victim, "images");
        let others = victim.descendants();
        images.dump(victim.pid, options);
        victim.reap_with(&others);
        images.restore();
        std::thread::sleep(A_WHILE);
        victim.check();
    });
}

#[test]
fn pages_are_compressed_by_lz4() {
    packed("maps", &["--compress", "lz4"]);
}

#[test]
fn pages_are_compressed_by_zstd() {
    packed("tree", &["--compress", "zstd:3"]);
}

#[test]
fn pages_have_checksums() {
    packed("threads", &["--checksum"]);
}

#[test]
fn a_compressed_set_goes_through_a_stream() {
    let Some(mut victim) = start("maps") else {
        return;
    };
    let (path, output) = dump_stream(&victim, &["--compress", "zstd"]);
    assert!(output.status.success(), "{}", said(&output));
    victim.reap();
    let stream = File::open(path).expect("the stream");
    let output = restore_stream(victim.folder(), stream.into(), &[]);
    assert!(output.status.success(), "{}", said(&output));
    victim.check();
}

/// Any bit of a page file that is wrong is found before anything is started, and one that is cut too.
#[test]
fn damaged_pages_are_refused() {
    let Some(victim) = start("counter") else {
        return;
    };
    for packing in [
        &["--checksum"][..],
        &["--compress", "lz4"],
        &["--compress", "zstd"],
    ] {
        let images = Images::new(&victim, packing.last().expect("one"));
        images.dump(victim.pid, &[&["--leave-running"], packing].concat());
        let file = images.0.join("pages-1.img");
        let whole = std::fs::read(&file).expect("pages");
        for at in [0, 4, 24, 40, whole.len() / 2, whole.len() - 1] {
            let mut wrong = whole.clone();
            wrong[at] ^= 1;
            std::fs::write(&file, wrong).expect("written");
            assert_refused(&images.try_restore(&["-d"]), &["pages-1.img", "batch"]);
        }
        std::fs::write(&file, &whole[..whole.len() - 1]).expect("written");
        assert_refused(&images.try_restore(&["-d"]), &["pages-1.img", "batch"]);
    }
    victim.check();
}

fn version(images: &Images) -> u8 {
    let inventory = std::fs::read(images.0.join("inventory.img")).expect("an inventory");
    // Magic, length, and the first field of the record: a 32-bit number, here its third byte.
    match inventory[8..] {
        [0x08, 0x02, ..] => 2,
        _ => 1,
    }
}

/// To what the peer knows, and to what is ours, and back.
#[test]
fn sets_are_converted() {
    steadily(|| {
        let Some(mut victim) = start("maps") else {
            return;
        };
        let [native, portable, packed] =
            ["native", "portable", "packed"].map(|name| Images::new(&victim, name));
        native.dump(victim.pid, &["--compress", "lz4"]);
        victim.reap();
        assert_eq!(version(&native), 1);
        let convert = |from: &Images, to: &Images, options: &[&str]| {
            let [from, to] = [from, to].map(|images| images.0.to_str().expect("UTF-8"));
            let output = run(&[&["convert", "-D", from, "-o", to], options].concat());
            assert!(output.status.success(), "{}", said(&output));
        };
        convert(&native, &portable, &["--portable"]);
        assert_eq!(version(&portable), 2);
        convert(&portable, &packed, &["--native", "--compress", "zstd"]);
        assert_eq!(version(&packed), 1);
        convert(&packed, &portable, &["--portable"]);
        portable.restore();
        victim.check();
    });
}

/// Pages that a child has in common with its parent are the child's own in a portable set.
#[test]
fn a_tree_is_converted() {
    steadily(|| {
        let Some(mut victim) = start("sessions") else {
            return;
        };
        let (native, portable) = (
            Images::new(&victim, "native"),
            Images::new(&victim, "portable"),
        );
        let others = victim.descendants();
        native.dump(victim.pid, &[]);
        victim.reap_with(&others);
        let [from, to] = [&native, &portable].map(|images| images.0.to_str().expect("UTF-8"));
        let output = run(&["convert", "-D", from, "-o", to, "--portable"]);
        assert!(output.status.success(), "{}", said(&output));
        assert_eq!((version(&native), version(&portable)), (1, 2));
        portable.restore();
        victim.check();
    });
}

/// Pages that a portable set has twice are shared again in a native one made of it: the victim looks whether they are.
#[test]
fn common_pages_are_found() {
    steadily(|| {
        let Some(mut victim) = start("tree") else {
            return;
        };
        let [portable, native, again] =
            ["portable", "native", "again"].map(|name| Images::new(&victim, name));
        let others = victim.descendants();
        portable.dump(victim.pid, &["--portable"]);
        victim.reap_with(&others);
        for (from, to, form) in [
            (&portable, &native, "--native"),
            (&native, &again, "--portable"),
        ] {
            let [from, to] = [from, to].map(|images| images.0.to_str().expect("UTF-8"));
            let output = run(&["convert", "-D", from, "-o", to, form]);
            assert!(output.status.success(), "{form}: {}", said(&output));
        }
        assert_eq!([&portable, &native, &again].map(version), [2, 1, 2]);
        native.restore();
        victim.check();
    });
}

#[test]
fn a_set_is_not_converted_onto_itself() {
    let Some(victim) = start("counter") else {
        return;
    };
    let images = Images::new(&victim, "images");
    images.dump(victim.pid, &["--leave-running"]);
    let dir = images.0.to_str().expect("UTF-8");
    let output = run(&["convert", "-D", dir, "-o", dir, "--portable"]);
    assert_refused(&output, &["another"]);
    let output = run(&["convert", "-D", dir, "-o", dir]);
    assert_refused(&output, &["--portable"]);
}
