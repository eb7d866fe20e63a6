//! `orchestrator convert`.

use super::args::ConvertArgs;
use crate::image::{Form, convert};
use crate::wire::batches::Packing;
use anyhow::Context as _;

/// Writes an image set anew.
///
/// # Errors
/// It is damaged, or cannot be written.
pub fn run(args: &ConvertArgs) -> anyhow::Result<()> {
    let packing = args.compress.or(args.checksum.then_some(Packing::Plain));
    let form = match args.portable {
        true => Form::Portable,
        false => Form::Native(packing),
    };
    if let Err(error) = std::fs::create_dir(&args.output)
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        return Err(error)
            .with_context(|| format!("cannot make the folder {}", args.output.display()));
    }
    let pages = convert(&args.images_dir, &args.output, form)?;
    tracing::info!("converted, with {pages} pages");
    Ok(())
}
