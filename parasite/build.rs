//! Says how this blob is linked.

#[path = "../linker-scripts/link.rs"]
mod link;

fn main() {
    link::with_script("parasite.ld");
}
