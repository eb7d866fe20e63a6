//! Between the fact and its record.
