//! `Tls`: certificates, handshakes, and what a handshake tells of the peer. TLS 1.2 and 1.3 by rustls.
//!
//! ```text
//!   tls_cert, tls_key, tls_client_ca ──load──▶ two configurations: gRPC (h2), HTTP (http/1.1)
//!                                                │ swapped in whole by reload
//!   TcpStream ──accept──▶ handshake, at most 10 s ──▶ (Wire, Peer)
//! ```
//!
//! A client certificate is asked for when `tls_client_ca` is set, and never needed for the handshake: who has none may have a
//! token, and is told in words what is missing, which an alert of TLS cannot do.
//!
//! Invariant: what does not load changes nothing. Connections that exist keep the session they have.
//!
//! What this deliberately does not do: revocation lists. An identity is taken back by taking it out of the policy file.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{Error as RustlsError, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::access::{CertificateName, ClientCertificate, Peer};
use crate::limits::HANDSHAKE_TIMEOUT;
use crate::trusted_file::{TrustedFile, TrustedFileError};

/// Where certificates and keys are: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, and those between it and its root.
    pub cert: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// CAs whose client certificates are believed.
    pub client_ca: Option<PathBuf>,
}

/// Why TLS is not to be had with these files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{setting} {} cannot be read: {reason}", .path.display())]
    Unreadable {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        reason: String,
    },
    /// A file without what it should have.
    #[error("{setting} {} has no {wanted} in PEM format (-----BEGIN …)", .path.display())]
    Missing {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should have.
        wanted: &'static str,
    },
    /// A certificate that cannot be, or a key that is another's.
    #[error("{setting} {}: {reason}", .path.display())]
    Unusable {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What rustls says of it.
        reason: String,
    },
}

/// Which door a connection came to; they speak different protocols above TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Grpc,
    Http,
}

/// See the file's head.
pub(crate) struct Tls {
    files: TlsFiles,
    loaded: ArcSwap<Loaded>,
}

/// What the files held when they were read last.
struct Loaded {
    grpc: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    /// When the certificate ends, seconds since the Unix epoch.
    not_after_s: u64,
    /// What all of it was made of.
    read: Read,
}

/// The files' content.
#[derive(PartialEq)]
struct Read {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// A connection, with TLS or without.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Tls {
    pub(crate) fn load(files: TlsFiles) -> Result<Tls, TlsError> {
        let loaded = ArcSwap::from_pointee(Loaded::read(&files)?);
        Ok(Tls { files, loaded })
    }

    /// Reads the files anew, for connections from now on, if they say something else.
    pub(crate) fn reload(&self) -> Result<(), TlsError> {
        let loaded = Loaded::read(&self.files)?;
        if loaded.read == self.loaded.load().read {
            return Ok(());
        }
        tracing::info!(cert = %self.files.cert.display(), not_after_s = loaded.not_after_s, "the certificate is in force");
        self.loaded.store(Arc::new(loaded));
        Ok(())
    }

    /// The files to look at for changes.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let TlsFiles { cert, key, client_ca } = self.files.clone();
        [Some(cert), Some(key), client_ca].into_iter().flatten().collect()
    }

    /// When the certificate ends, seconds since the Unix epoch.
    pub(crate) fn not_after_s(&self) -> u64 {
        self.loaded.load().not_after_s
    }
}

/// Shakes hands, if there is TLS, and says who is at the other end.
pub(crate) async fn accept(tls: Option<&Tls>, door: Door, stream: TcpStream) -> io::Result<(Wire, Peer)> {
    let mut peer = Peer::at(stream.peer_addr()?);
    let Some(tls) = tls else { return Ok((Wire::Plain(stream), peer)) };
    let config = {
        let loaded = tls.loaded.load();
        match door {
            Door::Grpc => loaded.grpc.clone(),
            Door::Http => loaded.http.clone(),
        }
    };
    let shaken = timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await;
    let stream = shaken.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let proved = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    peer.certificate = proved.map(client_certificate);
    Ok((Wire::Tls(Box::new(stream)), peer))
}

