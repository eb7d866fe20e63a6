//! Descriptors of TUN and TAP devices. A device that is persistent is there without descriptors too: the restored program
//! attaches itself to it again. Others go with their last descriptor, and with them what others have set of them.

use super::fetch::Fetched;
use super::{FileTable, Refused};
use crate::netlink::raw;
use crate::objects::netns::present;
use crate::snapshot::{FileKind, Tun, TunQueue};
use crate::support::{Loss, Lost};
use crate::sys::poll::poll_now;
use crate::sys::tun::{self, Ask, Attached};
use crate::sys::{Error, file};
use std::os::fd::{AsFd, OwnedFd};

/// Flags of a device (`include/uapi/linux/if_tun.h`).
const IFF_TAP: u16 = 2;
const IFF_DETACH_QUEUE: u16 = 0x400;
const IFF_PERSIST: u16 = 0x800;
const IFF_NO_PI: u16 = 0x1000;

impl FileTable {
    /// Returns a descriptor of `/dev/net/tun`.
    ///
    /// # Errors
    /// With the reason: its device is not there at the restore.
    pub(super) fn tun(&mut self, seen: &Fetched, pos: u64) -> Result<FileKind, Refused> {
        let node = self.path_file(seen, pos)?;
        let own = &seen.own;
        let refused = |reason: String| (reason, String::new());
        let asked = |error: Error| refused(format!("the kernel does not tell of it: {error}"));
        if !self.is_of_tree(own).map_err(asked)? {
            let reason = "it is of another network namespace than the tree, which is not kept yet";
            return Err(refused(reason.into()));
        }
        let Some(device) = tun::attached(own).map_err(asked)? else {
            return Ok(FileKind::Tun(Tun { node, queue: None }));
        };
        let name = String::from_utf8_lossy(&device.name).into_owned();
        if device.flags & IFF_PERSIST == 0 {
            return Err((
                format!("its device {name} goes with its last descriptor, which is not kept yet"),
                format!("make it stay (TUNSETPERSIST, ip tuntap add) before {name} is opened"),
            ));
        }
        if device.flags & IFF_TAP != 0 && tun::filter_len(own).map_err(asked)? != 0 {
            return Err(refused(format!(
                "its device {name} has a filter, which is not kept yet"
            )));
        }
        let Some(has_head) = has_head(&device.name) else {
            let reason = format!("nothing tells whether packets of its device {name} have a head");
            return Err(refused(reason));
        };
        let queue = queue(own, device, has_head).map_err(asked)?;
        let waits = poll_now(own.as_fd(), libc::POLLIN);
        if !queue.is_detached && waits.is_ok_and(|now| now & libc::POLLIN != 0) {
            self.losses.push(Loss::with(Lost::Packets, &name));
        }
        Ok(FileKind::Tun(Tun {
            node,
            queue: Some(queue),
        }))
    }

    fn is_of_tree(&self, own: &OwnedFd) -> Result<bool, Error> {
        let its = file::statx(tun::namespace(own)?)?;
        let tree = format!("/proc/{}/ns/net", self.namespaces.root);
        let tree = file::statx_path(&super::terminated(tree.as_bytes()))?;
        Ok((its.dev, its.ino) == (tree.dev, tree.ino))
    }
}

/// Returns whether packets of a device have a head of their own (`IFLA_TUN_PI`): what the descriptor says of that is something else
/// too.
fn has_head(name: &[u8]) -> Option<bool> {
    const HEAD: u16 = 4;
    let asker = present::open().ok()?;
    let links = present::links(&asker).ok()?;
    let link = links.iter().find(|link| link.name == name)?;
    let head = raw::find(&link.data, HEAD)?;
    Some(*head.first()? != 0)
}

fn queue(own: &OwnedFd, device: Attached, has_head: bool) -> Result<TunQueue, Error> {
    let flags = device.flags & !(IFF_DETACH_QUEUE | IFF_NO_PI);
    Ok(TunQueue {
        device: device.name,
        flags: match has_head {
            true => flags,
            false => flags | IFF_NO_PI,
        },
        is_detached: device.flags & IFF_DETACH_QUEUE != 0,
        vnet_header: tun::ask(own, Ask::VnetHeader)?,
        send_buffer: tun::ask(own, Ask::SendBuffer)?,
    })
}
