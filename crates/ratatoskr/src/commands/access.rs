//! `ratatoskr access`: makes tokens, and looks a policy file over before the broker does.

use std::io::Write as _;
use std::path::PathBuf;

use clap::Subcommand;
use ratatoskr_server::access::{TokenDigest, check_policy, new_token};

use crate::exit::{Failure, Outcome};

#[derive(Debug, Subcommand)]
pub(crate) enum AccessCommand {
    /// Make a token for an identity: the token goes to standard output, what the policy file needs to standard error
    Token {
        /// The identity, as the policy file names it
        name: String,
    },
    /// Read a policy file as the broker would, and say what it holds or what is wrong with it
    Check {
        /// The policy file
        file: PathBuf,
    },
}

pub(crate) fn run(command: &AccessCommand) -> Outcome {
    match command {
        AccessCommand::Token { name } => token(name),
        AccessCommand::Check { file } => {
            let holds = check_policy(file).map_err(|error| Failure::usage(error.to_string()))?;
            Ok(writeln!(std::io::stdout(), "{} is good: {holds}", file.display())?)
        }
    }
}

/// The token alone on standard output, so that it can go straight into a file or a secret store.
fn token(name: &str) -> Outcome {
    let token = new_token();
    let digest = TokenDigest::of(&token).expect("a new token is of their form").to_hex();
    writeln!(std::io::stdout(), "{token}")?;
    // Names with other characters than these are written in quotes.
    let is_bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let name = if is_bare && !name.is_empty() { name.to_owned() } else { format!("{name:?}") };
    anstream::eprintln!(
        "keep the token secret: it is not shown again. The policy file knows it by this:\n\n\
         [identities.{name}]\nroles = []\ntoken_sha256 = [\"{digest}\"]"
    );
    Ok(())
}
