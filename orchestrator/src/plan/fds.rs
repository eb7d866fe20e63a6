//! A simulated descriptor table: which number the kernel will give next.
//!
//! The kernel gives the lowest free number (`alloc_fd`, `fs/file.c`). Simulating that lets every operation that makes a
//! descriptor say which number it must return, and later operations use plain numbers.

use std::collections::BTreeSet;

/// Descriptors in use at one point of a program.
#[derive(Debug, Default, Clone)]
pub struct FdTable {
    used: BTreeSet<i32>,
    /// No number below it is free.
    full_below: i32,
}

impl FdTable {
    /// Takes the number that the kernel would give for a new descriptor at or above `lowest`.
    pub fn take_from(&mut self, lowest: i32) -> i32 {
        let mut fd = lowest.max(self.full_below);
        for &used in self.used.range(fd..) {
            if used != fd {
                break;
            }
            fd += 1;
        }
        self.take(fd);
        if lowest <= self.full_below {
            self.full_below = fd + 1;
        }
        fd
    }

    /// Takes the lowest free number.
    pub fn take_lowest(&mut self) -> i32 {
        self.take_from(0)
    }

    /// Takes a given number.
    pub fn take(&mut self, fd: i32) {
        self.used.insert(fd);
    }

    /// Gives a number back.
    pub fn release(&mut self, fd: i32) {
        assert!(self.used.remove(&fd), "descriptor {fd} is closed once");
        self.full_below = self.full_below.min(fd);
    }

    /// Returns whether a number is in use.
    pub fn is_used(&self, fd: i32) -> bool {
        self.used.contains(&fd)
    }

    /// Returns the numbers in use, ascending.
    pub fn iter(&self) -> impl Iterator<Item = i32> + '_ {
        self.used.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_as_the_kernel_gives_them() {
        let mut fds = FdTable::default();
        fds.take(2);
        assert_eq!(fds.take_lowest(), 0);
        assert_eq!(fds.take_lowest(), 1);
        assert_eq!(fds.take_lowest(), 3);
        assert_eq!(fds.take_from(100), 100);
        assert_eq!(fds.take_from(100), 101);
        fds.release(1);
        assert_eq!(fds.take_lowest(), 1);
        assert_eq!(fds.take_lowest(), 4);
        assert_eq!(fds.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 100, 101]);
    }

    #[test]
    #[should_panic(expected = "closed once")]
    fn closing_twice_is_a_bug() {
        let mut fds = FdTable::default();
        let fd = fds.take_lowest();
        fds.release(fd);
        fds.release(fd);
    }
}
