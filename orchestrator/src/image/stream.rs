//! An image set that comes in a stream: it is kept in a folder in memory, which goes when the restore is over.

use std::io::Read;
use std::os::fd::OwnedFd;

use super::dir::Dir;
use super::error::Result;
use super::write::is_image;
use crate::wire;

/// Receives a whole image set and returns the folder that it is in.
///
/// # Errors
/// The stream is cut or damaged; nothing is left of it then.
pub fn receive(from: impl Read) -> Result<OwnedFd> {
    let dir = Dir::in_memory()?;
    wire::stream::receive(from, |name| match is_image(name) {
        true => dir.create(name).map(Some).map_err(std::io::Error::other),
        false => Ok(None),
    })?;
    Ok(dir.into_fd())
}
