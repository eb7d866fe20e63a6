//! Descriptors of namespaces. Those that the tree is in can be opened again; all others are refused.

use super::Refused;
use crate::dump::network::Namespaces;
use crate::snapshot::NamespaceFile;
use std::os::unix::ffi::OsStrExt;

/// Returns what a descriptor with this link (`net:[4026531840]`) refers to.
pub(super) fn namespace(
    link: &[u8],
    flags: u32,
    own: Namespaces,
) -> Result<NamespaceFile, Refused> {
    let name = link.split(|&byte| byte == b':').next().unwrap_or_default();
    let name = String::from_utf8_lossy(name);
    let refused = |reason: String| (reason, String::new());
    if flags & libc::O_PATH as u32 != 0 {
        return Err(refused(
            "a namespace that is open by path alone is not kept yet".into(),
        ));
    }
    let Some(file) = NamespaceFile::of_task(&name, &own.ids) else {
        return Err(refused(format!(
            "a descriptor of a {name} namespace is not kept yet"
        )));
    };
    let theirs = std::fs::read_link(format!("/proc/{}/ns/{name}", own.root));
    match theirs {
        Ok(theirs) if theirs.as_os_str().as_bytes() == link => Ok(file),
        Ok(_) => Err(refused(format!(
            "it is of another {name} namespace than the tree, which is not kept yet"
        ))),
        Err(error) => Err(refused(format!("/proc/{}/ns/{name}: {error}", own.root))),
    }
}
