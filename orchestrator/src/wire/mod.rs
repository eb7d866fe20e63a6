//! How pages and images travel: the page server's protocol and its client, by TLS where that is wanted, and image sets in one stream.
//!
//! It knows bytes and descriptors, not what is in an image: that is `image`'s. What comes from the other side is untrusted.

pub mod batches;
pub mod channel;
pub mod client;
pub mod protocol;
pub mod stream;
pub mod tls;

use std::io;

/// What can go wrong on the way.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server cannot be reached.
    #[error("cannot connect to the page server {address}")]
    Connect {
        /// Where it should be.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to the page server {address} broke")]
    Broken {
        /// Where it is.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server could not store what was sent.
    #[error("the page server {address} failed: {reason}")]
    Told {
        /// Where it is.
        address: String,
        /// What it says.
        reason: io::Error,
    },
    /// A descriptor that is no connection.
    #[error("descriptor {fd} is no connected socket")]
    Descriptor {
        /// Its number.
        fd: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The stream could not be written.
    #[error("cannot write the stream of images")]
    Stream(#[source] io::Error),
    /// The stream could not be read.
    #[error("cannot read the stream of images")]
    Read(#[source] io::Error),
    /// There is no room for what the stream brings.
    #[error("cannot keep what the stream of images brings")]
    Keep(#[source] io::Error),
    /// The stream says what cannot be.
    #[error("the stream of images is damaged: {0}; send it again")]
    Damaged(String),
    /// The stream ends too early.
    #[error(
        "the stream of images ends before the image set is complete: whoever sent it failed or was cut off"
    )]
    Cut,
}
