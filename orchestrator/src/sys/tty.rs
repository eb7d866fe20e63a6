//! Terminals: what they are set to, and what waits in them.

use super::fd::owned;
use super::{Result, check};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Numbers of `include/uapi/asm-generic/ioctls.h`.
const TCGETS2: u64 = 0x802c_542a;
const TCSETS2: u64 = 0x402c_542b;
const TIOCGWINSZ: u64 = 0x5413;
const TIOCGLCKTRMIOS: u64 = 0x5456;
const TIOCSLCKTRMIOS: u64 = 0x5457;
const TIOCGPTPEER: u64 = 0x5441;
const TCXONC: u64 = 0x540a;
/// `NCCS` of the kernel.
const CHARS: usize = 19;

/// `struct termios2`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// Input, output, control, local flags.
    pub flags: [u32; 4],
    /// Line discipline.
    pub line: u8,
    /// Control characters.
    pub chars: [u8; CHARS],
    /// Input and output speed.
    pub speed: [u32; 2],
}

const _: () = assert!(size_of::<Settings>() == 44);

/// Returns the settings of a terminal.
pub fn settings(terminal: impl AsFd) -> Result<Settings> {
    let mut settings = Settings::default();
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: TCGETS2 writes a `struct termios2` through the pointer, and `Settings` is one.
    let result = unsafe { libc::ioctl(fd, TCGETS2, &raw mut settings) };
    check("ioctl(TCGETS2)", result.into())?;
    Ok(settings)
}

/// Returns the size of a terminal's window: rows, columns, and pixels of both.
pub fn window(terminal: impl AsFd) -> Result<[u16; 4]> {
    let mut size = [0; 4];
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: TIOCGWINSZ writes a `struct winsize`, four `unsigned short`, through the pointer.
    let result = unsafe { libc::ioctl(fd, TIOCGWINSZ, size.as_mut_ptr()) };
    check("ioctl(TIOCGWINSZ)", result.into())?;
    Ok(size)
}

/// Sets a terminal. Of a master: its slave.
pub fn set_settings(terminal: impl AsFd, settings: &Settings) -> Result<()> {
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: TCSETS2 reads a `struct termios2` through the pointer, and `Settings` is one.
    let result = unsafe { libc::ioctl(fd, TCSETS2, &raw const *settings) };
    check("ioctl(TCSETS2)", result.into()).map(drop)
}

/// Returns which bits of the settings may not be changed.
pub fn locked_settings(terminal: impl AsFd) -> Result<Settings> {
    let mut settings = Settings::default();
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: TIOCGLCKTRMIOS writes a `struct termios`, which is what `Settings` begins with.
    let result = unsafe { libc::ioctl(fd, TIOCGLCKTRMIOS, &raw mut settings) };
    check("ioctl(TIOCGLCKTRMIOS)", result.into())?;
    Ok(settings)
}

/// Says which bits of the settings may not be changed.
pub fn lock_settings(terminal: impl AsFd, settings: &Settings) -> Result<()> {
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: TIOCSLCKTRMIOS reads a `struct termios`, which is what `Settings` begins with.
    let result = unsafe { libc::ioctl(fd, TIOCSLCKTRMIOS, &raw const *settings) };
    check("ioctl(TIOCSLCKTRMIOS)", result.into()).map(drop)
}

/// A question whose answer is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Ask {
    /// Whether it can be opened by nobody else (`TIOCEXCL`).
    Exclusive = 0x8004_5440,
    /// Index of a master.
    Index = 0x8004_5430,
    /// Whether the slave of a master is locked.
    Locked = 0x8004_5439,
    /// Whether a master is in packet mode.
    Packet = 0x8004_5438,
    /// Device number of the terminal itself, whatever node was opened.
    Device = 0x8004_5432,
    /// Session that it controls.
    Session = 0x5429,
    /// Its foreground group.
    Foreground = 0x540f,
}

/// Returns the answer of a terminal.
pub fn ask(terminal: impl AsFd, question: Ask) -> Result<i32> {
    let mut answer = 0i32;
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: each of these requests writes one `int` through the pointer.
    let result = unsafe { libc::ioctl(fd, question as u64, &raw mut answer) };
    check("ioctl(TIOCG*)", result.into())?;
    Ok(answer)
}

/// What can be turned on and off of a master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Switch {
    /// `TIOCSPTLCK`.
    Lock = 0x4004_5431,
    /// `TIOCPKT`.
    Packet = 0x5420,
}

/// Turns something of a master on or off.
pub fn switch(master: impl AsFd, what: Switch, on: bool) -> Result<()> {
    let value = i32::from(on);
    let fd = master.as_fd().as_raw_fd();
    // SAFETY: both requests read one `int` through the pointer.
    let result = unsafe { libc::ioctl(fd, what as u64, &raw const value) };
    check("ioctl(TIOCSPTLCK, TIOCPKT)", result.into()).map(drop)
}

/// Stops or starts what a terminal sends (`TCOOFF`, `TCOON`).
pub fn flow(terminal: impl AsFd, action: u64) -> Result<()> {
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: TCXONC takes a number.
    let result = unsafe { libc::ioctl(fd, TCXONC, action) };
    check("ioctl(TCXONC)", result.into()).map(drop)
}

/// Opens the slave of a master, for reading and writing, without becoming its session (Linux 4.13).
pub fn open_slave(master: impl AsFd) -> Result<OwnedFd> {
    let flags = (libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) as u64;
    let fd = master.as_fd().as_raw_fd();
    // SAFETY: TIOCGPTPEER takes flags of `open`.
    let result = unsafe { libc::ioctl(fd, TIOCGPTPEER, flags) };
    owned("ioctl(TIOCGPTPEER)", result.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudo_terminal_tells_its_settings() {
        let opened = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/ptmx");
        let Ok(master) = opened else {
            return;
        };
        // ^C, 38400 baud, as every new one (`tty_std_termios`).
        let settings = settings(&master).expect("settings");
        assert_eq!((settings.chars[0], settings.speed[0]), (3, 38400));
        assert_eq!(window(&master), Ok([0; 4]));
        assert_eq!(ask(&master, Ask::Exclusive), Ok(0));
        set_settings(&master, &settings).expect("set");
        assert_eq!(
            locked_settings(&master).map(|locked| locked.flags),
            Ok([0; 4])
        );
        assert_eq!(ask(&master, Ask::Locked), Ok(1));
        switch(&master, Switch::Lock, false).expect("unlocked");
        let slave = open_slave(&master).expect("slave");
        assert_eq!(ask(&slave, Ask::Device), ask(&master, Ask::Device));
        assert!(window(std::fs::File::open("/dev/null").expect("open")).is_err());
    }
}
