//! [`Token`] and [`TlsOptions`]: how a client says who it is, and how it knows the broker.
//!
//! Invariant: neither shows a secret. `Debug` of both says that something is there, not what; errors name files, not contents.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tonic::{Code, Request, Status};

use crate::error::ClientError;

/// How often a token's file is looked at for a new token.
const FILE_LOOK: Duration = Duration::from_secs(1);

/// What a client shows with every call: a token of the broker's, or a JWT. Never shown to people.
#[derive(Clone)]
pub struct Token {
    /// The header's value, ready to be sent.
    value: AsciiMetadataValue,
    /// Where it came from, if it may be replaced there.
    file: Option<Arc<TokenFile>>,
}

/// A file that holds a token, and what was found there last.
struct TokenFile {
    path: PathBuf,
    found: Mutex<Found>,
}

struct Found {
    value: AsciiMetadataValue,
    modified: Option<SystemTime>,
    looked: Instant,
}

impl Token {
    /// A token given as text.
    pub fn new(text: &str) -> Result<Token, ClientError> {
        Ok(Token { value: header_value(text)?, file: None })
    }

    /// A token from a file, without the white space around it. When the file changes, calls from then on (a second later at most)
    /// show what is in it: a JWT can be renewed under a running client.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Token, ClientError> {
        let path = path.as_ref();
        let (value, modified) = read_token(path)?;
        let found = Found { value: value.clone(), modified, looked: Instant::now() };
        let file = TokenFile { path: path.to_owned(), found: Mutex::new(found) };
        Ok(Token { value, file: Some(Arc::new(file)) })
    }

    /// The value of the header `authorization`, for calls that are not made here. It is the secret itself: show it to the broker alone.
    pub fn authorization(&self) -> String {
        self.value().to_str().unwrap_or_default().to_owned()
    }

    fn value(&self) -> AsciiMetadataValue {
        self.file.as_ref().map_or_else(|| self.value.clone(), |file| file.value())
    }
}

impl TokenFile {
    /// The token as it is now. What cannot be read, or is being written, leaves the one before.
    fn value(&self) -> AsciiMetadataValue {
        let mut found = self.found.lock().expect("nobody panics while holding it");
        if found.looked.elapsed() >= FILE_LOOK {
            found.looked = Instant::now();
            let modified = modified(&self.path);
            if modified.is_some()
                && modified != found.modified
                && let Ok((value, modified)) = read_token(&self.path)
            {
                (found.value, found.modified) = (value, modified);
            }
        }
        found.value.clone()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

/// How a client knows the broker's certificate, and the one it shows itself.
#[derive(Clone, Default)]
pub struct TlsOptions {
    /// PEM of the CAs that are believed; `None`: those of the operating system.
    ca: Option<Vec<u8>>,
    /// PEM of certificate and key.
    own: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsOptions {
    /// Believes the CAs of the operating system, and shows no certificate.
    pub fn new() -> TlsOptions {
        TlsOptions::default()
    }

    /// Believes only the CAs in a PEM file.
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Result<TlsOptions, ClientError> {
        self.ca = Some(read_pem(path.as_ref(), "CERTIFICATE")?);
        Ok(self)
    }

    /// Shows the certificate in a PEM file, with its private key in another.
    pub fn certificate_files(
        mut self,
        cert: impl AsRef<Path>,
        key: impl AsRef<Path>,
    ) -> Result<TlsOptions, ClientError> {
        refuse_writable("private key", key.as_ref())?;
        self.own = Some((read_pem(cert.as_ref(), "CERTIFICATE")?, read_pem(key.as_ref(), "PRIVATE KEY")?));
        Ok(self)
    }

    pub(crate) fn config(&self) -> ClientTlsConfig {
        let config = match &self.ca {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        match &self.own {
            Some((cert, key)) => config.identity(Identity::from_pem(cert, key)),
            None => config,
        }
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_own = self.own.is_some();
        f.debug_struct("TlsOptions").field("has_ca", &self.ca.is_some()).field("has_own", &has_own).finish()
    }
}

/// Puts the token, if there is one, on every call.
#[derive(Clone, Debug)]
pub(crate) struct Bearer(pub(crate) Option<Token>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.value());
        }
        Ok(request)
    }
}

fn read_token(path: &Path) -> Result<(AsciiMetadataValue, Option<SystemTime>), ClientError> {
    let modified = modified(path);
    refuse_writable("token file", path)?;
    let text = fs::read_to_string(path).map_err(|error| unreadable("token file", path, &error))?;
    header_value(text.trim())
        .map(|value| (value, modified))
        .map_err(|error| ClientError::invalid(error.reason(), format!("{}: {error}", path.display())))
}

fn header_value(text: &str) -> Result<AsciiMetadataValue, ClientError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = "the token is empty, or has white space or other characters no token has; `ratatoskr access token NAME` makes one";
        return Err(ClientError::invalid("TOKEN", message));
    }
    let mut value: AsciiMetadataValue =
        format!("Bearer {text}").parse().expect("visible ASCII is a header's value");
    value.set_sensitive(true);
    Ok(value)
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn read_pem(path: &Path, label: &str) -> Result<Vec<u8>, ClientError> {
    let pem = fs::read(path).map_err(|error| unreadable("file", path, &error))?;
    let has_label = String::from_utf8_lossy(&pem).lines().any(|line| {
        line.strip_prefix("-----BEGIN ").is_some_and(|rest| rest.ends_with(&format!("{label}-----")))
    });
    if !has_label {
        let message =
            format!("{} has no {} in PEM format (-----BEGIN …)", path.display(), label.to_lowercase());
        return Err(ClientError::invalid("TLS_FILE", message));
    }
    Ok(pem)
}

