//! Inodes that are watched: what inotify and fanotify have in common.

pub mod image;
