//! Words for whoever called. Where nobody takes them, a closed pipe or a full disk, they are lost, and the work goes on: what a
//! command does must not depend on who listens.

use std::fmt::Display;
use std::io::{self, Write};

/// Writes a line to standard output.
pub fn line(words: impl Display) {
    let _ = writeln!(io::stdout(), "{words}");
}

/// Writes a line to standard error.
pub fn error(words: impl Display) {
    let _ = writeln!(io::stderr(), "{words}");
}

/// Returns the words with control characters spelled out: names of files may hold any.
pub fn printable(words: &str) -> String {
    let spell = |character: char| match character.is_control() {
        true => character.escape_default().collect(),
        false => character.to_string(),
    };
    words.chars().map(spell).collect()
}

/// A writer that takes everything.
#[derive(Debug)]
pub struct Willing<W>(pub W);

impl<W: Write> Write for Willing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(
            printable("new\nline \u{1b}[1m ä"),
            "new\\nline \\u{1b}[1m ä"
        );
    }
}
