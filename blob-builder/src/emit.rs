//! Writes the blobs: the ELF for people and packagers, the flat image and its description for the orchestrator.

use crate::image::Image;
use crate::{Blob, Error};
use std::fmt::Write;
use std::path::Path;

/// Writes `NAME.elf` and `NAME.bin` of each blob to `dir`, and `blobs.rs`, which describes them all.
pub fn write(blobs: &[Blob], dir: &Path) -> Result<(), Error> {
    let put = |name: String, content: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, content).map_err(|source| Error::File { path, source })
    };
    let mut source = String::from("// Written by the blob builder.\n");
    for blob in blobs {
        let name = blob.spec.name;
        put(format!("{name}.elf"), &blob.elf)?;
        put(format!("{name}.bin"), &blob.image.bytes)?;
        describe(&mut source, name, &blob.image);
    }
    put("blobs.rs".into(), source.as_bytes())
}

/// Appends the description of one blob: a constant of type `Blob`, and a module with the offsets of its exports.
fn describe(source: &mut String, name: &str, image: &Image) {
    let constant = name.to_uppercase();
    let Image {
        mem_size,
        text_len,
        entry,
        exports,
        ..
    } = image;
    let _ = write!(
        source,
        "
/// The {name} blob.
pub const {constant}: Blob = Blob {{
    image: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.bin\")),
    mem_size: {mem_size},
    text_len: {text_len},
    entry: {entry},
}};

/// Offsets of what the {name} blob exports.
pub mod {name}_sym {{
"
    );
    for export in exports {
        let (symbol, offset) = (&export.name, export.offset);
        let constant = symbol.to_uppercase();
        let _ = writeln!(
            source,
            "    /// `__export_{symbol}`\n    pub const {constant}: usize = {offset};"
        );
    }
    source.push_str("}\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Export;

    #[test]
    fn exports_become_constants() {
        let exports = vec![Export {
            name: "trampoline".into(),
            offset: 12,
        }];
        let image = Image {
            bytes: vec![],
            mem_size: 8192,
            text_len: 4096,
            entry: 3,
            exports,
        };
        let mut source = String::new();
        describe(&mut source, "restorer", &image);
        assert!(source.contains("pub const RESTORER: Blob"));
        assert!(source.contains("mem_size: 8192,\n    text_len: 4096,\n    entry: 3,"));
        assert!(source.contains("pub mod restorer_sym {"));
        assert!(source.contains("pub const TRAMPOLINE: usize = 12;"));
    }
}
