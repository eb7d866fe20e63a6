//! Image sets: those of the peer are read to the facts in them, ours come back as they were, broken ones are refused.

mod images {
    mod broken;
    mod older;
    mod peer;
    mod rich;
    mod roundtrip;
    pub mod support;
}
