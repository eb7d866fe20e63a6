//! How a blob is linked: a part of the build scripts of both blobs.

use std::path::Path;

/// Arguments of the linker, beside the script. `docs/blobs.md` says why for each.
const ARGS: [&str; 10] = [
    "-pie",
    "--no-dynamic-linker",
    "--build-id=none",
    "-znorelro",
    "-znoexecstack",
    "-zrodynamic",
    "--no-eh-frame-hdr",
    "--hash-style=gnu",
    "--no-undefined",
    "--orphan-handling=error",
];

/// Tells cargo how to link the blob with this linker script.
pub fn with_script(name: &str) {
    let script = Path::new("..").join("linker-scripts").join(name);
    println!("cargo:rerun-if-changed={}", script.display());
    println!("cargo:rerun-if-changed=../linker-scripts/link.rs");
    println!("cargo:rerun-if-changed=build.rs");
    // Only the blob builder links with ld.lld itself. A build of the whole workspace with all features reaches here too,
    // through the C compiler: then the binary is thrown away, and has only to link.
    let flags = std::env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    if !flags.contains("-Clinker-flavor=ld.lld") {
        println!("cargo:rustc-link-arg-bins=-nostartfiles");
        return;
    }
    for arg in ARGS {
        println!("cargo:rustc-link-arg-bins={arg}");
    }
    let script = script
        .canonicalize()
        .expect("the linker script is in the source tree");
    println!("cargo:rustc-link-arg-bins=-T{}", script.display());
}
