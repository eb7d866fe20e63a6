//! Objects that lie outside of what is dumped, and are somebody else's at the restore: `--external KIND[ID]:NAME` names them to
//! a dump, `--inherit-fd fd[N]:KEY` gives them to a restore. Kinds and forms are the peer's.

use std::fmt;
use std::str::FromStr;

/// Kinds of `--external`, and why an object of one cannot be left out yet.
const KINDS: [(&str, &str); 11] = [
    ("dev", MOUNTS),
    ("file", ""),
    ("macvlan", ""),
    ("mnt", MOUNTS),
    ("net", NETWORKS),
    ("netdev", NETWORKS),
    (
        "pid",
        "a tree in a pid namespace of its own is not kept yet",
    ),
    ("pipe", ""),
    ("tty", ""),
    ("unix", ""),
    ("veth", ""),
];
/// Those of links, which a restore asks for.
const LINKS: [&str; 2] = ["macvlan", "veth"];
const MOUNTS: &str = "mounts of a tree are not kept yet: it shares those of the caller";
const NETWORKS: &str = "a network namespace of the tree's own is not kept yet";

/// What an object is, and its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// A pipe, by its inode.
    Pipe(u64),
    /// A Unix socket, by its inode.
    Socket(u32),
    /// A file, by mount (`mnt_id` of fdinfo) and inode.
    File(i32, u64),
    /// A terminal, by `st_rdev` and `st_dev`.
    Terminal(u64, u64),
}

/// An object outside of what is dumped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Its kind, of [`KINDS`].
    kind: String,
    /// What is in the brackets.
    id: String,
    /// What follows them.
    name: String,
    /// What it is; `None` of those that cannot be left out yet.
    pub object: Option<Object>,
}

/// A link outside of the tree's network namespace: the other end of a pair (`veth`), which a restore makes, or what one of the
/// tree's lies on (`macvlan`), which is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OuterLink {
    /// Name of the tree's link.
    pub inner: Vec<u8>,
    /// Name of this one.
    pub outer: Vec<u8>,
    /// The bridge that it is to be a port of.
    pub bridge: Option<Vec<u8>>,
    /// Whether the tree's lies on it.
    pub is_below: bool,
}

/// A descriptor that the tree gets from whoever restores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inherited {
    /// Its number here.
    pub fd: i32,
    /// For which of the tree's open file descriptions it is.
    pub key: String,
}

impl Object {
    /// Returns the object with these numbers; none where they are not of this kind.
    fn of(kind: &str, id: &str) -> Option<Self> {
        let two = || {
            let (first, second) = id.split_once(':')?;
            let number = |text: &str| u64::from_str_radix(text, 16).ok();
            number(first).zip(number(second))
        };
        match kind {
            "pipe" => id.parse().ok().map(Self::Pipe),
            "unix" | "socket" => id.parse().ok().map(Self::Socket),
            "file" => {
                let (mount, inode) = two()?;
                Some(Self::File(i32::try_from(mount).ok()?, inode))
            }
            "tty" => two().map(|(rdev, dev)| Self::Terminal(rdev, dev)),
            _ => None,
        }
    }
}

/// As a key of `--inherit-fd`.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pipe(inode) => write!(f, "pipe[{inode}]"),
            Self::Socket(inode) => write!(f, "socket[{inode}]"),
            Self::File(mount, inode) => write!(f, "file[{mount:x}:{inode:x}]"),
            Self::Terminal(rdev, dev) => write!(f, "tty[{rdev:x}:{dev:x}]"),
        }
    }
}

/// As it was given.
impl fmt::Display for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--external {}[{}]", self.kind, self.id)
    }
}

/// Returns kind, what is in the brackets, and what follows them.
fn parts(text: &str) -> Option<(&str, &str, &str)> {
    let (kind, rest) = text.split_once('[')?;
    // The kernel's own form of the name of a pipe or a socket has a colon.
    let kind = kind.strip_suffix(':').unwrap_or(kind);
    let (id, rest) = rest.rsplit_once(']')?;
    Some((kind, id, rest))
}

impl FromStr for External {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || {
            let kinds: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
            let kinds = kinds.join(", ");
            format!(
                "{text:?} is no external object: KIND[ID] or KIND[ID]:NAME is wanted, of these kinds: {kinds}"
            )
        };
        let (kind, id, rest) = parts(text).ok_or_else(form)?;
        let (_, obstacle) = KINDS
            .iter()
            .find(|(name, _)| *name == kind)
            .ok_or_else(form)?;
        if !(rest.is_empty() || rest.starts_with(':')) {
            return Err(form());
        }
        let object = Object::of(kind, id);
        let name = rest.strip_prefix(':').unwrap_or_default();
        if kind == "veth" && (id.is_empty() || name.split('@').any(str::is_empty)) {
            return Err(format!(
                "{text:?} is no external veth: veth[INNER]:OUTER or veth[INNER]:OUTER@BRIDGE is wanted"
            ));
        }
        if kind == "macvlan" && (id.is_empty() || name.contains('@')) {
            return Err(format!(
                "{text:?} is no external macvlan: macvlan[INNER]:OUTER is wanted"
            ));
        }
        if !LINKS.contains(&kind) && obstacle.is_empty() && object.is_none() {
            let numbers = match kind {
                "file" => "file[MOUNT:INODE], in hexadecimal",
                "tty" => "tty[RDEV:DEV], in hexadecimal",
                _ => "the number of an inode",
            };
            return Err(format!(
                "{text:?} is no external {kind}: {numbers} is wanted"
            ));
        }
        Ok(Self {
            kind: kind.into(),
            id: id.into(),
            name: name.into(),
            object,
        })
    }
}

