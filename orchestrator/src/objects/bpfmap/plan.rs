//! From the fact to operations. Pure.

use crate::plan::Builder;
use crate::snapshot::BpfMap;

/// Commands of `bpf` (`enum bpf_cmd`, `include/uapi/linux/bpf.h`).
const CREATE: u64 = 0;
const FREEZE: u64 = 22;
const UPDATE_BATCH: u64 = 26;
/// Bytes of the attributes of each (`union bpf_attr`).
const CREATE_LEN: usize = 72;
const BATCH_LEN: usize = 56;

/// Adds the map with all that is in it (`BPF_MAP_UPDATE_BATCH`, Linux 5.6).
pub fn plan_create(b: &mut Builder, map: &BpfMap) -> i32 {
    let mut attr = vec![0; CREATE_LEN];
    let numbers = [
        map.kind,
        map.key_size,
        map.value_size,
        map.max_entries,
        map.flags,
    ];
    for (place, number) in attr.chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    attr[28..28 + map.name.len()].copy_from_slice(&map.name);
    attr[64..72].copy_from_slice(&map.extra.to_le_bytes());
    let at = b.put(&attr);
    let fd = b.open(libc::SYS_bpf, &[CREATE, at, CREATE_LEN as u64]);
    if map.count() > 0 {
        let (keys, values) = (b.put(&map.keys), b.put(&map.values));
        let counted = map.count() as u64 | (fd as u64) << 32;
        let at = b.put_words(&[0, 0, keys, values, counted, 0, 0]);
        b.call_returns(libc::SYS_bpf, &[UPDATE_BATCH, at, BATCH_LEN as u64], 0);
    }
    if map.is_frozen {
        let at = b.put_words(&[fd as u64]);
        b.call_returns(libc::SYS_bpf, &[FREEZE, at, 8], 0);
    }
    fd
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_filled_before_it_is_frozen() {
        let map = BpfMap {
            kind: 1,
            key_size: 4,
            value_size: 2,
            max_entries: 9,
            is_frozen: true,
            keys: vec![1, 0, 0, 0],
            values: vec![7, 8],
            ..BpfMap::default()
        };
        let mut b = Builder::for_test();
        plan_create(&mut b, &map);
        let commands: Vec<u64> = b.calls().iter().map(|(_, args)| args[0]).collect();
        assert_eq!(commands, [CREATE, UPDATE_BATCH, FREEZE]);
    }
}
