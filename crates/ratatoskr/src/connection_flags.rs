//! How commands reach a broker: its address, and what it is shown. The same flags for every command that talks to one.
//!
//! There is no `--token TOKEN`: what stands on a command line can be read by every user of the machine. A token comes from a
//! file, or from the environment.

use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use ratatoskr_bench::{Credentials, Target};
use ratatoskr_client::{Client, ClientError, ClientOptions, TlsOptions, Token};

use crate::exit::{Failure, Outcome};

/// The broker's address when nobody names one.
const SERVER_DEFAULT: &str = "localhost:50051";
/// The variable that holds a token.
const TOKEN_VARIABLE: &str = "RATATOSKR_TOKEN";

/// See the file's head.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct ConnectionFlags {
    /// The broker to talk to [default: localhost:50051; `bench` starts its own]; `https://HOST:PORT` for TLS; `serve`, `config` and `doctor` have no use for it
    #[arg(long, global = true, value_name = "HOST:PORT", env = "RATATOSKR_SERVER", hide_env_values = true)]
    pub(crate) server: Option<String>,
    /// Show the broker the token or JWT in this file; the variable `RATATOSKR_TOKEN` holds one itself
    #[arg(long, global = true, value_name = "FILE", env = "RATATOSKR_TOKEN_FILE", hide_env_values = true)]
    #[arg(value_hint = ValueHint::FilePath)]
    token_file: Option<PathBuf>,
    /// Use TLS, and believe only the CAs in this PEM file [default: those of the system]
    #[arg(long, global = true, value_name = "FILE", env = "RATATOSKR_TLS_CA", hide_env_values = true)]
    #[arg(value_hint = ValueHint::FilePath)]
    tls_ca: Option<PathBuf>,
    /// Use TLS, and show the broker the certificate in this PEM file
    #[arg(long, global = true, value_name = "FILE", env = "RATATOSKR_CLIENT_CERT", hide_env_values = true)]
    #[arg(value_hint = ValueHint::FilePath)]
    client_cert: Option<PathBuf>,
    /// The private key of that certificate, PEM
    #[arg(long, global = true, value_name = "FILE", env = "RATATOSKR_CLIENT_KEY", hide_env_values = true)]
    #[arg(value_hint = ValueHint::FilePath)]
    client_key: Option<PathBuf>,
}

impl ConnectionFlags {
    pub(crate) async fn connect(&self) -> Outcome<Client> {
        let server = self.server.as_deref().unwrap_or(SERVER_DEFAULT);
        let options = ClientOptions { tls: self.tls()?, token: self.token()?, ..ClientOptions::default() };
        Ok(Client::connect_with(server, options).await?)
    }

    /// For `bench`, whose connections are its own: the broker somebody named.
    pub(crate) fn bench_target(&self) -> Outcome<Option<Target>> {
        if self.client_cert.is_some() || self.client_key.is_some() {
            return Err(Failure::usage("`bench` shows no certificate; let it show a token"));
        }
        let (tls, token) = (self.tls()?, self.token()?);
        let Some(server) = self.server.clone() else {
            if tls.is_some() || self.token_file.is_some() {
                let message =
                    "the broker that `bench` starts asks for nothing; name another one with --server";
                return Err(Failure::usage(message));
            }
            return Ok(None);
        };
        if tls.is_none() && server.starts_with("https://") {
            return Err(Failure::usage("`bench` believes no CA unless --tls-ca names it"));
        }
        let ca = self.tls_ca.as_ref().map(fs::read).transpose();
        let ca = ca.map_err(|error| Failure::usage(format!("--tls-ca: {error}")))?;
        let authorization = token.map(|token| token.authorization());
        Ok(Some(Target { server, credentials: Credentials::new(ca, authorization.as_deref())? }))
    }

    fn token(&self) -> Outcome<Option<Token>> {
        if let Some(path) = &self.token_file {
            return Token::from_file(path).map(Some).map_err(|error| wrong(&error));
        }
        match std::env::var(TOKEN_VARIABLE) {
            Ok(text) => {
                let token = Token::new(text.trim());
                token.map(Some).map_err(|error| Failure::usage(format!("{TOKEN_VARIABLE}: {error}")))
            }
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(Failure::usage(format!(
                "the value of {TOKEN_VARIABLE} is no valid UTF-8; set it again, or unset it"
            ))),
        }
    }

    fn tls(&self) -> Outcome<Option<TlsOptions>> {
        let mut tls = TlsOptions::new();
        if let Some(path) = &self.tls_ca {
            tls = tls.ca_file(path).map_err(|error| wrong(&error))?;
        }
        match (&self.client_cert, &self.client_key) {
            (Some(cert), Some(key)) => {
                tls = tls.certificate_files(cert, key).map_err(|error| wrong(&error))?;
            }
            (None, None) if self.tls_ca.is_none() => return Ok(None),
            (None, None) => {}
            (Some(_), None) => {
                return Err(Failure::usage(
                    "--client-cert needs --client-key, the certificate's private key",
                ));
            }
            (None, Some(_)) => {
                return Err(Failure::usage(
                    "--client-key needs --client-cert, the certificate it belongs to",
                ));
            }
        }
        Ok(Some(tls))
    }
}

/// Nothing was tried.
fn wrong(error: &ClientError) -> Failure {
    Failure::usage(error.to_string())
}
