//! BPF maps.

/// A BPF map: an array or a hash table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BpfMap {
    /// Its id when it was dumped.
    pub id: u32,
    /// `BPF_MAP_TYPE_HASH` 1, `BPF_MAP_TYPE_ARRAY` 2.
    pub kind: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Most entries.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// More of its kind.
    pub extra: u64,
    /// Bytes that it takes, as fdinfo tells.
    pub memlock: u64,
    /// `BPF_MAP_FREEZE`: system calls change it no more.
    pub is_frozen: bool,
    /// Its name.
    pub name: Vec<u8>,
    /// All keys, one after the other.
    pub keys: Vec<u8>,
    /// Their values.
    pub values: Vec<u8>,
}

/// `BPF_F_NUMA_NODE`: its memory is of a certain node, which nobody is told.
const NUMA_NODE: u32 = 1 << 2;
/// `BPF_F_NO_PREALLOC`, `BPF_F_NUMA_NODE`, `BPF_F_ZERO_SEED`, `BPF_F_RDONLY_PROG`, `BPF_F_WRONLY_PROG`, `BPF_F_MMAPABLE`.
const FLAGS: u32 = 1 | NUMA_NODE | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10;

impl BpfMap {
    /// Returns the number of entries.
    pub fn count(&self) -> usize {
        self.keys.len() / self.key_size.max(1) as usize
    }

    /// Returns whether it was made for a NUMA node: it is made again for the first.
    pub fn has_node(&self) -> bool {
        self.flags & NUMA_NODE != 0
    }

    /// Returns what of its kind stands in the way of keeping it.
    pub fn obstacle(&self) -> Option<String> {
        if !matches!(self.kind, 1 | 2) {
            return Some(format!("BPF map of type {}", self.kind));
        }
        let other = self.flags & !FLAGS;
        (other != 0).then(|| format!("BPF map with flags {other:#x}"))
    }
}
