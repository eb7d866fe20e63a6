//! Reading the kernel's text formats: lines, and the numbers and words in a line.

use super::{Error, Result};

/// Most bytes of a line that an error shows.
const SHOWN: usize = 60;

/// One line being read, from left to right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    file: &'static str,
    number: usize,
    rest: &'a [u8],
}

/// Returns the lines of a file, without the newlines; the end of the last is no line.
pub(super) fn lines<'a>(file: &'static str, bytes: &'a [u8]) -> impl Iterator<Item = Line<'a>> {
    bytes
        .split_inclusive(|&byte| byte == b'\n')
        .enumerate()
        .map(move |(index, line)| Line {
            file,
            number: index + 1,
            rest: line.strip_suffix(b"\n").unwrap_or(line),
        })
}

/// Returns the only line of a file.
pub(super) fn only_line<'a>(file: &'static str, bytes: &'a [u8]) -> Line<'a> {
    Line::new(file, 1, bytes.strip_suffix(b"\n").unwrap_or(bytes))
}

impl<'a> Line<'a> {
    /// Returns line `number` of `file`.
    pub(super) fn new(file: &'static str, number: usize, rest: &'a [u8]) -> Self {
        Self { file, number, rest }
    }

    /// Returns what is still to be read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Returns the error that `expected` is not what comes next.
    pub(super) fn error(&self, expected: &'static str) -> Error {
        let shown = &self.rest[..self.rest.len().min(SHOWN)];
        Error::Unexpected {
            file: self.file,
            line: self.number,
            expected,
            found: String::from_utf8_lossy(shown).into_owned(),
        }
    }

    /// Passes over blanks.
    pub(super) fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    /// Passes over `literal` if it comes next, and returns whether it did.
    pub(super) fn skip(&mut self, literal: &[u8]) -> bool {
        match self.rest.strip_prefix(literal) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Passes over `literal`, which must come next.
    pub(super) fn expect(&mut self, literal: &[u8], expected: &'static str) -> Result<()> {
        if self.skip(literal) {
            Ok(())
        } else {
            Err(self.error(expected))
        }
    }

    /// Returns what stands before the next `end` and passes over both.
    pub(super) fn until(&mut self, end: u8, expected: &'static str) -> Result<&'a [u8]> {
        let at = self.rest.iter().position(|&byte| byte == end);
        let at = at.ok_or_else(|| self.error(expected))?;
        let (word, rest) = self.rest.split_at(at);
        self.rest = &rest[1..];
        Ok(word)
    }

    /// Returns the next word, with no blanks in it; empty at the end of the line.
    pub(super) fn word(&mut self) -> &'a [u8] {
        self.skip_blanks();
        let end = self.rest.iter().position(u8::is_ascii_whitespace);
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        word
    }

    /// Reads the next number in base `radix` (at most 16), after blanks.
    fn digits(&mut self, radix: u64, expected: &'static str) -> Result<u64> {
        self.skip_blanks();
        let mut value = 0u64;
        let mut len = 0;
        while let Some(digit) = self.rest.get(len).and_then(|&byte| digit(byte))
            && digit < radix
        {
            let next = value.checked_mul(radix).and_then(|v| v.checked_add(digit));
            value = next.ok_or_else(|| self.error(expected))?;
            len += 1;
        }
        if len == 0 {
            return Err(self.error(expected));
        }
        self.rest = &self.rest[len..];
        Ok(value)
    }

    /// Reads a hexadecimal number, with or without `0x`.
    pub(super) fn hex(&mut self, expected: &'static str) -> Result<u64> {
        self.skip_blanks();
        self.skip(b"0x");
        self.digits(16, expected)
    }

    /// Reads a hexadecimal number that is at most a `u32`.
    pub(super) fn hex32(&mut self, expected: &'static str) -> Result<u32> {
        let at_start = *self;
        let value = self.hex(expected)?;
        value.try_into().map_err(|_| at_start.error(expected))
    }

    /// Reads an octal number that is at most a `u32`.
    pub(super) fn octal(&mut self, expected: &'static str) -> Result<u32> {
        let at_start = *self;
        let value = self.digits(8, expected)?;
        value.try_into().map_err(|_| at_start.error(expected))
    }

    /// Reads a decimal number, negative if the type can be.
    pub(super) fn number<T: TryFrom<i128>>(&mut self, expected: &'static str) -> Result<T> {
        let at_start = *self;
        self.skip_blanks();
        let negative = self.skip(b"-");
        let value = i128::from(self.digits(10, expected)?);
        let value = if negative { -value } else { value };
        T::try_from(value).map_err(|_| at_start.error(expected))
    }

    /// Reads all decimal numbers to the end of the line.
    pub(super) fn numbers<T: TryFrom<i128>>(&mut self, expected: &'static str) -> Result<Vec<T>> {
        let mut numbers = Vec::new();
        while !self.rest.trim_ascii_start().is_empty() {
            numbers.push(self.number(expected)?);
        }
        Ok(numbers)
    }

    /// Checks that nothing is left.
    pub(super) fn end(&self, expected: &'static str) -> Result<()> {
        if self.rest.trim_ascii().is_empty() {
            Ok(())
        } else {
            Err(self.error(expected))
        }
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

/// Undoes the escapes of `mangle_path` (`fs/seq_file.c`): a backslash and three octal digits.
pub(super) fn unescape(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line<'_> {
        Line::new("test", 3, text.as_bytes())
    }

    #[test]
    fn numbers_keep_to_their_types() {
        assert_eq!(line(" 42 x").number::<u8>("n").ok(), Some(42));
        assert_eq!(line("-42").number::<i32>("n").ok(), Some(-42));
        assert!(line("-1").number::<u64>("n").is_err());
        assert!(line("256").number::<u8>("n").is_err());
        assert_eq!(
            line("18446744073709551615").number::<u64>("n").ok(),
            Some(u64::MAX)
        );
        assert!(line("18446744073709551616").number::<u64>("n").is_err());
        assert_eq!(line("0xfF").hex("n").ok(), Some(255));
        assert_eq!(line("0778").octal("n").ok(), Some(0o77));
        assert!(line("").hex("n").is_err());
    }

    #[test]
    fn errors_name_file_line_and_what_was_expected() {
        let error = line("  abc").number::<i32>("a pid").expect_err("letters");
        assert_eq!(
            error.to_string(),
            "test, line 3: expected a pid, found \"abc\""
        );
    }

    #[test]
    fn escapes_are_undone_and_lone_backslashes_kept() {
        assert_eq!(unescape(br"a\040b\012\134c"), b"a b\n\\c");
        assert_eq!(unescape(br"a\04"), br"a\04");
        assert_eq!(unescape(br"\x\\"), br"\x\\");
    }
}
