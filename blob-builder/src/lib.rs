//! Builds and audits the blobs.
