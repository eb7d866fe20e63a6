//! Connections that nobody else can read or take over: TLS, with certificates on both sides.
//!
//! Each side shows a certificate of its own, and trusts those that the given authority has signed, unless its list of revoked ones names
//! them. Of a server the name is checked too, as it was given; a certificate has it in its subject alternative names.

use super::channel::Channel;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, WebPkiServerVerifier};
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
};
use rustls::server::{ServerConnection, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme, StreamOwned,
};
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Longest time that the other side may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(60);

/// What can go wrong before anybody is reached.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file.
    #[error("cannot read the {what} for TLS in {}", path.display())]
    File {
        /// What is in it.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// There is nothing in a file.
    #[error("there is no {what} for TLS in {}", path.display())]
    Empty {
        /// What should be in it.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
    },
    /// Files that do not go together.
    #[error("the certificates for TLS cannot be used")]
    Unfit(#[source] rustls::Error),
    /// Authority or revoked certificates that cannot be used.
    #[error("the certificates for TLS cannot be used: {0}")]
    Verifier(String),
}

/// Files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Certificates of the authority.
    pub authority: PathBuf,
    /// Certificates that it has revoked.
    pub revoked: Option<PathBuf>,
    /// The own certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Who we are, and whom we trust.
#[derive(Debug, Clone)]
pub struct Tls {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    checks_name: bool,
}

impl Tls {
    /// Reads the files; `checks_name` = a server has to have the name by which it was reached.
    ///
    /// # Errors
    /// One is missing, or says nothing of use.
    pub fn load(files: &Files, checks_name: bool) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for authority in certificates("certificate of the authority", &files.authority)? {
            roots.add(authority).map_err(Error::Unfit)?;
        }
        let roots = Arc::new(roots);
        let revoked = match &files.revoked {
            Some(path) => {
                all::<CertificateRevocationListDer<'static>>("revoked certificates", path)?
            }
            None => Vec::new(),
        };
        let chain = certificates("certificate", &files.certificate)?;
        let key = || {
            PrivateKeyDer::from_pem_file(&files.key).map_err(|source| Error::File {
                what: "key",
                path: files.key.clone(),
                source,
            })
        };
        let words =
            |error: rustls::server::VerifierBuilderError| Error::Verifier(error.to_string());
        let of_servers =
            WebPkiServerVerifier::builder_with_provider(roots.clone(), provider.clone())
                .with_crls(revoked.clone())
                .enforce_revocation_expiration()
                .build()
                .map_err(words)?;
        let of_clients = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .with_crls(revoked)
            .enforce_revocation_expiration()
            .build()
            .map_err(words)?;
        let verifier = Arc::new(Verifier {
            inner: of_servers,
            checks_name,
        });
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(Error::Unfit)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_auth_cert(chain.clone(), key()?)
            .map_err(Error::Unfit)?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::Unfit)?
            .with_client_cert_verifier(of_clients)
            .with_single_cert(chain, key()?)
            .map_err(Error::Unfit)?;
        // There is one connection: nothing is gone on with later.
        server.send_tls13_tickets = 0;
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
            checks_name,
        })
    }

    /// Speaks to the server behind a socket, which is called `name`.
    ///
    /// # Errors
    /// It is not trusted, or speaks something else.
    pub fn connect(&self, socket: TcpStream, name: Option<&str>) -> io::Result<Channel> {
        let name = match name {
            Some(name) => name,
            None if !self.checks_name => "localhost",
            None => {
                let words =
                    "its name is not known: give it by --address, or use --tls-no-cn-verify";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, words));
            }
        };
        let name = ServerName::try_from(name.to_string());
        let name = name.map_err(io::Error::other)?;
        let connection = ClientConnection::new(self.client.clone(), name);
        let mut connection = connection.map_err(io::Error::other)?;
        let mut socket = socket;
        while connection.is_handshaking() {
            connection
                .complete_io(&mut socket)
                .map_err(|error| plain(error, "the server"))?;
        }
        Ok(Channel::Client(Box::new(StreamOwned::new(
            connection, socket,
        ))))
    }

    /// Speaks to the client behind a socket.
    ///
    /// # Errors
    /// It is not trusted, or speaks something else.
    pub fn accept(&self, socket: TcpStream) -> io::Result<Channel> {
        let connection = ServerConnection::new(self.server.clone());
        let mut connection = connection.map_err(io::Error::other)?;
        let mut socket = socket;
        socket.set_read_timeout(Some(PATIENCE))?;
        while connection.is_handshaking() {
            connection
                .complete_io(&mut socket)
                .map_err(|error| plain(error, "the client"))?;
        }
        socket.set_read_timeout(None)?;
        Ok(Channel::Server(Box::new(StreamOwned::new(
            connection, socket,
        ))))
    }
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    all(what, path)
}

/// Reads all of one kind that a file has.
fn all<T: PemObject>(what: &'static str, path: &Path) -> Result<Vec<T>, Error> {
    let failed = |source| Error::File {
        what,
        path: path.into(),
        source,
    };
    let found = T::pem_file_iter(path).map_err(failed)?;
    let found: Vec<T> = found.collect::<Result<_, _>>().map_err(failed)?;
    match found.is_empty() {
        true => Err(Error::Empty {
            what,
            path: path.into(),
        }),
        false => Ok(found),
    }
}

/// Says in plain words why a connection did not come to be.
pub(super) fn plain(error: io::Error, who: &str) -> io::Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    let words = match cause {
        Some(rustls::Error::InvalidMessage(_)) => {
            format!("{who} does not speak TLS: use --tls on both sides")
        }
        Some(rustls::Error::NoCertificatesPresented) => format!("{who} shows no certificate"),
        Some(rustls::Error::AlertReceived(alert)) => {
            format!("{who} does not trust us, or breaks off (TLS alert {alert:?})")
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::Revoked)) => {
            format!("the certificate of {who} was revoked")
        }
        Some(rustls::Error::InvalidCertificate(reason)) => {
            format!("the certificate of {who} is not trusted: {reason}")
        }
        Some(other) => format!("TLS with {who}: {other}"),
        None => match error.kind() {
            io::ErrorKind::WouldBlock => format!("{who} does not say who it is"),
            io::ErrorKind::UnexpectedEof => format!("{who} went before it said who it is"),
            _ => return error,
        },
    };
    io::Error::new(error.kind(), words)
}

/// Trusts servers as the library does, but for the name where nobody wants to know it.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    checks_name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // The name is looked at last: all else is right.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.checks_name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
