//! Options of the commands that serve pages, and of those that reach them.

use clap::Args;
use std::path::PathBuf;

use super::CommonArgs;
use crate::lazy::guard::OnFailure;

/// Where a page server is.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// Host of the page server.
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<String>,
    /// Port of the page server.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Use this connected socket instead of an address.
    #[arg(long, value_name = "FD")]
    pub ps_socket: Option<i32>,
    /// Speak TLS, with certificates on both sides.
    #[arg(long)]
    pub tls: bool,
    /// With --tls: certificates of the authority that is trusted, in PEM [default: /etc/pki/CA/cacert.pem].
    #[arg(long, value_name = "FILE")]
    pub tls_cacert: Option<PathBuf>,
    /// With --tls: certificates that the authority has revoked [default: /etc/pki/CA/cacrl.pem, where there is one].
    #[arg(long, value_name = "FILE")]
    pub tls_cacrl: Option<PathBuf>,
    /// With --tls: our certificate [default: /etc/pki/criu/cert.pem].
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// With --tls: its key [default: /etc/pki/criu/private/key.pem].
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// With --tls: whatever name the certificate of the server has.
    #[arg(long)]
    pub tls_no_cn_verify: bool,
}

/// Options of `page-server`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct PageServerArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub server: ServerArgs,
    /// Hand out the pages of the images to a lazy-pages daemon, and store none.
    #[arg(long)]
    pub lazy_pages: bool,
    /// Folder of the dump before, from the images folder on: pages that did not change since are not sent again.
    #[arg(long, value_name = "DIR", conflicts_with = "lazy_pages")]
    pub prev_images_dir: Option<PathBuf>,
    /// Take out of the dumps before what this one supersedes: they cannot be restored for themselves then.
    #[arg(long, conflicts_with = "lazy_pages")]
    pub auto_dedup: bool,
    /// Go on in the background once clients can come.
    #[arg(short = 'd', long)]
    pub daemon: bool,
    /// Write a zero byte to this descriptor, and close it, once clients can come.
    #[arg(long, value_name = "FD")]
    pub status_fd: Option<i32>,
    /// Write the process id of the server to this file.
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// How the server goes on in the background.
    #[arg(long, hide = true, value_name = "FD")]
    pub listening_fd: Option<i32>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub common: CommonArgs,
}

/// Options of `lazy-pages`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct LazyPagesArgs {
    /// Ask a page server for pages that are not in the images.
    #[arg(long)]
    pub page_server: bool,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub server: ServerArgs,
    /// What becomes of the tree where memory does not come.
    #[arg(long, value_name = "kill|stop", value_enum, default_value = "kill")]
    pub on_failure: OnFailure,
    /// Milliseconds to leave between two pieces that nobody waits for.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub pause: u64,
    /// Go on in the background once a restore can come.
    #[arg(short = 'd', long)]
    pub daemon: bool,
    /// Write a zero byte to this descriptor, and close it, once a restore can come.
    #[arg(long, value_name = "FD")]
    pub status_fd: Option<i32>,
    /// Write the process id of the daemon to this file.
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// How the daemon goes on in the background.
    #[arg(long, hide = true, value_name = "FD")]
    pub listening_fd: Option<i32>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "flattened into the help as they are")]
    pub common: CommonArgs,
}

/// Arguments of `lazy-guard`, which this program gives itself.
#[derive(Debug, Args)]
pub struct LazyGuardArgs {
    /// What becomes of the tree.
    #[arg(value_enum)]
    pub on_failure: OnFailure,
}
