//! From the fact to operations. Pure.

use crate::objects::regular::plan::open_flags;
use crate::plan::Builder;
use crate::snapshot::DeviceFile;

/// Adds the opening by path. The devices restored have no offset that anything depends on.
pub fn plan_open(b: &mut Builder, device: &DeviceFile, flags: u32) -> i32 {
    let no_ctty = libc::O_NOCTTY as u32;
    b.open_path(&device.node.path, open_flags(flags) | no_ctty)
}
