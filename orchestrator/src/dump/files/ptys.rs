//! What waits in pseudo-terminals: read, and put back at once.
//!
//! Nothing can be looked at in a terminal without being taken out. So each pair is read empty while the tree stands still
//! and nobody refuses any more, and gets all of it back before anything else is done ([`refill`]): what becomes of the dump
//! later, the target has what it had. Pairs in which nothing waits are not written to.

use super::FileTable;
use crate::dump::Error;
use crate::objects::tty::refill::{self, Pair, Side, Step, TCOON};
use crate::snapshot::terminal::{KIND_PTY, slave_device};
use crate::snapshot::*;
use crate::sys::{self, poll, tty};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// More than a terminal gives by one read (`N_TTY_BUF_SIZE`).
const READ: usize = 8192;
/// `TIOCPKT_DATA`.
const DATA: u8 = 0;

/// Both sides of a pseudo-terminal, to read and write them.
#[derive(Debug)]
struct Ends {
    master: OwnedFd,
    slave: OwnedFd,
}

/// What was found in one.
#[derive(Debug, Default)]
struct Content {
    input: Vec<Waiting>,
    output: Vec<Waiting>,
    flow: [Flow; 2],
    packet_status: u8,
}

impl Content {
    fn is_plain(&self) -> bool {
        let is_empty = self.input.is_empty() && self.output.is_empty();
        is_empty && self.flow == [Flow::Running; 2] && self.packet_status == 0
    }
}

impl FileTable {
    /// Reads what waits in the pseudo-terminals that are inside, and leaves it in them.
    ///
    /// # Errors
    /// One cannot be read or written.
    pub fn read_terminals(&mut self) -> Result<(), Error> {
        let masters: Vec<u32> = self.masters().collect();
        for index in masters {
            let side = |device: u32| {
                // Not /dev/tty, which leads to it too: what waits is told of the slave itself.
                let is_it = |info: &TerminalInfo| {
                    let is_slave = info.kind == KIND_PTY && !info.is_master();
                    is_slave && info.terminal() == device && !info.is_hung_up()
                };
                self.terminals.iter().position(is_it)
            };
            let slave = side(slave_device(index));
            let is_it = |info: &TerminalInfo| info.is_master() && info.index == Some(index);
            let Some(master) = self.terminals.iter().position(is_it) else {
                continue;
            };
            // One that nobody has opened is not opened now: the master would see that it was closed again.
            if self.terminals[master].is_unopened {
                continue;
            }
            let info = &self.terminals[master];
            let content = read_pair(info, self.found_terminals[master].own.as_fd())?;
            self.keep(master, slave, content);
        }
        Ok(())
    }

    /// Gives each side what waits on it. A slave that nobody has open any more gets a record for that alone.
    fn keep(&mut self, master: usize, slave: Option<usize>, content: Content) {
        let info = &mut self.terminals[master];
        info.waiting = content.output;
        info.flow = content.flow[0];
        info.packet_status = content.packet_status;
        if content.input.is_empty() && content.flow[1] == Flow::Running {
            return;
        }
        let at = slave.unwrap_or_else(|| {
            let master = &self.terminals[master];
            let index = master.index.unwrap_or(0);
            let info = TerminalInfo {
                id: 2 * index,
                rdev: slave_device(index),
                locked: false,
                packet_mode: false,
                packet_status: 0,
                waiting: Vec::new(),
                flow: Flow::Running,
                ..master.clone()
            };
            self.terminals.push(info);
            self.terminals.len() - 1
        });
        self.terminals[at].waiting = content.input;
        self.terminals[at].flow = content.flow[1];
    }
}

/// Reads one pair, and puts back what it was.
fn read_pair(info: &TerminalInfo, master: BorrowedFd<'_>) -> Result<Content, Error> {
    let Some(termios) = &info.termios else {
        return Ok(Content::default());
    };
    let ends = Ends {
        slave: open_slave(info, master)?,
        master: master.try_clone_to_owned().map_err(Error::Terminal)?,
    };
    let settings = tty::Settings::from(termios);
    let locked = info.termios_locked.as_ref().map(tty::Settings::from);
    if locked.is_some() {
        tty::lock_settings(&ends.master, &tty::Settings::default()).map_err(Error::Own)?;
    }
    let read = ends.read(info, termios);
    let put_back = match &read {
        Ok(content) if content.is_plain() => tty::set_settings(&ends.master, &settings)
            .map_err(Error::Own)
            .and_then(|()| {
                let on = info.packet_mode;
                tty::switch(&ends.master, tty::Switch::Packet, on).map_err(Error::Own)
            }),
        Ok(content) => ends.refill(&Pair {
            input: &content.input,
            output: &content.output,
            flow: content.flow,
            termios,
            packet_mode: info.packet_mode,
            packet_status: content.packet_status,
        }),
        Err(_) => tty::set_settings(&ends.master, &settings).map_err(Error::Own),
    };
    if let Some(locked) = locked {
        tty::lock_settings(&ends.master, &locked).map_err(Error::Own)?;
    }
    put_back?;
    read
}

