//! [`Peer`]: who is at the other end of a connection, as far as the connection itself tells.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it connects from.
    pub address: SocketAddr,
    /// The client certificate it proved to own, of a CA that `tls_client_ca` names.
    pub certificate: Option<CertificateNames>,
}

/// The names in a certificate that can stand for an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// The common name of its subject, as the policy file writes it: `CN=billing`.
    pub subject: Option<String>,
    /// Its alternative names: DNS names, URIs and mail addresses.
    pub alternative: Vec<String>,
}

impl Peer {
    /// A peer without a certificate.
    pub fn at(address: SocketAddr) -> Peer {
        Peer { address, certificate: None }
    }

    /// For calls that came by no connection of ours.
    pub(crate) fn nowhere() -> Peer {
        Peer::at(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0))
    }
}

impl CertificateNames {
    /// All names, the alternative ones first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.alternative.iter().chain(&self.subject).map(String::as_str)
    }
}

impl fmt::Display for CertificateNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.all().collect();
        f.write_str(&if names.is_empty() { "without a name".to_owned() } else { names.join(", ") })
    }
}
