//! From the kernel to the fact.
