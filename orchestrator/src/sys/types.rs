//! Numbers of the kernel that must not be mistaken for each other or for our own.

use std::fmt;

/// A process, by the number it has in the orchestrator's own pid namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub i32);

/// A thread, by the number it has in the orchestrator's own pid namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(pub i32);

/// An address in another process. Nothing here dereferences it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RemoteAddr(pub u64);

/// A descriptor of another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteFd(pub i32);

impl Pid {
    /// Returns the calling process.
    pub fn this() -> Self {
        Self(nix::unistd::getpid().as_raw())
    }

    /// Returns the thread that leads this process.
    pub fn leader(self) -> Tid {
        Tid(self.0)
    }
}

impl Tid {
    /// Returns the calling thread.
    pub fn this() -> Self {
        Self(nix::unistd::gettid().as_raw())
    }
}

impl RemoteAddr {
    /// Returns the address `bytes` further on, or `None` past the end of the address space.
    pub fn checked_add(self, bytes: u64) -> Option<Self> {
        self.0.checked_add(bytes).map(Self)
    }

    /// Returns how many bytes this address lies after `start`, or `None` where it lies before.
    pub fn offset_from(self, start: Self) -> Option<u64> {
        self.0.checked_sub(start.0)
    }

    /// Returns the nearest multiple of `align`, a power of two, that is not above.
    pub fn align_down(self, align: u64) -> Self {
        assert!(
            align.is_power_of_two(),
            "alignment {align} is no power of two"
        );
        Self(self.0 & !(align - 1))
    }

    /// Returns the nearest multiple of `align`, a power of two, that is not below; `None` past the end.
    pub fn align_up(self, align: u64) -> Option<Self> {
        let end = self.0.checked_add(align - 1)?;
        Some(Self(end).align_down(align))
    }

    /// Returns whether the address is a multiple of `align`, a power of two.
    pub fn is_aligned(self, align: u64) -> bool {
        self.align_down(align) == self
    }
}

impl std::ops::Add<u64> for RemoteAddr {
    type Output = Self;

    /// # Panics
    /// Past the end of the address space: only for offsets that were checked before.
    fn add(self, bytes: u64) -> Self {
        self.checked_add(bytes).expect("remote address overflows")
    }
}

impl fmt::Display for RemoteAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::LowerHex for RemoteAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

macro_rules! display_number {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )*};
}

display_number!(Pid Tid RemoteFd);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_align_both_ways() {
        let addr = RemoteAddr(0x1001);
        assert_eq!(addr.align_down(0x1000), RemoteAddr(0x1000));
        assert_eq!(addr.align_up(0x1000), Some(RemoteAddr(0x2000)));
        assert_eq!(
            RemoteAddr(0x1000).align_up(0x1000),
            Some(RemoteAddr(0x1000))
        );
        assert_eq!(RemoteAddr(u64::MAX).align_up(0x1000), None);
        assert!(!addr.is_aligned(2));
    }

    #[test]
    fn addresses_print_as_hexadecimal() {
        assert_eq!(RemoteAddr(0x7f00).to_string(), "0x7f00");
        assert_eq!((RemoteAddr(1) + 2).to_string(), "0x3");
    }
}
