//! An archive that the kernel takes for its first files: cpio in the form `newc` (Documentation/driver-api/early-userspace/buffer-format.rst).

/// Types of files (`S_IFREG`, `S_IFDIR`, `S_IFCHR`).
const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const CHARACTERS: u32 = 0o020_000;

/// An archive in the making.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    count: u32,
}

impl Archive {
    /// Adds a file.
    pub fn file(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.add(name, FILE | mode, content, (0, 0));
    }

    /// Adds a folder.
    pub fn folder(&mut self, name: &str) {
        self.add(name, FOLDER | 0o755, &[], (0, 0));
    }

    /// Adds a character device.
    pub fn device(&mut self, name: &str, number: (u32, u32)) {
        self.add(name, CHARACTERS | 0o600, &[], number);
    }

    /// Returns the whole.
    pub fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[], (0, 0));
        self.bytes
    }

    fn add(&mut self, name: &str, mode: u32, content: &[u8], (major, minor): (u32, u32)) {
        self.count += 1;
        let len = content.len() as u32;
        let name_len = name.len() as u32 + 1;
        self.bytes.extend_from_slice(b"070701");
        // Inode, mode, owner, group, links, time, size, device of the file, device that it is, length of the name, sum.
        let fields = [
            self.count, mode, 0, 0, 1, 0, len, 0, 0, major, minor, name_len, 0,
        ];
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
