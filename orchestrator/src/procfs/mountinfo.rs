//! `/proc/PID/mountinfo`: the mounts a process sees (`show_mountinfo` in `fs/proc_namespace.c`).

use super::text::{Line, lines, unescape};
use super::{Result, Subject};

const FILE: &str = "mountinfo";

/// One mount. Paths have the kernel's escapes undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its number.
    pub id: i32,
    /// Number of the mount it is on.
    pub parent: i32,
    /// Device of the file system: major and minor number.
    pub dev: (u32, u32),
    /// What of the file system is mounted; `//deleted` at its end if that is gone.
    pub root: Vec<u8>,
    /// Where, as seen from the process's root.
    pub mount_point: Vec<u8>,
    /// Options of the mount.
    pub options: Vec<u8>,
    /// `shared:N`, `master:N`, `propagate_from:N`, `unbindable`.
    pub propagation: Vec<Vec<u8>>,
    /// Type of the file system.
    pub fs_type: Vec<u8>,
    /// What is mounted, as it was said.
    pub source: Vec<u8>,
    /// Options of the file system.
    pub super_options: Vec<u8>,
}

/// Reads the mounts of a process.
pub fn read(of: impl Into<Subject>) -> Result<Vec<Mount>> {
    parse(&of.into().read(FILE)?)
}

/// Parses the bytes of `mountinfo`.
pub fn parse(bytes: &[u8]) -> Result<Vec<Mount>> {
    lines(FILE, bytes).map(mount).collect()
}

fn mount(mut line: Line<'_>) -> Result<Mount> {
    let id = line.number("a mount")?;
    let parent = line.number("a mount")?;
    let major = line.number("a device")?;
    line.expect(b":", "a colon")?;
    let minor = line.number("a device")?;
    line.expect(b" ", "a blank")?;
    let root = unescape(field(&mut line, "a root")?);
    let mount_point = unescape(field(&mut line, "a mount point")?);
    let options = unescape(field(&mut line, "options")?);
    let mut propagation = Vec::new();
    loop {
        match field(&mut line, "a dash")? {
            b"-" => break,
            tag => propagation.push(tag.to_vec()),
        }
    }
    Ok(Mount {
        id,
        parent,
        dev: (major, minor),
        root,
        mount_point,
        options,
        propagation,
        fs_type: unescape(field(&mut line, "a type")?),
        source: unescape(field(&mut line, "a source")?),
        super_options: unescape(line.rest()),
    })
}

/// Returns the next field. Exactly one blank follows: a field (the source) may be empty.
fn field<'a>(line: &mut Line<'a>, expected: &'static str) -> Result<&'a [u8]> {
    line.until(b' ', expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Pid;

    #[test]
    fn odd_names_are_read() {
        let mounts = parse(
            br"22 1 254:0 / / rw,relatime - ext4 /dev/root rw
36 22 0:30 /a\040b\134c /mnt/x\012y\011z\043 ro,nosuid shared:1 master:2 - fuse.a\040b  rw,user_id=0
",
        );
        let mounts = mounts.expect("parses");
        assert_eq!(
            (mounts[0].id, mounts[0].parent, mounts[0].dev),
            (22, 1, (254, 0))
        );
        assert!(mounts[0].propagation.is_empty());
        assert_eq!(mounts[0].super_options, b"rw");
        assert_eq!(mounts[1].root, b"/a b\\c");
        assert_eq!(mounts[1].mount_point, b"/mnt/x\ny\tz#");
        assert_eq!(
            mounts[1].propagation,
            [b"shared:1".to_vec(), b"master:2".to_vec()]
        );
        assert_eq!(
            (mounts[1].fs_type.as_slice(), mounts[1].source.as_slice()),
            (&b"fuse.a b"[..], &b""[..])
        );
        assert_eq!(mounts[1].super_options, b"rw,user_id=0");
        let error = parse(b"22 1 254:0 / / rw,relatime\n").expect_err("cut");
        assert!(
            error
                .to_string()
                .starts_with("mountinfo, line 1: expected options"),
            "{error}"
        );
    }

    #[test]
    fn our_own_can_be_read() {
        let mounts = read(Pid::this()).expect("mountinfo");
        assert!(
            mounts
                .iter()
                .any(|mount| mount.mount_point == b"/proc" && mount.fs_type == b"proc")
        );
    }
}
