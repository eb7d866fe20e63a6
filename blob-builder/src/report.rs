//! What the audit saw, for people.

use crate::Blob;
use crate::audit::code::Code;
use std::fmt;

/// What the audit saw.
#[derive(Debug)]
pub struct Report {
    /// Sections that are mapped.
    pub sections: Vec<Section>,
    /// The instructions.
    pub code: Code,
    /// How many references to the linker's offset table were made direct.
    pub relaxed: usize,
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
    /// The permissions of its part of the image, as in `/proc/PID/maps`.
    pub permissions: &'static str,
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.spec.name)?;
        for section in &self.report.sections {
            let (at, size) = (section.address, section.size);
            let (permissions, name) = (section.permissions, &section.name);
            writeln!(
                f,
                "  section     {at:#08x} {size:>6}  {permissions}  {name}"
            )?;
        }
        for export in &self.image.exports {
            let (at, name) = (export.offset, &export.name);
            writeln!(f, "  export      {at:#08x}  __export_{name}")?;
        }
        let (at, code) = (self.report.gate, &self.report.code);
        writeln!(f, "  syscall     {at:#08x}  in the gate, nowhere else")?;
        writeln!(f, "  checked     {} instructions", code.instructions)?;
        let relaxed = self.report.relaxed;
        writeln!(
            f,
            "  relocations none left; {relaxed} references made direct"
        )?;
        let (text, all) = (self.image.text_len, self.image.mem_size);
        let budget = self.spec.budget;
        writeln!(
            f,
            "  mapped      r-x {text}, rw- {}; {all} of {budget} allowed",
            all - text
        )?;
        write!(f, "  image       {} bytes", self.image.bytes.len())
    }
}
