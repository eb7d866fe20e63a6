//! PostgreSQL: a postmaster and its helpers with a segment of System V, shared anonymous and POSIX memory, semaphores in it,
//! latches and a Unix socket. After each dump and restore a client reads back what was written before.

use integration_tests::{
    Images, Program, Victim, present, root, run, said, skip, steadily, wait_until,
};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Rows that each client adds.
const ROWS: usize = 1000;

/// It refuses to run as root.
const SERVER: &str = r#"
folder=$(dirname "$1")
bin=$2
addresses=$3
as="setpriv --reuid=nobody --regid=nogroup --clear-groups"
chmod 755 "$folder"
mkdir "$folder/data" "$folder/socket"
chown nobody:nogroup "$folder/data" "$folder/socket"
cd "$folder/socket"
if ! $as "$bin/initdb" -D "$folder/data" -A trust -U nobody --no-sync -E UTF8 --locale=C >"$folder/initdb" 2>&1; then
    echo "FAIL: initdb: $(tail -n 3 "$folder/initdb")"
    exit 1
fi
echo READY
exec $as "$bin/postgres" -D "$folder/data" -c listen_addresses="$addresses" -c unix_socket_directories="$folder/socket" -c fsync=off
"#;

/// Returns the folder of the server's programs: the newest version that Debian's packages have installed.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let folders = versions.flatten().map(|version| version.path().join("bin"));
    folders.filter(|bin| bin.join("initdb").exists()).max()
}

/// Has a client send these words, and returns the lines that it got; what went wrong otherwise.
fn ask(bin: &Path, victim: &Victim, words: &str) -> Result<Vec<String>, String> {
    let output = Command::new(bin.join("psql"))
        .args([
            "-U",
            "nobody",
            "-d",
            "postgres",
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
        ])
        .arg("-h")
        .arg(victim.folder().join("socket"))
        .args(["-c", words])
        .env("PGCONNECT_TIMEOUT", "20")
        .current_dir("/")
        .output()
        .expect("psql can be started");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    match output.status.success() {
        true => Ok(said(&output.stdout).lines().map(str::to_string).collect()),
        false => Err(said(&output.stderr)),
    }
}

/// Asks until there is an answer: a server that has just begun takes no client yet.
fn begin(bin: &Path, victim: &mut Victim) {
    let mut answer = Err(String::new());
    let began = wait_until(|| {
        answer = ask(
            bin,
            victim,
            "create table kept (number int primary key, word text)",
        );
        answer.is_ok() || !victim.lives()
    });
    assert!(began && answer.is_ok(), "{answer:?}: {}", victim.text());
    note_segment(victim);
}

/// Writes the id of the server's segment to its output, so that it goes with the victim.
fn note_segment(victim: &Victim) {
    let file = std::fs::read_to_string(victim.folder().join("data/postmaster.pid"));
    let file = file.expect("the server's lock file");
    let id = file.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        (words.len() == 2).then(|| words[1].to_string())
    });
    let output = std::fs::OpenOptions::new()
        .append(true)
        .open(victim.folder().join("output"));
    let id = id.expect("the id of its segment");
    writeln!(output.expect("its output"), "segment {id}").expect("written");
}

/// Has clients look at all rows, by the table and by its index, and add some; `before` rows are there.
fn serves(bin: &Path, victim: &Victim, before: usize) {
    let after = before + ROWS;
    let look = "select count(*), coalesce(sum(hashtext(word)), 0) from kept where word = md5(number::text)";
    let wanted = |rows: usize| {
        format!(
            "select {rows}, coalesce(sum(hashtext(md5(n::text))), 0) from generate_series(1, {rows}) n"
        )
    };
    let add = format!(
        "insert into kept select n, md5(n::text) from generate_series({}, {after}) n",
        before + 1
    );
    let words = format!(
        "{look}; {}; {add}; {look}; {}; select word = md5('{after}') from kept where number = {after}",
        wanted(before),
        wanted(after)
    );
    let heard = ask(bin, victim, &words);
    let heard = heard.unwrap_or_else(|error| panic!("{error}: {}", victim.text()));
    assert_eq!(heard.len(), 5, "{heard:?}");
    assert_eq!(heard[0], heard[1], "what was written before");
    assert_eq!(heard[2], heard[3], "what was written now");
    assert_eq!(heard[4], "t", "the index");
}

