//! Dumps that are the source of their memory, and who restores from them: the two sides of a migration.

use crate::{Images, Victim, orchestrator, said, wait_until};
use std::io::Read as _;
use std::process::{Child, Command, Output, Stdio};

/// What restores in a process namespace of its own: there the ids are free that the source has still.
const ELSEWHERE: &str = r#"
"$BIN" lazy-pages -D "$IMAGES" --page-server "$@" --pause "$PAUSE" &
daemon=$!
while [ ! -S "$IMAGES/lazy-pages.socket" ]; do
    kill -0 $daemon || exit 2
    sleep 0.01
done
"$BIN" restore --lazy-pages -D "$IMAGES" -d --host-clocks || exit 3
if [ "$END" = kill ]; then
    kill -KILL $daemon
    while kill -0 "$VICTIM" 2>/dev/null; do sleep 0.01; done
    exit 0
fi
wait $daemon || exit 4
kill -USR1 "$VICTIM" || exit 5
while ! grep -q -e PASS -e FAIL "$OUTPUT"; do sleep 0.01; done
"#;

/// One of the machines: the network namespace, by its path, that commands run in, or the one of the test.
#[derive(Debug, Default)]
pub struct Place(pub Option<String>);

impl Place {
    /// Returns a command that runs there.
    pub fn command(&self, program: &str) -> Command {
        let mut command = match &self.0 {
            Some(path) => {
                let mut enter = Command::new("nsenter");
                enter.arg(format!("--net={path}")).arg(program);
                enter
            }
            None => Command::new(program),
        };
        command.stdin(Stdio::null());
        command
    }
}

/// A dump that leaves the memory where it is, and waits to be asked for it.
#[derive(Debug)]
pub struct Source {
    child: Child,
    /// How it is reached.
    reach: Vec<String>,
}

impl Source {
    /// Starts one that waits at a port of loopback.
    pub fn start(place: &Place, victim: &Victim, images: &Images, more: &[&str]) -> Source {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("its number").port().to_string();
        drop(free);
        let reach = ["--address", "127.0.0.1", "--port", &port];
        Source::start_at(place, victim, images, (&reach, more))
    }

    /// Starts one that waits where the words say, and waits until it can be asked.
    pub fn start_at(
        place: &Place,
        victim: &Victim,
        images: &Images,
        (reach, more): (&[&str], &[&str]),
    ) -> Source {
        let mut child = place
            .command(orchestrator().to_str().expect("UTF-8"))
            .args(["dump", &victim.pid.to_string(), "-D"])
            .arg(&images.0)
            .args(["--lazy-pages", "--status-fd", "1"])
            .args(reach)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the orchestrator can be started");
        let mut word = [1];
        let out = child.stdout.as_mut().expect("it is piped");
        let told = out.read(&mut word).expect("a word");
        let mut errors = String::new();
        if (told, word) != (1, [0]) {
            let said = child.stderr.as_mut().expect("it is piped");
            let _ = said.read_to_string(&mut errors);
        }
        assert_eq!((told, word), (1, [0]), "not ready, it says [{errors}]");
        let reach = reach.iter().map(ToString::to_string).collect();
        Source { child, reach }
    }

    /// Returns the options by which it is reached.
    pub fn reach(&self) -> Vec<&str> {
        self.reach.iter().map(String::as_str).collect()
    }

    /// Restores from it with more options of the daemon's.
    pub fn restore_with(
        &mut self,
        place: &Place,
        victim: &Victim,
        images: &Images,
        more: &[&str],
    ) -> Output {
        self.reach.extend(more.iter().map(ToString::to_string));
        self.restore(place, victim, images, ("check", "0"))
    }

    /// Restores from it, and does with it what `end` says; returns how that went.
    pub fn restore(
        &self,
        place: &Place,
        victim: &Victim,
        images: &Images,
        (end, pause): (&str, &str),
    ) -> Output {
        let alone = ["--pid", "--fork", "--kill-child", "--mount-proc"];
        place
            .command("unshare")
            .args(alone)
            .args(["bash", "-c", ELSEWHERE, "bash"])
            .args(&self.reach)
            .env("BIN", orchestrator())
            .env("IMAGES", &images.0)
            .env("PAUSE", pause)
            .env("END", end)
            .env("VICTIM", victim.pid.to_string())
            .env("OUTPUT", victim.folder().join("output"))
            .output()
            .expect("unshare can be started")
    }

    /// Requires that the restored victim has found all as it was, and that the dump has ended well.
    pub fn assert_passed(&mut self, restored: &Output, victim: &Victim) {
        assert!(restored.status.success(), "{}", said(restored));
        let verdict = victim.verdict();
        assert_eq!(verdict.as_deref(), Some("PASS"), "{}", victim.text());
        assert_eq!(self.status(), Some(0));
    }

    /// Waits for its end, and returns its status.
    pub fn status(&mut self) -> Option<i32> {
        let ended = wait_until(|| !matches!(self.child.try_wait(), Ok(None)));
        assert!(ended, "the dump does not end");
        self.child.wait().expect("its status").code()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
