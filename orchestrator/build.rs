//! Builds the blobs that the orchestrator carries.

use std::error::Error;
use std::path::Path;

fn main() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let Err(error) = blob_builder::build_script::run(&workspace) else {
        return;
    };
    let mut cause: Option<&dyn Error> = Some(&error);
    while let Some(error) = cause {
        eprintln!("{error}");
        cause = error.source();
    }
    std::process::exit(1);
}