/// Opens the slave, though it may be locked: a description of the target's may be for writing only.
fn open_slave(info: &TerminalInfo, master: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
    let lock = |on| tty::switch(master, tty::Switch::Lock, on).map_err(Error::Own);
    if info.locked {
        lock(false)?;
    }
    let opened = tty::open_slave(master).map_err(Error::Own);
    if info.locked {
        lock(true)?;
    }
    opened
}

impl Ends {
    fn read(&self, info: &TerminalInfo, termios: &Termios) -> Result<Content, Error> {
        let mut content = Content::default();
        if info.packet_mode {
            content.packet_status = self.read_status()?;
            tty::switch(&self.master, tty::Switch::Packet, false).map_err(Error::Own)?;
        }
        // What is not yet through the line discipline comes through as it is read.
        self.set(&refill::quiet(termios))?;
        if refill::is_by_line(termios) {
            while let Some(bytes) = self.read_once(&self.slave)? {
                content.input.push(refill::line(bytes, termios));
            }
            self.set(&refill::unlined(termios))?;
        }
        add(&mut content.input, self.read_all(&self.slave)?);
        add(&mut content.output, self.read_all(&self.master)?);
        content.flow = [self.flow_of(&self.master)?, self.flow_of(&self.slave)?];
        Ok(content)
    }

    fn set(&self, termios: &Termios) -> Result<(), Error> {
        tty::set_settings(&self.master, &termios.into()).map_err(Error::Own)
    }

    /// Reads the news of packet mode, if there are any.
    fn read_status(&self) -> Result<u8, Error> {
        if !has(&self.master, libc::POLLPRI)? {
            return Ok(DATA);
        }
        let bytes = self.read_once(&self.master)?.unwrap_or_default();
        Ok(bytes.first().copied().unwrap_or(DATA))
    }

    fn read_all(&self, side: &OwnedFd) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        while let Some(bytes) = self.read_once(side)? {
            if bytes.is_empty() {
                break;
            }
            all.extend(bytes);
        }
        Ok(all)
    }

    /// Reads once, if something is there: nobody else reads, so it does not wait.
    fn read_once(&self, side: &OwnedFd) -> Result<Option<Vec<u8>>, Error> {
        if !has(side, libc::POLLIN)? {
            return Ok(None);
        }
        let mut bytes = vec![0; READ];
        let file = std::fs::File::from(side.try_clone().map_err(Error::Terminal)?);
        let len = (&file).read(&mut bytes).map_err(Error::Terminal)?;
        bytes.truncate(len);
        Ok(Some(bytes))
    }

    /// Returns whether a side sends, now that there is room for it; one that TCXONC starts was stopped by that.
    fn flow_of(&self, side: &OwnedFd) -> Result<Flow, Error> {
        if has(side, libc::POLLOUT)? {
            return Ok(Flow::Running);
        }
        tty::flow(side, TCOON).map_err(Error::Own)?;
        Ok(match has(side, libc::POLLOUT)? {
            true => Flow::Held,
            false => Flow::Stopped,
        })
    }

    fn refill(&self, pair: &Pair<'_>) -> Result<(), Error> {
        refill::steps(pair)
            .iter()
            .try_for_each(|step| self.take(step))
    }

    fn take(&self, step: &Step) -> Result<(), Error> {
        let side = |side: Side| match side {
            Side::Master => &self.master,
            Side::Slave => &self.slave,
        };
        match step {
            Step::Settings(termios) => self.set(termios),
            Step::Write(to, bytes) => {
                let file = std::fs::File::from(side(*to).try_clone().map_err(Error::Terminal)?);
                write_all(&file, bytes)
            }
            Step::Flow(of, action) => tty::flow(side(*of), *action).map_err(Error::Own),
            Step::Packet(on) => {
                tty::switch(&self.master, tty::Switch::Packet, *on).map_err(Error::Own)
            }
            Step::Await => wait(self.master.as_fd(), libc::POLLPRI | libc::POLLIN),
        }
    }
}

/// Writes all, by way of a description that may be one that does not wait.
fn write_all(mut file: &std::fs::File, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(len) => bytes = &bytes[len..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                wait(file.as_fd(), libc::POLLOUT)?;
            }
            Err(error) => return Err(Error::Terminal(error)),
        }
    }
    Ok(())
}

/// Waits for the line discipline, which works in a thread of the kernel's.
fn wait(fd: BorrowedFd<'_>, event: i16) -> Result<(), Error> {
    const PATIENCE_MS: i32 = 10_000;
    let ready = poll::poll_for(fd, event, PATIENCE_MS).map_err(Error::Own)?;
    match ready & event {
        0 => Err(Error::Terminal(std::io::ErrorKind::TimedOut.into())),
        _ => Ok(()),
    }
}

fn has(fd: &OwnedFd, event: i16) -> Result<bool, Error> {
    let ready: Result<i16, sys::Error> = poll::poll_now(fd.as_fd(), event);
    Ok(ready.map_err(Error::Own)? & event != 0)
}

fn add(waiting: &mut Vec<Waiting>, bytes: Vec<u8>) {
    if !bytes.is_empty() {
        let end = LineEnd::Open;
        waiting.push(Waiting { bytes, end });
    }
}
