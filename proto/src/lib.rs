//! Records and framing of CRIU's image format 1.1.
//!
//! [`pb`] holds the records, made by `cargo xtask proto` from the schemas in `schema`; [`frame`] reads and writes files of
//! them; [`kinds`] names the files. Nobody reads `pb.rs`: its rooms are the files of `schema`, one a record, ours in
//! `orchestrator.proto`. What a record means is said where it is turned into a fact, in `orchestrator::image`.

pub mod frame;
pub mod kinds;
#[rustfmt::skip]
#[expect(missing_docs, clippy::all, reason = "made from the schemas")]
pub mod pb;
