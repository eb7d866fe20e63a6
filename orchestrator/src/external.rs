//! Objects that lie outside of what is dumped, and are somebody else's at the restore: `--external KIND[ID]:NAME` names them to
//! a dump, `--inherit-fd fd[N]:KEY` gives them to a restore. Kinds and forms are the peer's.

use std::str::FromStr;

/// Kinds of `--external`; those that no code here acts on are taken, as scripts pass them for all programs.
const KINDS: [&str; 10] = [
    "dev", "file", "macvlan", "mnt", "net", "pid", "pipe", "tty", "unix", "veth",
];

/// An object outside of what is dumped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Its kind, of [`KINDS`].
    pub kind: String,
    /// What is in the brackets.
    pub id: String,
    /// What follows them.
    pub name: Option<String>,
}

/// A descriptor that the tree gets from whoever restores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inherited {
    /// Its number here.
    pub fd: i32,
    /// For which of the tree's open file descriptions it is.
    pub key: String,
}

impl External {
    /// Returns the inode of a pipe, if it is one.
    pub fn pipe(&self) -> Option<u64> {
        match self.kind.as_str() {
            "pipe" => self.id.parse().ok(),
            _ => None,
        }
    }
}

impl FromStr for External {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            let kinds = KINDS.join(", ");
            format!(
                "{text:?} is no external object: KIND[ID] or KIND[ID]:NAME is wanted, of these kinds: {kinds}"
            )
        };
        let (kind, rest) = text.split_once('[').ok_or_else(form)?;
        // The kernel's own form of a pipe's name has a colon.
        let kind = kind.strip_suffix(':').unwrap_or(kind);
        let (id, rest) = rest.rsplit_once(']').ok_or_else(form)?;
        let name = match rest.strip_prefix(':') {
            Some(name) => Some(name.to_string()),
            None if rest.is_empty() => None,
            None => return Err(form()),
        };
        let external = Self {
            kind: kind.into(),
            id: id.into(),
            name,
        };
        let is_known = KINDS.contains(&kind) && (kind != "pipe" || external.pipe().is_some());
        if is_known { Ok(external) } else { Err(form()) }
    }
}

impl FromStr for Inherited {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.strip_prefix("fd[").and_then(|rest| {
            let (fd, key) = rest.split_once("]:")?;
            let fd = fd.parse().ok().filter(|&fd: &i32| fd >= 0)?;
            (!key.is_empty()).then(|| Self {
                fd,
                key: key.into(),
            })
        });
        parsed.ok_or_else(|| {
            format!("{text:?} gives no descriptor: fd[NUMBER]:KEY is wanted, where KEY is pipe[INODE] or the path of a file")
        })
    }
}

impl Inherited {
    /// Returns the inode of the pipe that it is for, if it is for one.
    pub fn pipe(&self) -> Option<u64> {
        let key = self.key.parse::<External>().ok()?;
        key.pipe()
    }

    /// Returns whether it is for the file with this path. The peer leaves out the slash that paths begin with.
    pub fn is_for(&self, path: &[u8]) -> bool {
        let stripped = |path| <[u8]>::strip_prefix(path, b"/").unwrap_or(path).to_vec();
        self.pipe().is_none() && stripped(self.key.as_bytes()) == stripped(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_forms_are_taken_and_others_are_not() {
        let pipe = |text: &str| text.parse::<External>().ok().and_then(|one| one.pipe());
        assert_eq!(pipe("pipe[12]"), Some(12));
        assert_eq!(pipe("pipe:[12]"), Some(12));
        let mount: External = "mnt[]:ms".parse().expect("a kind of the peer");
        assert_eq!((mount.id.as_str(), mount.name.as_deref()), ("", Some("ms")));
        for bad in [
            "pipe",
            "pipe[x]",
            "pip[1]",
            "pipe[1]2",
            "",
            "[1]",
            "tty[1:2]x",
        ] {
            assert!(bad.parse::<External>().is_err(), "{bad}");
        }
    }

    #[test]
    fn descriptors_are_given_for_pipes_and_files() {
        let given: Inherited = "fd[5]:pipe:[77]".parse().expect("right");
        assert_eq!((given.fd, given.pipe()), (5, Some(77)));
        let given: Inherited = "fd[6]:tmp/log".parse().expect("right");
        assert!(given.is_for(b"/tmp/log") && !given.is_for(b"/tmp/other"));
        for bad in ["fd[5]", "fd[-1]:x", "5:x", "fd[x]:y", "fd[5]:"] {
            assert!(bad.parse::<Inherited>().is_err(), "{bad}");
        }
    }
}