impl External {
    /// Returns the link outside that a restore needs, if it is one.
    pub fn outer_link(&self) -> Option<OuterLink> {
        if !LINKS.contains(&&*self.kind) || self.name.is_empty() {
            return None;
        }
        let (outer, bridge) = match self.name.split_once('@') {
            Some((outer, bridge)) => (outer, Some(bridge.into())),
            None => (&*self.name, None),
        };
        Some(OuterLink {
            inner: self.id.clone().into_bytes(),
            outer: outer.as_bytes().to_vec(),
            bridge: bridge.map(String::into_bytes),
            is_below: self.kind == "macvlan",
        })
    }

    /// Returns why it cannot be left out of a dump yet.
    pub fn obstacle(&self) -> Option<&'static str> {
        let kind = KINDS.iter().find(|(kind, _)| *kind == self.kind);
        kind.map(|(_, obstacle)| *obstacle)
            .filter(|obstacle| !obstacle.is_empty())
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
            format!("{text:?} gives no descriptor: fd[NUMBER]:KEY is wanted, where KEY is pipe[INODE], socket[INODE], file[MOUNT:INODE], tty[RDEV:DEV] or the path of a file")
        })
    }
}

impl Inherited {
    /// Returns the object that it is for, if it is not for a path.
    pub fn object(&self) -> Option<Object> {
        let (kind, id, rest) = parts(&self.key)?;
        rest.is_empty().then(|| Object::of(kind, id))?
    }

    /// Returns whether it is for the file with this path. The peer leaves out the slash that paths begin with.
    pub fn is_for(&self, path: &[u8]) -> bool {
        let stripped = |path| <[u8]>::strip_prefix(path, b"/").unwrap_or(path).to_vec();
        self.object().is_none() && stripped(self.key.as_bytes()) == stripped(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_forms_are_taken_and_others_are_not() {
        let object = |text: &str| text.parse::<External>().expect(text).object;
        assert_eq!(object("pipe[12]"), Some(Object::Pipe(12)));
        assert_eq!(object("pipe:[12]"), Some(Object::Pipe(12)));
        assert_eq!(object("unix[12]"), Some(Object::Socket(12)));
        assert_eq!(object("file[1f:2a]"), Some(Object::File(31, 42)));
        assert_eq!(object("tty[8803:1a]:x"), Some(Object::Terminal(0x8803, 26)));
        for bad in [
            "pipe",
            "pipe[x]",
            "pip[1]",
            "pipe[1]2",
            "",
            "[1]",
            "tty[1:2]x",
            "tty[1]",
            "file[x:1]",
            "socket[1]",
        ] {
            assert!(bad.parse::<External>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_has_no_meaning_yet_is_known() {
        for text in ["mnt[]:ms", "dev[8/1]:d", "net[5]:n", "pid[4]:p"] {
            let external: External = text.parse().expect(text);
            assert!(external.obstacle().is_some(), "{text}");
        }
        let veth: External = "veth[eth0]:out@br0".parse().expect("right");
        let outer = veth.outer_link().expect("a link");
        assert_eq!((&*outer.inner, &*outer.outer), (&b"eth0"[..], &b"out"[..]));
        assert_eq!(outer.bridge.as_deref(), Some(&b"br0"[..]));
        let macvlan: External = "macvlan[m0]:eth0".parse().expect("right");
        assert!(macvlan.outer_link().expect("a link").is_below);
        let of_dump: External = "macvlan[m0]".parse().expect("right");
        assert_eq!(of_dump.outer_link(), None);
        assert!("veth[eth0]".parse::<External>().is_err());
        assert!("veth[eth0]:a@".parse::<External>().is_err());
        let file: External = "file[1:2]".parse().expect("right");
        assert_eq!(file.obstacle(), None);
    }

    #[test]
    fn descriptors_are_given_for_objects_and_paths() {
        let given = |text: &str| text.parse::<Inherited>().expect(text);
        let pipe = given("fd[5]:pipe:[77]");
        assert_eq!((pipe.fd, pipe.object()), (5, Some(Object::Pipe(77))));
        let socket = given("fd[5]:socket:[77]").object();
        assert_eq!(socket, Some(Object::Socket(77)));
        for object in [Object::File(31, 42), Object::Terminal(0x8803, 26)] {
            assert_eq!(given(&format!("fd[5]:{object}")).object(), Some(object));
        }
        let path = given("fd[6]:tmp/log");
        assert!(path.is_for(b"/tmp/log") && !path.is_for(b"/tmp/other"));
        for bad in ["fd[5]", "fd[-1]:x", "5:x", "fd[x]:y", "fd[5]:"] {
            assert!(bad.parse::<Inherited>().is_err(), "{bad}");
        }
    }
}
