//! TUN and TAP devices, by descriptors of `/dev/net/tun` (`include/uapi/linux/if_tun.h`).

use super::fd::owned;
use super::{Result, check};
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const TUNGETIFF: u64 = 0x8004_54d2;
const TUNGETFILTER: u64 = 0x8010_54db;
const SIOCGSKNS: u64 = 0x894c;
const NAME_LEN: usize = 16;

/// `struct ifreq`, as far as these requests use it; it has 40 bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Request {
    name: [u8; NAME_LEN],
    flags: u16,
    rest: [u8; 22],
}

const _: () = assert!(size_of::<Request>() == 40);

/// `struct sock_fprog`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Filter {
    len: u16,
    at: u64,
}

const _: () = assert!(size_of::<Filter>() == 16);

/// The device that a descriptor is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// Its name.
    pub name: Vec<u8>,
    /// `IFF_*`. `IFF_NO_PI` is set of any without a filter too, as `IFF_NOFILTER` has the same number.
    pub flags: u16,
}

/// Returns the device that a descriptor is attached to, if it is to one.
pub fn attached(tun: impl AsFd) -> Result<Option<Attached>> {
    let mut request = Request::default();
    let fd = tun.as_fd().as_raw_fd();
    // SAFETY: TUNGETIFF writes a `struct ifreq`, which is as long as `request`.
    let result = unsafe { libc::ioctl(fd, TUNGETIFF, &raw mut request) };
    match check("ioctl(TUNGETIFF)", result.into()) {
        Ok(_) => {
            let name = request.name.split(|&byte| byte == 0).next();
            Ok(Some(Attached {
                name: name.unwrap_or_default().to_vec(),
                flags: request.flags,
            }))
        }
        Err(error) if error.errno == Errno::EBADFD => Ok(None),
        Err(error) => Err(error),
    }
}

/// A question whose answer is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Ask {
    /// Bytes of the head before each packet (`TUNGETVNETHDRSZ`).
    VnetHeader = 0x8004_54d7,
    /// Bytes that may wait to be sent (`TUNGETSNDBUF`).
    SendBuffer = 0x8004_54d3,
}

/// Returns the answer of a descriptor that is attached.
pub fn ask(tun: impl AsFd, question: Ask) -> Result<i32> {
    let mut answer = 0i32;
    let fd = tun.as_fd().as_raw_fd();
    // SAFETY: both requests write one `int` through the pointer.
    let result = unsafe { libc::ioctl(fd, question as u64, &raw mut answer) };
    check("ioctl(TUNGET*)", result.into())?;
    Ok(answer)
}

/// Returns how many instructions the last filter has that a TAP device was given.
pub fn filter_len(tun: impl AsFd) -> Result<u16> {
    let mut filter = Filter::default();
    let fd = tun.as_fd().as_raw_fd();
    // SAFETY: TUNGETFILTER writes a `struct sock_fprog`, which is as long as `filter`.
    let result = unsafe { libc::ioctl(fd, TUNGETFILTER, &raw mut filter) };
    check("ioctl(TUNGETFILTER)", result.into())?;
    Ok(filter.len)
}

/// Returns the network namespace that a descriptor makes devices in, and finds them.
pub fn namespace(tun: impl AsFd) -> Result<OwnedFd> {
    // SAFETY: SIOCGSKNS takes no argument.
    let result = unsafe { libc::ioctl(tun.as_fd().as_raw_fd(), SIOCGSKNS) };
    owned("ioctl(SIOCGSKNS)", result.into())
}
