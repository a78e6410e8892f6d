//! A CA made for the test, certificates of it, and the files they go into. Also used by the tests in `src/tls/` and of the binary.
#![allow(dead_code, reason = "each user uses its part")]

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};

/// A CA, and a folder for what it issues.
pub(crate) struct Authority {
    pub(crate) certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

/// Where a certificate and its key are.
pub(crate) struct Files {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let authority =
            Authority { certificate, issuer: Issuer::new(params, key), folder: tempfile::tempdir().unwrap() };
        authority.write("ca.pem", &authority.certificate.pem());
        authority
    }

    /// A certificate for a subject, with these names; what looks like a URI is one, and what says so.
    pub(crate) fn issue(&self, common_name: &str, names: &[&str]) -> (Certificate, KeyPair) {
        use rcgen::SanType;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        let name = |name: &&str| match (name.split_once(':'), name.parse()) {
            (Some(("uri", name)), _) => SanType::URI(name.try_into().unwrap()),
            (Some(("email", name)), _) => SanType::Rfc822Name(name.try_into().unwrap()),
            (Some(_), Err(_)) => SanType::URI((*name).try_into().unwrap()),
            (_, Ok(address)) => SanType::IpAddress(address),
            (None, Err(_)) => SanType::DnsName((*name).try_into().unwrap()),
        };
        params.subject_alt_names = names.iter().map(name).collect();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Issues into files, in place of what was there.
    pub(crate) fn issue_files(&self, file: &str, common_name: &str, names: &[&str]) -> Files {
        let (certificate, key) = self.issue(common_name, names);
        Files {
            cert: self.write(&format!("{file}.pem"), &certificate.pem()),
            key: self.write(&format!("{file}.key"), &key.serialize_pem()),
        }
    }

    /// The server's, good for this machine.
    pub(crate) fn server_files(&self) -> Files {
        self.issue_files("server", "broker", &["localhost", "127.0.0.1"])
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}
