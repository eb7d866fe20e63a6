//! BPF maps. One that a program uses, or that is open twice, is more than its content, and refused.

use super::{FileTable, Refused};
use crate::snapshot::{BpfMap, FileKind};
use crate::sys::bpf::{self, MapInfo};
use std::os::fd::OwnedFd;

impl FileTable {
    /// Returns a map with all that is in it, of which fdinfo tells how much it takes, and whether it is frozen.
    pub(super) fn bpf_map(
        &self,
        own: &OwnedFd,
        flags: u32,
        (memlock, is_frozen): (u64, bool),
    ) -> Result<BpfMap, Refused> {
        let refused = |reason: String| (reason, String::new());
        let failed = |error: crate::sys::Error| refused(error.to_string());
        let info = bpf::map_info(own).map_err(failed)?;
        let name = info.name.split(|&byte| byte == 0).next();
        let mut map = BpfMap {
            id: info.id,
            kind: info.kind,
            key_size: info.key_size,
            value_size: info.value_size,
            max_entries: info.max_entries,
            flags: info.flags,
            extra: info.extra,
            memlock,
            is_frozen,
            name: name.unwrap_or_default().to_vec(),
            keys: Vec::new(),
            values: Vec::new(),
        };
        self.refuse_map(&map, &info, flags).map_err(refused)?;
        fill(own, &mut map).map_err(failed)?;
        Ok(map)
    }

    fn refuse_map(&self, map: &BpfMap, info: &MapInfo, flags: u32) -> Result<(), String> {
        if let Some(obstacle) = map.obstacle() {
            return Err(format!("a {obstacle} is not kept yet"));
        }
        if map.has_node() && !has_one_node() {
            return Err(
                "a BPF map of a NUMA node, of several, is not kept: none tells which".into(),
            );
        }
        if info.ifindex != 0 || info.btf != 0 {
            return Err("a BPF map of a network device, or with types, is not kept yet".into());
        }
        if flags & libc::O_ACCMODE as u32 != libc::O_RDWR as u32 {
            return Err("a BPF map that is open for one direction is not kept yet".into());
        }
        let is_known =
            |kind: &FileKind| matches!(kind, FileKind::BpfMap(known) if known.id == map.id);
        if self.files.iter().any(|file| is_known(&file.kind)) {
            return Err("the same BPF map is open twice, which is not kept yet".into());
        }
        match bpf::program_with(map.id) {
            Ok(None) => Ok(()),
            Ok(Some(program)) => Err(format!("BPF program {program} uses this map")),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Returns whether this machine has one NUMA node, number 0.
fn has_one_node() -> bool {
    let online = std::fs::read_to_string("/sys/devices/system/node/online");
    online.is_ok_and(|online| online.trim() == "0")
}

fn fill(own: &OwnedFd, map: &mut BpfMap) -> crate::sys::Result<()> {
    let (key_size, value_size) = (map.key_size as usize, map.value_size as usize);
    let mut key = bpf::next_key(own, None, key_size)?;
    let mut left = map.max_entries;
    while let Some(now) = key.filter(|_| left > 0) {
        left -= 1;
        map.values.extend(bpf::lookup(own, &now, value_size)?);
        map.keys.extend_from_slice(&now);
        key = bpf::next_key(own, Some(&now), key_size)?;
    }
    Ok(())
}
