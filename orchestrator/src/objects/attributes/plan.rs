//! From the fact to operations. Pure.
