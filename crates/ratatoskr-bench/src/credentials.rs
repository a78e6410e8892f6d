//! [`Credentials`]: how the load generator knows the broker, and who it says it is.
//!
//! Invariant: neither is shown. `Debug` says that something is there, not what.

use std::fmt;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig};
use tonic::{Request, Status};

use crate::error::{BenchError, Outcome};

/// What HTTP/2 calls itself when a TLS session begins (RFC 7301).
const ALPN: &[u8] = b"h2";

/// See the file's head.
#[derive(Clone, Default)]
pub struct Credentials {
    tls: Option<Tls>,
    /// The value of the header `authorization`.
    authorization: Option<AsciiMetadataValue>,
}

#[derive(Clone)]
struct Tls {
    /// PEM of the CAs that are believed.
    ca: Vec<u8>,
    /// The same, for connections that carry load.
    connector: TlsConnector,
}

impl Tls {
    fn new(ca: Vec<u8>) -> Outcome<Tls> {
        Ok(Tls { connector: connector(&ca)?, ca })
    }
}

impl Credentials {
    /// Speaks TLS if PEM of the CAs to believe is given; sends a header `authorization` if its value is.
    pub fn new(ca: Option<Vec<u8>>, authorization: Option<&str>) -> Result<Credentials, BenchError> {
        let tls = ca.map(Tls::new).transpose()?;
        let wrong = |_| BenchError::Usage("the token is no value of a header".to_owned());
        let authorization = authorization.map(str::parse).transpose().map_err(wrong)?;
        Ok(Credentials { tls, authorization })
    }

    /// How the broker is spoken to.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// TLS of a connection that carries load.
    pub(crate) fn connector(&self) -> Option<&TlsConnector> {
        self.tls.as_ref().map(|tls| &tls.connector)
    }

    /// TLS of everything that is not measured.
    pub(crate) fn tonic(&self) -> Option<ClientTlsConfig> {
        let ca = |tls: &Tls| ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.ca));
        self.tls.as_ref().map(ca)
    }

    /// The value of the header `authorization`.
    pub(crate) fn authorization(&self) -> Option<&str> {
        self.authorization.as_ref().and_then(|value| value.to_str().ok())
    }
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (has_tls, has_token) = (self.tls.is_some(), self.authorization.is_some());
        f.debug_struct("Credentials").field("has_tls", &has_tls).field("has_token", &has_token).finish()
    }
}

fn connector(ca: &[u8]) -> Outcome<TlsConnector> {
    let wrong = |error: String| BenchError::Usage(format!("the CA file: {error}"));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