/// Whoever can write a credential's file chooses as whom this client acts. What is only *readable* by others is not refused: secrets that are
/// mounted into a container often are, and nobody else is there.
#[cfg(unix)]
fn refuse_writable(what: &str, path: &Path) -> Result<(), ClientError> {
    use std::os::unix::fs::MetadataExt as _;
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.mode() & 0o7777);
    if mode & 0o022 == 0 {
        return Ok(());
    }
    let path = path.display();
    let message = format!(
        "users other than its owner can write the {what} {path} (mode {mode:04o}), and so decide as whom this client acts; run `chmod go-w {path}`"
    );
    Err(ClientError::invalid("FILE_WRITABLE_BY_OTHERS", message))
}

/// Elsewhere a mode says nothing.
#[cfg(not(unix))]
fn refuse_writable(_what: &str, _path: &Path) -> Result<(), ClientError> {
    Ok(())
}

fn unreadable(what: &str, path: &Path, error: &std::io::Error) -> ClientError {
    ClientError::new(
        Code::InvalidArgument,
        "FILE_UNREADABLE",
        format!("the {what} {} cannot be read: {error}", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_debug_nor_errors_show_what_is_secret() {
        let folder = tempfile::tempdir().unwrap();
        let secret = "rtk_this-is-secret";
        assert!(!format!("{:?}", Token::new(secret).unwrap()).contains("secret"));
        let bearer = format!("{:?}", Bearer(Some(Token::new(secret).unwrap())));
        assert!(!bearer.contains("secret"), "{bearer}");
        let error = Token::new("this-is secret").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        let path = folder.path().join("token");
        fs::write(&path, "two secrets\nhere").unwrap();
        let error = Token::from_file(&path).unwrap_err().to_string();
        assert!(error.contains("token: the token is empty, or has white space"), "{error}");
        assert!(!error.contains("two"), "{error}");
        let error = TlsOptions::new().ca_file(&path).unwrap_err().to_string();
        assert!(error.ends_with("token has no certificate in PEM format (-----BEGIN …)"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_credential_that_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "secret").unwrap();
        let set_mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        set_mode(0o620);
        for error in [
            Token::from_file(&path).unwrap_err(),
            TlsOptions::new().certificate_files(&path, &path).unwrap_err(),
        ] {
            assert_eq!(error.reason(), "FILE_WRITABLE_BY_OTHERS", "{error}");
            assert!(error.to_string().ends_with(&format!("`chmod go-w {}`", path.display())), "{error}");
        }
        set_mode(0o644);
        Token::from_file(&path).unwrap();
    }

    #[test]
    fn a_renewed_token_is_shown_and_a_broken_file_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "first\n").unwrap();
        let token = Token::from_file(&path).unwrap();
        let shown = |token: &Token| {
            // As if the second had passed.
            let file = token.file.as_ref().unwrap();
            file.found.lock().unwrap().looked = Instant::now().checked_sub(FILE_LOOK).unwrap();
            token.value().to_str().unwrap().to_owned()
        };
        assert_eq!(shown(&token), "Bearer first");
        let rewrite = |text: &str, time: u64| {
            fs::write(&path, text).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(time);
            fs::File::options().append(true).open(&path).unwrap().set_modified(time).unwrap();
        };
        rewrite("second\n", 1_000_000);
        assert_eq!(shown(&token.clone()), "Bearer second");
        rewrite("", 2_000_000);
        assert_eq!(shown(&token), "Bearer second");
        fs::remove_file(&path).unwrap();
        assert_eq!(shown(&token), "Bearer second");
    }
}
