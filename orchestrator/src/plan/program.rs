//! Building programs: operations with their objects, the data they point to, and the descriptors they make.

use arch::abi::program::{ARGS, Check, Op, special};

use super::arena::Arena;
use super::fds::FdTable;
use std::collections::BTreeMap;

/// The program of one thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// Thread that runs it; the number of the context is the program's place in [`super::Plan::programs`].
    pub tid: i32,
    /// Its operations; the last is a [`special::PARK`], or for those who end, a [`special::EXIT`].
    pub ops: Vec<Op>,
}

/// What an operation is for, in a form that costs nothing until somebody asks for the words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// An attribute of the task.
    Task(&'static str),
    /// An attribute of a thread.
    Thread(i32, &'static str),
    /// A descriptor, with what it refers to.
    Descriptor(i32, String),
    /// A memory area: start, end, kind.
    Area(u64, u64, &'static str),
    /// Anything else.
    Named(String),
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Task(what) => f.write_str(what),
            Self::Thread(tid, what) => write!(f, "thread {tid}: {what}"),
            Self::Descriptor(fd, what) => write!(f, "descriptor {fd}: {what}"),
            Self::Area(start, end, what) => write!(f, "VMA {start:x}-{end:x} {what}"),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Where the programs of a restore are made.
#[derive(Debug)]
pub struct Builder {
    /// Where the arena is.
    pub arena: Arena,
    /// Descriptors of the task at this point of its program.
    pub fds: FdTable,
    data: Vec<u8>,
    once: BTreeMap<Vec<u8>, u64>,
    objects: Vec<Object>,
    ops: Vec<Op>,
    programs: Vec<Program>,
}

/// What a [`Builder`] made.
#[derive(Debug, Default)]
pub struct Built {
    /// The programs, in the order in which they were finished.
    pub programs: Vec<Program>,
    /// Bytes of the data.
    pub data: Vec<u8>,
    /// Names of the objects by their numbers.
    pub objects: Vec<Object>,
}

impl Builder {
    /// Returns a builder for programs that live in `arena`.
    pub fn new(arena: Arena) -> Self {
        Self {
            arena,
            fds: FdTable::default(),
            data: Vec::new(),
            once: BTreeMap::new(),
            objects: vec![Object::Task("the restore itself")],
            ops: Vec::new(),
            programs: Vec::new(),
        }
    }

    /// Names the object that the operations from here on are for.
    pub fn object(&mut self, object: Object) {
        self.objects.push(object);
    }

    /// Adds a system call with immediate arguments that has to succeed; missing arguments are 0. Returns it, so that
    /// kinds and check can be changed.
    pub fn call(&mut self, nr: i64, args: &[u64]) -> &mut Op {
        self.push(Op::call(nr as u32, padded(args)))
    }

    /// Adds a system call that has to return exactly `expect`.
    pub fn call_returns(&mut self, nr: i64, args: &[u64], expect: i64) {
        self.push(Op::call(nr as u32, padded(args)).check(Check::Equal, expect));
    }

    /// Adds a system call whose failure with `errno` is as good as success.
    pub fn call_or(&mut self, nr: i64, args: &[u64], errno: i32) {
        self.push(Op::call(nr as u32, padded(args)).check(Check::SuccessOr, -i64::from(errno)));
    }

    /// Adds a special operation that has to succeed.
    pub fn special(&mut self, nr: u16, args: &[u64]) -> &mut Op {
        self.push(Op::special(nr, padded(args)))
    }

    /// Returns the number of the next operation in the program at hand.
    pub fn next_operation(&self) -> u64 {
        self.ops.len() as u64
    }

    /// Adds an operation for the current object.
    pub fn push(&mut self, op: Op) -> &mut Op {
        let at = self.ops.len();
        self.ops.push(op.object(self.objects.len() as u32 - 1));
        &mut self.ops[at]
    }

    /// Returns the index that the next operation gets.
    pub fn next_index(&self) -> usize {
        self.ops.len()
    }

    /// Returns an operation of another program as done for the current object.
    pub fn of_object(&self, op: Op) -> Op {
        op.object(self.objects.len() as u32 - 1)
    }

    /// Adds a whole program of another thread.
    pub fn push_program(&mut self, program: Program) {
        self.programs.push(program);
    }

    /// Adds a system call that makes a descriptor, and returns its number.
    pub fn open(&mut self, nr: i64, args: &[u64]) -> i32 {
        let fd = self.fds.take_lowest();
        self.call_returns(nr, args, i64::from(fd));
        fd
    }

    /// Adds an `openat` of an absolute path and returns the number of the new descriptor.
    pub fn open_path(&mut self, path: &[u8], flags: u32) -> i32 {
        let path = self.put_cstr(path);
        let at = libc::AT_FDCWD as u64;
        self.open(libc::SYS_openat, &[at, path, u64::from(flags), 0])
    }

    /// Adds the close of a descriptor.
    pub fn close(&mut self, fd: i32) {
        self.fds.release(fd);
        self.call_returns(libc::SYS_close, &[fd as u64], 0);
    }

    /// Adds a write of all of `bytes` to the file at `path`.
    pub fn write_file(&mut self, path: &[u8], bytes: &[u8]) {
        let fd = self.open_path(path, libc::O_WRONLY as u32);
        self.write_all(fd, bytes);
        self.close(fd);
    }

    /// Adds a write of all of `bytes` to a descriptor that takes them at once.
    pub fn write_all(&mut self, fd: i32, bytes: &[u8]) {
        let at = self.put(bytes);
        let len = bytes.len() as u64;
        self.call_returns(libc::SYS_write, &[fd as u64, at, len], len as i64);
    }

    /// Puts bytes into the data at a multiple of 8 and returns their address.
    pub fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.data.len().next_multiple_of(8);
        self.data.resize(at, 0);
        self.data.extend_from_slice(bytes);
        self.arena.data() + at as u64
    }

    /// Puts bytes that nobody changes into the data, unless the same were put before, and returns their address.
    pub fn put_once(&mut self, bytes: &[u8]) -> u64 {
        if let Some(&at) = self.once.get(bytes) {
            return at;
        }
        let at = self.put(bytes);
        self.once.insert(bytes.to_vec(), at);
        at
    }

    /// Puts a path or name, ended by a zero byte, into the data and returns its address.
    pub fn put_cstr(&mut self, bytes: &[u8]) -> u64 {
        let mut ended = bytes.to_vec();
        ended.push(0);
        self.put(&ended)
    }

    /// Puts 64-bit words into the data and returns their address.
    pub fn put_words(&mut self, words: &[u64]) -> u64 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.put(&bytes)
    }

    /// Ends the program at hand, which is thread `tid`'s, with a PARK.
    pub fn finish_program(&mut self, tid: i32) {
        self.object(Object::Thread(tid, "waiting for its registers"));
        self.special(special::PARK, &[]);
        let ops = std::mem::take(&mut self.ops);
        self.programs.push(Program { tid, ops });
    }

    /// Ends the program at hand, which is thread `tid`'s and ends by an operation that does not come back.
    pub fn finish_without_park(&mut self, tid: i32) {
        let ops = std::mem::take(&mut self.ops);
        self.programs.push(Program { tid, ops });
    }

    /// Returns all that was made.
    pub fn finish(self) -> Built {
        assert!(
            self.ops.is_empty(),
            "every program was ended before the plan"
        );
        Built {
            programs: self.programs,
            data: self.data,
            objects: self.objects,
        }
    }
}

fn padded(args: &[u64]) -> [u64; ARGS] {
    let mut all = [0; ARGS];
    all[..args.len()].copy_from_slice(args);
    all
}

/// What tests of the rooms look at operations with.
#[cfg(test)]
impl Builder {
    /// Returns a builder in an arena of one context.
    pub fn for_test() -> Self {
        Self::new(Arena {
            base: 0x10_0000_0000,
            blob_len: 0x1000,
            contexts: 1,
        })
    }

    /// Returns the calls so far: number and arguments.
    pub fn calls(&self) -> Vec<(i64, [u64; ARGS])> {
        let calls = self.ops.iter().map(|op| (i64::from(op.nr), op.args));
        calls.collect()
    }

    /// Returns bytes of the data.
    pub fn data_at(&self, addr: u64, len: usize) -> &[u8] {
        &self.data[(addr - self.arena.data()) as usize..][..len]
    }

    /// Returns words of the data.
    pub fn words_at(&self, addr: u64, count: usize) -> Vec<u64> {
        let words = self.data_at(addr, count * 8).chunks_exact(8);
        words
            .map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")))
            .collect()
    }
}
