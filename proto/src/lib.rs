//! Image records and framing.
