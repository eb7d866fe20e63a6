//! Victims: compiling, starting, asking and, always, ending them.

use crate::{PATIENCE, field, skip, wait_until};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// Starts a command without the descriptors that the test inherited: a pipe of whoever runs the tests would be refused.
const ALONE: &str = r#"
for path in /proc/$$/fd/*; do
    fd=${path##*/}
    [ "$fd" -le 2 ] || eval "exec $fd>&-"
done
exec setsid "$@"
"#;

/// How a victim is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Against shared libraries.
    Dynamic,
    /// Without any.
    Static,
}

/// Something to run as a victim: a command and its folder, which goes when this goes.
#[derive(Debug)]
pub struct Program {
    command: Vec<String>,
    folder: TempDir,
}

impl Program {
    /// Compiles `victims/NAME.c` into a folder of its own. `None`, said as skipped, where it cannot be.
    pub fn compile(name: &str, link: Link) -> Option<Program> {
        let folder = TempDir::new().expect("a temporary folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("victims/{name}.c"));
        let binary = folder.path().join(name);
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-g", "-pthread", "-o"])
            .arg(&binary)
            .arg(&source);
        if link == Link::Static {
            cc.arg("-static");
        }
        let Ok(output) = cc.output() else {
            skip("no cc");
            return None;
        };
        let words = String::from_utf8_lossy(&output.stderr);
        if link == Link::Static && words.contains("cannot find -lc") {
            skip("no static libc");
            return None;
        }
        assert!(output.status.success(), "cc {name}.c: {words}");
        let command = vec![binary.to_str().expect("UTF-8").to_string()];
        Some(Program { command, folder })
    }

    /// Compiles `victims/NAME.rs`, which needs the standard library only, into a folder of its own.
    pub fn rust(name: &str) -> Program {
        let folder = TempDir::new().expect("a temporary folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("victims/{name}.rs"));
        let binary = folder.path().join(name);
        let output = Command::new("rustc")
            .args(["--edition", "2024", "-O", "-o"])
            .arg(&binary)
            .arg(&source)
            .output()
            .expect("rustc can be started");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rustc {name}.rs: {words}");
        let command = vec![binary.to_str().expect("UTF-8").to_string()];
        Program { command, folder }
    }

    /// Takes a script for an interpreter; the script finds its output in its first argument.
    pub fn script(interpreter: &str, text: &str) -> Program {
        let folder = TempDir::new().expect("a temporary folder");
        let script = folder.path().join("script");
        std::fs::write(&script, text).expect("the script can be written");
        let script = script.to_str().expect("UTF-8").to_string();
        Program {
            command: vec![interpreter.to_string(), script],
            folder,
        }
    }

    /// Starts it and waits until it is ready; `args` follow the name of its output.
    pub fn start(self, args: &[&str]) -> Victim {
        self.start_with(args, Stdio::null())
    }

    /// Starts it with another standard input than /dev/null.
    pub fn start_with(self, args: &[&str], stdin: Stdio) -> Victim {
        let output = self.folder.path().join("output");
        let log = File::create(&output).expect("the output can be made");
        // The shell becomes `setsid`, and that the victim: it forks only where it leads a group already.
        let child = Command::new("bash")
            .args(["-c", ALONE, "bash"])
            .args(&self.command)
            .arg(&output)
            .args(args)
            .stdin(stdin)
            .stdout(log.try_clone().expect("a duplicate"))
            .stderr(log)
            .spawn()
            .expect("bash can be started");
        let victim = Victim {
            pid: child.id(),
            child: Some(child),
            output,
            program: self,
        };
        let ready = wait_until(|| {
            victim.text().lines().any(|line| line == "READY") || victim.verdict().is_some()
        });
        assert!(ready, "not ready after {PATIENCE:?}: [{}]", victim.text());
        assert_eq!(victim.verdict(), None, "the victim cannot be set up");
        victim
    }
}

/// A running victim. Killed when it goes.
#[derive(Debug)]
pub struct Victim {
    /// Its process id, which a restore keeps.
    pub pid: u32,
    /// Our child, until it has been dumped away: a restored one is the child of somebody else.
    pub child: Option<Child>,
    output: PathBuf,
    program: Program,
}

impl Victim {
    /// Returns the folder of everything that belongs to it.
    pub fn folder(&self) -> &Path {
        self.program.folder.path()
    }

    /// Returns what it has written.
    pub fn text(&self) -> String {
        std::fs::read(&self.output)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Returns the line that ends its output, if it has come to one.
    pub fn verdict(&self) -> Option<String> {
        let text = self.text();
        text.lines()
            .find(|line| *line == "PASS" || line.starts_with("FAIL"))
            .map(str::to_string)
    }

    /// Returns the one letter of its state, `None` where there is no such process.
    pub fn state(&self) -> Option<char> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        field(&status, "State:")?.chars().next()
    }

    /// Returns whether it lives: there is such a process, it is this victim, and it is no zombie.
    pub fn lives(&self) -> bool {
        self.state()
            .is_some_and(|state| !matches!(state, 'Z' | 'X'))
            && self.is_ours()
    }

    /// Waits until its id is free, as a dump that kills promises: we collect our child, somebody else a restored one.
    pub fn reap(&mut self) {
        let gone = wait_until(|| match &mut self.child {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => !Path::new(&format!("/proc/{}", self.pid)).exists(),
        });
        assert!(gone, "it is not gone: state {:?}", self.state());
        self.child = None;
    }

    /// Returns the processes below it.
    pub fn descendants(&self) -> Vec<u32> {
        let mut all = vec![self.pid];
        let mut next = 0;
        while let Some(pid) = all.get(next).copied() {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
            for task in tasks.into_iter().flatten().flatten() {
                let children = std::fs::read_to_string(task.path().join("children"));
                let children = children.unwrap_or_default();
                all.extend(children.split_whitespace().flat_map(str::parse::<u32>));
            }
            next += 1;
        }
        all.split_off(1)
    }

    /// Waits until it and all these are gone.
    pub fn reap_with(&mut self, others: &[u32]) {
        self.reap();
        let is_gone = |pid: &u32| !Path::new(&format!("/proc/{pid}")).exists();
        let gone = wait_until(|| others.iter().all(is_gone));
        assert!(gone, "one of {others:?} is not gone");
    }

    /// Kills it and all these.
    pub fn kill_with(&mut self, others: &[u32]) {
        self.descendants().iter().for_each(|&pid| send("KILL", pid));
        self.kill();
        self.reap_with(others);
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.reap();
    }

    /// Asks it to check itself; panics unless it writes PASS and ends.
    pub fn check(&self) {
        assert!(self.lives(), "it is gone; it wrote [{}]", self.tail());
        self.signal("USR1");
        let heard = wait_until(|| self.verdict().is_some() || !self.lives());
        let verdict = self.verdict();
        assert!(
            heard,
            "no answer after {PATIENCE:?}, {}: [{}]",
            self.whereabouts(),
            self.tail()
        );
        assert_eq!(
            verdict.as_deref(),
            Some("PASS"),
            "it wrote [{}], state {:?}",
            self.tail(),
            self.state()
        );
    }

    /// Asserts that it lives; says how it ended otherwise.
    pub fn assert_lives(&mut self) {
        if !self.lives() {
            let status = self.child.as_mut().map(Child::wait);
            panic!("it died: {status:?}; it wrote [{}]", self.tail());
        }
    }

    /// Asserts that nothing holds it: no tracer, not stopped.
    pub fn assert_free(&self) {
        let free = wait_until(|| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid));
            status.is_ok_and(|status| field(&status, "TracerPid:") == Some("0"))
                && !matches!(self.state(), Some('T' | 't'))
        });
        assert!(
            free,
            "it is traced, stopped or gone: state {:?}",
            self.state()
        );
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        if self.is_ours() {
            send(name, self.pid);
        }
    }

    /// Its id may be another's by now: only a process that has our output open is the victim.
    fn is_ours(&self) -> bool {
        if self.child.is_some() {
            return true;
        }
        let Ok(descriptors) = std::fs::read_dir(format!("/proc/{}/fd", self.pid)) else {
            return false;
        };
        descriptors
            .flatten()
            .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|path| path == self.output))
    }

    /// What the kernel tells of one that does not answer.
    fn whereabouts(&self) -> String {
        let read = |name| std::fs::read_to_string(format!("/proc/{}/{name}", self.pid));
        let status = read("status").unwrap_or_default();
        let words = ["State:", "TracerPid:", "SigPnd:", "ShdPnd:", "SigBlk:"];
        let words = words.map(|name| format!("{name} {}", field(&status, name).unwrap_or("?")));
        let call = read("syscall").unwrap_or_default();
        let channel = read("wchan").unwrap_or_default();
        format!("{}, in {channel}: {}", words.join(", "), call.trim())
    }

    fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join(" | ")
    }

    /// Runs its program once more to do something for a test; returns whether that went well.
    pub fn helper(&self, what: &str, args: &[&str]) -> bool {
        let mut command = Command::new(&self.program.command[0]);
        let status = command.arg(what).args(args).status();
        status.is_ok_and(|status| status.success())
    }

    /// Undoes what outlives a process that was killed: its child, its semaphores, its shared memory, its message queues.
    fn clean(&self) {
        let text = self.text();
        for id in text
            .lines()
            .filter_map(|line| line.strip_prefix("segment "))
        {
            let _ = Command::new("ipcrm")
                .args(["-m", id])
                .stderr(Stdio::null())
                .status();
        }
        if let Some(id) = field(&text, "semaphores ") {
            let _ = Command::new("ipcrm")
                .args(["-s", id])
                .stderr(Stdio::null())
                .status();
        }
        let queues = text.lines().filter_map(|line| line.strip_prefix("queue "));
        let queues: Vec<&str> = queues.collect();
        if !queues.is_empty() {
            let _ = self.helper("remove", &queues);
        }
        if let Some(child) = field(&text, "child ").and_then(|id| id.parse().ok())
            && std::fs::read_link(format!("/proc/{child}/exe"))
                .is_ok_and(|exe| exe.starts_with(self.folder()))
        {
            send("KILL", child);
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if self.is_ours() {
            self.descendants().iter().for_each(|&pid| send("KILL", pid));
        }
        self.signal("KILL");
        if let Some(child) = &mut self.child {
            // Already reaped is as good.
            let _ = child.wait();
        }
        self.clean();
    }
}

/// Sends a process a signal by name.
pub fn send(name: &str, pid: u32) {
    let _ = Command::new("kill")
        .args(["-s", name, "--", &pid.to_string()])
        .stderr(Stdio::null())
        .status();
}
