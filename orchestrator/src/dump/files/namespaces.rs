//! Descriptors of namespaces. Those that we are in too can be opened again; all others are refused.

use super::Refused;
use crate::dump::process::namespace_ids;
use crate::snapshot::NamespaceFile;
use std::os::unix::ffi::OsStrExt;

/// Returns what a descriptor with this link (`net:[4026531840]`) refers to.
pub(super) fn namespace(link: &[u8], flags: u32) -> Result<NamespaceFile, Refused> {
    let name = link.split(|&byte| byte == b':').next().unwrap_or_default();
    let name = String::from_utf8_lossy(name);
    let refused = |reason: String| (reason, String::new());
    if flags & libc::O_PATH as u32 != 0 {
        return Err(refused(
            "a namespace that is open by path alone is not kept yet".into(),
        ));
    }
    let Some(file) = NamespaceFile::of_task(&name, &namespace_ids()) else {
        return Err(refused(format!(
            "a descriptor of a {name} namespace is not kept yet"
        )));
    };
    let ours = std::fs::read_link(format!("/proc/self/ns/{name}"));
    match ours {
        Ok(ours) if ours.as_os_str().as_bytes() == link => Ok(file),
        Ok(_) => Err(refused(format!(
            "it is of another {name} namespace than ours, which is not kept yet"
        ))),
        Err(error) => Err(refused(format!("/proc/self/ns/{name}: {error}"))),
    }
}
