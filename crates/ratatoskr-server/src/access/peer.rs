//! [`Peer`]: who is at the other end of a connection, as far as the connection itself tells.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::denied::Denied;

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it connects from.
    pub address: SocketAddr,
    /// The client certificate it proved to own, of a CA that `tls_client_ca` names.
    pub certificate: Option<ClientCertificate>,
}

/// What a client certificate says of its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The names that can stand for an identity, the alternative ones first, the subject's common name last.
    pub names: Vec<CertificateName>,
    /// From when on it is not valid any more, seconds since the Unix epoch. It was when its connection was made, which may be long ago.
    pub until_s: u64,
}

/// A name in a certificate. Names of different kinds are never the same: who gets a certificate for a URI has not shown to be the host, or
/// the subject, of that spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CertificateName {
    /// The common name of the subject, `cn:billing`.
    CommonName(String),
    /// A DNS name, `dns:billing.internal`, in lower case.
    Dns(String),
    /// A URI, `uri:spiffe://acme/billing`.
    Uri(String),
    /// A mail address, `email:billing@acme.example`.
    Email(String),
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

impl ClientCertificate {
    /// Whether it is still valid.
    pub(super) fn check(&self, now_s: u64) -> Result<(), Denied> {
        match now_s.checked_sub(self.until_s) {
            Some(expired_s) => Err(Denied::CertificateExpired { expired_s }),
            None => Ok(()),
        }
    }
}

impl CertificateName {
    /// A DNS name as a certificate has it; their letters have no case.
    pub fn dns(name: &str) -> CertificateName {
        CertificateName::Dns(name.to_ascii_lowercase())
    }

    /// Reads a name as the policy file writes it: with its kind before it (`cn:`, `dns:`, `uri:`, `email:`; also `CN=` for `cn:`). Without, what
    /// has `://` in it is a URI, what has `@` in it a mail address, and what consists of letters, digits, `.`, `-`, `_` and `*` a DNS name. The error
    /// says what is wrong.
    ///
    /// ```
    /// use ratatoskr_server::access::CertificateName;
    /// assert_eq!(CertificateName::parse("CN=billing"), Ok(CertificateName::CommonName("billing".to_owned())));
    /// assert_eq!(CertificateName::parse("billing"), Ok(CertificateName::Dns("billing".to_owned())));
    /// assert_eq!(CertificateName::parse("uri:CN=billing"), Ok(CertificateName::Uri("CN=billing".to_owned())));
    /// ```
    pub fn parse(text: &str) -> Result<CertificateName, String> {
        let is_dns_name = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'*'))
        };
        let prefixed = [
            ("cn:", CertificateName::CommonName as fn(String) -> CertificateName),
            ("CN=", CertificateName::CommonName),
            ("dns:", |name| CertificateName::dns(&name)),
            ("uri:", CertificateName::Uri),
            ("email:", CertificateName::Email),
        ];
        let found = prefixed.iter().find_map(|(prefix, kind)| Some((text.strip_prefix(prefix)?, kind)));
        match found {
            Some(("", _)) => Err(format!("certificate name {text:?} is empty after its kind")),
            Some((name, kind)) => Ok(kind(name.to_owned())),
            None if text.contains("://") => Ok(CertificateName::Uri(text.to_owned())),
            None if text.contains('@') => Ok(CertificateName::Email(text.to_owned())),
            None if !text.is_empty() && is_dns_name(text) => Ok(CertificateName::dns(text)),
            None => Err(format!(
                "certificate name {text:?} is of no known kind; write cn:, dns:, uri: or email: before it"
            )),
        }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match self {
            CertificateName::CommonName(name) => ("cn", name),
            CertificateName::Dns(name) => ("dns", name),
            CertificateName::Uri(name) => ("uri", name),
            CertificateName::Email(name) => ("email", name),
        };
        write!(f, "{kind}:{name}")
    }
}

impl fmt::Display for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.names.is_empty() {
            return f.write_str("without a name");
        }
        for (index, name) in self.names.iter().enumerate() {
            write!(f, "{}{name}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_name_has_one_kind_however_it_is_written() {
        let parse = |text| CertificateName::parse(text).map(|name| name.to_string());
        for (text, typed) in [
            ("cn:billing", "cn:billing"),
            ("CN=billing", "cn:billing"),
            ("dns:Billing.Internal", "dns:billing.internal"),
            ("billing.internal", "dns:billing.internal"),
            ("spiffe://acme/billing", "uri:spiffe://acme/billing"),
            ("uri:CN=billing", "uri:CN=billing"),
            ("dns:CN=billing", "dns:cn=billing"),
            ("a@acme.example", "email:a@acme.example"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(typed));
        }
        for text in ["", "cn:", "cn=billing", "urn:acme:billing", "two words"] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(&format!("certificate name {text:?} is ")), "{error}");
        }
    }
}
