//! Questions for the parasite: a batch of system calls whose arguments may be buffers of the batch, and the answers.
//!
//! A question that fails is an answer too (`Err(errno)`): kernels differ in what they can be asked.

use arch::abi::program::{ArgKind, Check, Op};

/// An argument of a question.
#[derive(Debug, Clone, Copy)]
pub enum Arg {
    /// A number.
    Value(u64),
    /// The address of a buffer of this batch.
    Buffer(Buffer),
    /// The answer to an earlier question.
    Answer(Asked),
}

impl From<u64> for Arg {
    fn from(value: u64) -> Self {
        Arg::Value(value)
    }
}

impl From<Buffer> for Arg {
    fn from(buffer: Buffer) -> Self {
        Arg::Buffer(buffer)
    }
}

/// A piece of memory that a question reads or fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    offset: usize,
    len: usize,
}

/// A question, to look its answer up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked(usize);

/// A batch of questions.
#[derive(Debug, Clone, Default)]
pub struct Questions {
    ops: Vec<Op>,
    relocations: Vec<(usize, usize, u64)>,
    bytes: Vec<u8>,
}

impl Questions {
    /// Returns a buffer of `len` zero bytes, aligned to 8.
    pub fn space(&mut self, len: usize) -> Buffer {
        let offset = self.bytes.len().next_multiple_of(8);
        self.bytes.resize(offset + len, 0);
        Buffer { offset, len }
    }

    /// Returns a buffer that holds these bytes, aligned to 8.
    pub fn with(&mut self, bytes: &[u8]) -> Buffer {
        let buffer = self.space(bytes.len());
        self.bytes[buffer.offset..][..bytes.len()].copy_from_slice(bytes);
        buffer
    }

    /// Asks by system call `nr`; missing arguments are 0.
    pub fn ask<const N: usize>(&mut self, nr: u32, args: [Arg; N]) -> Asked {
        let mut op = Op::call(nr, [0; 6]).check(Check::Ignore, 0);
        let index = self.ops.len();
        for (at, arg) in args.into_iter().enumerate() {
            match arg {
                Arg::Value(value) => op.args[at] = value,
                Arg::Buffer(buffer) => self.relocations.push((index, at, buffer.offset as u64)),
                Arg::Answer(asked) => {
                    op.args[at] = asked.0 as u64;
                    op = op.arg(at, ArgKind::Result);
                }
            }
        }
        self.ops.push(op);
        Asked(index)
    }

    /// Returns the operations for a batch whose buffers begin at address `base` of the target.
    pub fn place(&self, base: u64) -> Vec<Op> {
        let mut ops = self.ops.clone();
        for &(op, arg, offset) in &self.relocations {
            ops[op].args[arg] = base + offset;
        }
        ops
    }

    /// Returns the number of questions.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Returns whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Adds an operation as it is, with buffers as arguments where `places` says.
    pub fn add(&mut self, op: Op, places: &[(usize, Buffer)]) -> Asked {
        let index = self.ops.len();
        self.ops.push(op);
        self.relocations.extend(
            places
                .iter()
                .map(|(arg, buffer)| (index, *arg, buffer.offset as u64)),
        );
        Asked(index)
    }

    /// Returns the buffers as they are before the batch runs.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Answers to a batch.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// Raw results, one for each question.
    pub results: Vec<i64>,
    /// The buffers after the batch ran.
    pub bytes: Vec<u8>,
}

impl Answers {
    /// Returns the result of a question.
    ///
    /// # Errors
    /// The errno with which it failed.
    pub fn result(&self, asked: Asked) -> Result<u64, i32> {
        match self.results[asked.0] {
            error @ -4095..=-1 => Err(-error as i32),
            value => Ok(value as u64),
        }
    }

    /// Returns a buffer.
    pub fn buffer(&self, buffer: Buffer) -> &[u8] {
        &self.bytes[buffer.offset..buffer.offset + buffer.len]
    }

    /// Returns the number of pages or bytes a question answered, 0 where it failed.
    pub fn count(&self, asked: Asked) -> u64 {
        self.result(asked).unwrap_or(0)
    }

    /// Returns a buffer if the question that fills it succeeded.
    pub fn filled(&self, asked: Asked, buffer: Buffer) -> Option<&[u8]> {
        self.result(asked).ok().map(|_| self.buffer(buffer))
    }
}

/// Returns the little-endian `u64` at a byte offset.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Returns the little-endian `u32` at a byte offset.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_placed_where_the_target_has_them() {
        let mut questions = Questions::default();
        questions.space(3);
        let path = questions.with(b"/x\0");
        let first = questions.ask(1, [path.into(), Arg::Value(7)]);
        questions.ask(2, [Arg::Answer(first)]);
        let ops = questions.place(0x7000);
        assert_eq!(ops[0].args[..2], [0x7008, 7]);
        assert_eq!(ops[1].arg_kind(0), ArgKind::Result);
        assert_eq!(&questions.bytes()[8..11], b"/x\0");
    }
}