impl Loaded {
    fn read(files: &TlsFiles) -> Result<Loaded, TlsError> {
        let provider = Arc::new(default_provider());
        let read = Read::all(files)?;
        let chain = certificates("tls_cert", &files.cert, &read.cert)?;
        let not_after_s = not_after_s(&chain[0]).ok_or_else(|| {
            unusable("tls_cert", &files.cert, &"its first certificate is no X.509 certificate")
        })?;
        let key = PrivateKeyDer::from_pem_slice(&read.key)
            .map_err(|error| pem_error("tls_key", &files.key, "private key", &error))?;
        let client_ca = files.client_ca.as_deref().zip(read.client_ca.as_deref());
        let verifier = client_ca.map(|(path, pem)| client_verifier(path, pem, &provider)).transpose()?;
        let config = |protocol: &[u8]| {
            let builder = ServerConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .expect("the provider speaks TLS 1.2 and 1.3");
            let builder = match verifier.clone() {
                Some(verifier) => builder.with_client_cert_verifier(verifier),
                None => builder.with_no_client_auth(),
            };
            let mut config = builder
                .with_single_cert(chain.clone(), key.clone_key())
                .map_err(|error| unusable("tls_key", &files.key, &in_words(&error)))?;
            config.alpn_protocols = vec![protocol.to_vec()];
            Ok(Arc::new(config))
        };
        Ok(Loaded { grpc: config(b"h2")?, http: config(b"http/1.1")?, not_after_s, read })
    }
}

impl Read {
    fn all(files: &TlsFiles) -> Result<Read, TlsError> {
        let cert = read("tls_cert", &files.cert)?;
        let key = read("tls_key", &files.key)?;
        if key.is_readable_by_others() {
            let path = files.key.display();
            tracing::warn!(%path, "every user of this machine can read the TLS key; run `chmod o-r {path}`");
        }
        let client_ca = files.client_ca.as_deref().map(|path| read("tls_client_ca", path)).transpose()?;
        Ok(Read { cert: cert.bytes, key: key.bytes, client_ca: client_ca.map(|file| file.bytes) })
    }
}

fn read(setting: &'static str, path: &Path) -> Result<TrustedFile, TlsError> {
    TrustedFile::read(path).map_err(|error| match error {
        TrustedFileError::Unreadable(error) => {
            TlsError::Unreadable { setting, path: path.to_owned(), reason: error.to_string() }
        }
        error => unusable(setting, path, &error),
    })
}

fn client_verifier(
    path: &Path,
    pem: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let setting = "tls_client_ca";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(setting, path, pem)? {
        roots.add(certificate).map_err(|error| unusable(setting, path, &error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| unusable(setting, path, &error))
}

/// All certificates of a file, at least one.
fn certificates(
    setting: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| pem_error(setting, path, "certificate", &error))?;
    if chain.is_empty() {
        return Err(TlsError::Missing { setting, path: path.to_owned(), wanted: "certificate" });
    }
    Ok(chain)
}

fn pem_error(setting: &'static str, path: &Path, wanted: &'static str, error: &pem::Error) -> TlsError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(error) => TlsError::Unreadable { setting, path, reason: error.to_string() },
        _ => TlsError::Missing { setting, path, wanted },
    }
}

fn unusable(setting: &'static str, path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::Unusable { setting, path: path.to_owned(), reason: reason.to_string() }
}

fn in_words(error: &RustlsError) -> String {
    match error {
        RustlsError::InconsistentKeys(_) => "the key is not that of the certificate in tls_cert".to_owned(),
        error => error.to_string(),
    }
}

fn not_after_s(certificate: &CertificateDer<'_>) -> Option<u64> {
    let (_, parsed) = parse_x509_certificate(certificate).ok()?;
    u64::try_from(parsed.validity().not_after.timestamp()).ok()
}

/// What a certificate says that rustls has verified. One that cannot be read has no names, and has expired.
fn client_certificate(certificate: &CertificateDer<'_>) -> ClientCertificate {
    let Ok((_, parsed)) = parse_x509_certificate(certificate) else { return ClientCertificate::default() };
    let mut names = Vec::new();
    if let Ok(Some(extension)) = parsed.subject_alternative_name() {
        for name in &extension.value.general_names {
            match name {
                GeneralName::DNSName(name) => names.push(CertificateName::dns(name)),
                GeneralName::URI(name) => names.push(CertificateName::Uri((*name).to_owned())),
                GeneralName::RFC822Name(name) => names.push(CertificateName::Email((*name).to_owned())),
                _ => {}
            }
        }
    }
    // Of several common names nobody could say which one is meant.
    let mut common = parsed.subject().iter_common_name();
    if let (Some(name), None) = (common.next(), common.next())
        && let Ok(name) = name.as_str()
    {
        names.push(CertificateName::CommonName(name.to_owned()));
    }
    // Valid through its last second, RFC 5280.
    let until_s =
        u64::try_from(parsed.validity().not_after.timestamp()).map_or(0, |last| last.saturating_add(1));
    ClientCertificate { names, until_s }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(context),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Wire::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests;
