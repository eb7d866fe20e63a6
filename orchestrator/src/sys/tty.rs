//! Terminals: what they are set to.

use super::{Result, check};
use std::os::fd::{AsFd, AsRawFd};

/// `TCGETS2`, `TIOCGWINSZ`, `TIOCGEXCL` (`include/uapi/asm-generic/ioctls.h`).
const TCGETS2: u64 = 0x802c_542a;
const TIOCGWINSZ: u64 = 0x5413;
const TIOCGEXCL: u64 = 0x8004_5440;
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

/// Returns whether a terminal can be opened by nobody else (`TIOCEXCL`).
pub fn is_exclusive(terminal: impl AsFd) -> Result<bool> {
    let mut exclusive = 0i32;
    let fd = terminal.as_fd().as_raw_fd();
    // SAFETY: TIOCGEXCL writes one `int` through the pointer to `exclusive`.
    let result = unsafe { libc::ioctl(fd, TIOCGEXCL, &raw mut exclusive) };
    check("ioctl(TIOCGEXCL)", result.into())?;
    Ok(exclusive != 0)
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
        assert_eq!(is_exclusive(&master), Ok(false));
        assert!(window(std::fs::File::open("/dev/null").expect("open")).is_err());
    }
}
