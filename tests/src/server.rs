//! Page servers of tests.

use crate::{orchestrator, wait_until};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A page server on this machine. Killed when it goes.
#[derive(Debug)]
pub struct Server {
    /// Its process.
    pub child: Child,
    said: BufReader<ChildStdout>,
    /// Where it waits.
    pub port: String,
}

impl Server {
    /// Starts one that stores in a folder, and waits until clients can come.
    pub fn start(dir: &Path, more: &[&str]) -> Server {
        let mut child = Command::new(orchestrator())
            .args(["page-server", "--address", "127.0.0.1", "--port", "0", "-D"])
            .arg(dir)
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server can be started");
        let mut said = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("its line");
        let port = line.trim().rsplit(':').next().expect("a port").to_string();
        assert!(port.parse::<u16>().is_ok(), "no port in {line:?}");
        Server { child, said, port }
    }

    /// Returns the options of a dump that sends its pages there.
    pub fn options(&self) -> [&str; 5] {
        [
            "--page-server",
            "--address",
            "127.0.0.1",
            "--port",
            &self.port,
        ]
    }

    /// Connects to it.
    pub fn client(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port.parse().expect("a port"))).expect("connected")
    }

    /// Waits for its end, and returns whether it did well and what it said.
    pub fn end(mut self) -> (bool, String) {
        let ended = wait_until(|| !matches!(self.child.try_wait(), Ok(None)));
        assert!(ended, "the server goes on");
        let mut words = String::new();
        let _ = self.said.read_to_string(&mut words);
        let mut errors = self.child.stderr.take().expect("piped");
        let _ = errors.read_to_string(&mut words);
        let status = self.child.wait().expect("its status");
        (status.success(), words)
    }

    /// Waits for its end, which must be a good one.
    pub fn finish(self) {
        let (done, words) = self.end();
        assert!(done, "the server says [{words}]");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