/// Ends the server as an administrator would, which takes all that it shares away.
fn stop(victim: &mut Victim) {
    let others = victim.descendants();
    victim.signal("INT");
    victim.reap_with(&others);
    assert!(
        victim.text().contains("database system is shut down"),
        "{}",
        victim.text()
    );
}

/// Starts a client, with a session of its own, that does what it is told.
fn client(bin: &Path, address: &str) -> std::process::Child {
    Command::new(bin.join("psql"))
        .args(["-U", "nobody", "-d", "postgres", "-XAtq"])
        .args(["-v", "ON_ERROR_STOP=1", "-h", address])
        .env("PGCONNECT_TIMEOUT", "20")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("psql can be started")
}

/// A client in the middle of a transaction goes on with it, over TCP.
#[test]
fn a_transaction_goes_on() {
    if !root() || !present("setpriv") {
        return;
    }
    let Some(bin) = programs() else {
        return skip("no postgresql");
    };
    if !run(&["check", "--feature", "network_lock_nftables"])
        .status
        .success()
    {
        return skip("no nftables");
    }
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let address = format!("127.119.{high}.{low}");
    let path = bin.to_str().expect("UTF-8");
    let mut victim = Program::script("bash", SERVER).start(&[path, &address]);
    begin(&bin, &mut victim);
    let mut client = client(&bin, &address);
    let mut words = client.stdin.take().expect("piped");
    let mut answers = BufReader::new(client.stdout.take().expect("piped"));
    let mut heard = |wanted: &str| {
        let mut line = String::new();
        answers.read_line(&mut line).expect("an answer");
        assert_eq!(line.trim(), wanted);
    };
    let mut say = |text: &str| writeln!(words, "{text}").expect("it is there");
    say(
        "begin; insert into kept select n, md5(n::text) from generate_series(1, 100) n; select count(*) from kept;",
    );
    heard("100");
    for round in ["first", "second"] {
        let images = Images::new(&victim, round);
        images.dump(victim.pid, &["--tcp-established"]);
        let set = orchestrator::image::read(&images.0).expect("images");
        let pids: Vec<u32> = set
            .snapshot
            .tasks
            .iter()
            .map(|task| task.pid as u32)
            .collect();
        victim.reap_with(&pids);
        let output = images.try_restore(&["-d", "--tcp-established"]);
        assert!(output.status.success(), "{}", said(&output));
        say(
            "insert into kept select max(number) + 1, 'more' from kept; select count(*) from kept;",
        );
        heard(if round == "first" { "101" } else { "102" });
    }
    // Nobody else sees it before its end.
    let others = ask(&bin, &victim, "select count(*) from kept").expect("an answer");
    assert_eq!(others, ["0"]);
    say("commit; select count(*) from kept;");
    heard("102");
    let others = ask(&bin, &victim, "select count(*) from kept").expect("an answer");
    assert_eq!(others, ["102"]);
    drop(words);
    assert!(client.wait().expect("its end").success());
    stop(&mut victim);
}

#[test]
fn a_database_serves_on() {
    if !root() || !present("setpriv") {
        return;
    }
    let Some(bin) = programs() else {
        return skip("no postgresql");
    };
    steadily(|| {
        let path = bin.to_str().expect("UTF-8");
        let mut victim = Program::script("bash", SERVER).start(&[path]);
        begin(&bin, &mut victim);
        serves(&bin, &victim, 0);
        let running = Images::new(&victim, "running");
        running.dump(victim.pid, &["--leave-running"]);
        serves(&bin, &victim, ROWS);
        for cycle in 2..5 {
            let images = Images::new(&victim, &format!("cycle-{cycle}"));
            images.dump(victim.pid, &[]);
            let set = orchestrator::image::read(&images.0).expect("images");
            let tasks = set.snapshot.tasks.iter();
            let pids: Vec<u32> = tasks.map(|task| task.pid as u32).collect();
            assert!(pids.len() > 4, "not all of its processes: {pids:?}");
            victim.reap_with(&pids);
            images.restore();
            serves(&bin, &victim, cycle * ROWS);
        }
        stop(&mut victim);
    });
}
