//! Between the fact and its records: what it is in `files.img`, what is in it in `bpfmap-data.img`.

use crate::image::error::{Checked, wrong};
use crate::snapshot::{BpfMap, OpenFile};
use proto::pb;

/// `BPF_OBJ_NAME_LEN`, with the zero at its end.
const MAX_NAME: usize = 15;

/// Returns the record of `fact`, which is open as `file`.
pub(crate) fn to_record(
    file: &OpenFile,
    fown: pb::FownEntry,
    fact: &BpfMap,
) -> pb::BpfmapFileEntry {
    pb::BpfmapFileEntry {
        id: file.id.0,
        flags: file.flags,
        pos: 0,
        fown,
        map_type: fact.kind,
        key_size: fact.key_size,
        value_size: fact.value_size,
        map_id: fact.id,
        max_entries: fact.max_entries,
        map_flags: fact.flags,
        memlock: fact.memlock,
        frozen: fact.is_frozen,
        map_name: fact.name.clone(),
        ifindex: 0,
        mnt_id: None,
        map_extra: (fact.extra != 0).then_some(fact.extra),
    }
}

/// Returns the fact in `record`, without content, or the name of what is not restored.
pub(crate) fn from_record(record: &pb::BpfmapFileEntry) -> Checked<Result<BpfMap, String>> {
    let name = record.map_name.split(|&byte| byte == 0).next();
    let name = name.unwrap_or_default();
    if name.len() > MAX_NAME {
        return wrong!("a name of {} bytes", name.len());
    }
    let map = BpfMap {
        id: record.map_id,
        kind: record.map_type,
        key_size: record.key_size,
        value_size: record.value_size,
        max_entries: record.max_entries,
        flags: record.map_flags,
        extra: record.map_extra.unwrap_or(0),
        memlock: record.memlock,
        is_frozen: record.frozen,
        name: name.to_vec(),
        keys: Vec::new(),
        values: Vec::new(),
    };
    Ok(match map.obstacle() {
        _ if record.ifindex != 0 => Err("BPF map of a network device".into()),
        Some(obstacle) => Err(obstacle),
        None => Ok(map),
    })
}

/// Returns the record of what is in a map; its keys and values follow.
pub(crate) fn data_to_record(fact: &BpfMap) -> pb::BpfmapDataEntry {
    pb::BpfmapDataEntry {
        map_id: fact.id,
        keys_bytes: fact.keys.len() as u32,
        values_bytes: fact.values.len() as u32,
        count: fact.count() as u32,
    }
}

/// Gives a map what is in it.
pub(crate) fn fill(
    fact: &mut BpfMap,
    record: &pb::BpfmapDataEntry,
    [keys, values]: [Vec<u8>; 2],
) -> Checked<()> {
    let count = record.count as usize;
    let wants = |size: u32| count.checked_mul(size as usize);
    let fits = wants(fact.key_size) == Some(keys.len())
        && wants(fact.value_size) == Some(values.len())
        && record.count <= fact.max_entries;
    if !fits || !fact.keys.is_empty() {
        return wrong!(
            "{count} entries in {} and {} bytes are not what it holds, or they are there twice",
            keys.len(),
            values.len()
        );
    }
    (fact.keys, fact.values) = (keys, values);
    Ok(())
}
