//! What the audit saw, for people.

use crate::Blob;
use crate::audit::code::Code;
use crate::image::Image;
use std::fmt;

/// What the audit saw.
#[derive(Debug)]
pub struct Report {
    /// Sections that are mapped.
    pub sections: Vec<Section>,
    /// The instructions.
    pub code: Code,
    /// Where the gate's system-call instruction is.
    pub gate: u64,
}

/// A section that is mapped.
#[derive(Debug)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// Where it is in the image.
    pub address: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its permissions, as in `/proc/PID/maps`.
    pub permissions: &'static str,
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Image {
            bytes,
            mem_size,
            text_len,
            exports,
            ..
        } = &self.image;
        let budget = self.spec.budget;
        writeln!(f, "{}", self.spec.name)?;
        for Section {
            name,
            address,
            size,
            permissions,
        } in &self.report.sections
        {
            writeln!(
                f,
                "  section    {address:#08x} {size:>6}  {permissions}  {name}"
            )?;
        }
        for export in exports {
            writeln!(
                f,
                "  export     {:#08x}  __export_{}",
                export.offset, export.name
            )?;
        }
        let Code { instructions, .. } = self.report.code;
        writeln!(
            f,
            "  gate       {:#08x}  the only system call among {instructions} instructions",
            self.report.gate
        )?;
        writeln!(
            f,
            "  mapped     r-x {text_len}, rw- {}, of a budget of {budget}",
            mem_size - text_len
        )?;
        writeln!(f, "  image      {} bytes", bytes.len())?;
        write!(
            f,
            "  none of    relocations, undefined symbols, writable code, thread-local storage"
        )
    }
}
