//! [`Policy`]: what the policy file says, checked and ready to decide by.
//!
//! ```text
//!   access.toml ──┬─ identities ──▶ by token digest, by certificate name ─▶ Caller
//!                 ├─ roles ───────▶ grants ──────────┐
//!                 ├─ namespaces ──▶ prefixes, quotas ┴─▶ Rights, shared by callers of the same roles
//!                 └─ jwt, JWKS file ──▶ Issuer
//! ```
//!
//! Reading is all or nothing: one mistake, and the policy in force stays. Namespaces whose settings have not changed are
//! taken over from it with what they have used up.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use ring::digest::{Context, SHA256};
use toml::de::DeTable;

use super::action::{Action, Actions};
use super::caller::{By, Caller};
use super::denied::{Denied, JwtRefusal};
use super::jwt::{Issuer, keys_of};
use super::pattern::Pattern;
use super::peer::{CertificateName, ClientCertificate};
use super::quota::{Namespace, NamespaceSettings};
use super::rights::{Grant, Namespaces, Rights, Role};
use super::section::{Page, PolicyError, Section};
use super::token::TokenDigest;
use crate::trusted_file::{TrustedFile, TrustedFileError};

/// Sets of roles and namespace that JWTs have had and that are kept; beyond them each JWT gets rights of its own.
const JWT_RIGHTS_MAX: usize = 1024;

/// Roles and namespace of a JWT.
type JwtKey = (Vec<String>, Option<String>);

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Policy {
    by_token: HashMap<TokenDigest, Arc<Caller>>,
    by_certificate: HashMap<CertificateName, Arc<Caller>>,
    roles: HashMap<String, Arc<Role>>,
    pub(super) namespaces: Arc<Namespaces>,
    jwt: Option<Issuer>,
    jwt_rights: Mutex<HashMap<JwtKey, Arc<Rights>>>,
    /// Which of the policies since the start this is.
    generation: u64,
    /// What it was read from, to be looked at for changes.
    files: Vec<PathBuf>,
    /// Of what stood there.
    digest: FileDigest,
}

/// SHA-256 of what a policy was read from.
type FileDigest = [u8; 32];

impl Policy {
    /// Reads a policy file and what it names.
    pub(super) fn read(path: &Path, generation: u64, before: Option<&Policy>) -> Result<Policy, PolicyError> {
        let mut hash = Context::new(&SHA256);
        let text = read_file("policy file", path, &mut hash)?;
        let page = Page { path, text: &text };
        let table = DeTable::parse(&text)
            .map_err(|error| page.error(error.span().map_or(0, |span| span.start), error.message()))?;
        let mut file = Section::new(page, String::new(), 0, table.get_ref());
        let roles = read_roles(&mut file)?;
        let namespaces = Arc::new(read_namespaces(&mut file, before)?);
        let mut files = vec![path.to_owned()];
        let jwt = file
            .section("jwt")?
            .map(|section| read_issuer(section, path, &mut files, &mut hash))
            .transpose()?;
        let digest = hash.finish().as_ref().try_into().expect("SHA-256 has 32 bytes");
        let mut policy = Policy {
            by_token: HashMap::new(),
            by_certificate: HashMap::new(),
            roles,
            namespaces,
            jwt,
            jwt_rights: Mutex::default(),
            generation,
            files,
            digest,
        };
        for (name, section) in file.sections("identities")? {
            policy.add_identity(name, section)?;
        }
        file.finish()?;
        Ok(policy)
    }

    /// Whether the other one was read from the same text, and therefore says the same.
    pub(super) fn says_the_same_as(&self, other: &Policy) -> bool {
        self.digest == other.digest
    }

    /// The files it was read from.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// How much of what it holds.
    pub(super) fn describe(&self) -> String {
        let jwt = if self.jwt.is_some() { ", JWTs of one issuer" } else { "" };
        let (tokens, names) = (self.by_token.len(), self.by_certificate.len());
        let namespaces = match self.namespaces.all() {
            [] => String::new(),
            all => format!(
                ", namespaces {}",
                all.iter().map(|one| one.describe()).collect::<Vec<_>>().join(", ")
            ),
        };
        format!("{tokens} tokens, {names} certificate names, {} roles{jwt}{namespaces}", self.roles.len())
    }

    /// The caller a token or JWT stands for.
    pub(super) fn bearer(&self, credential: &str, now_s: u64) -> Result<Arc<Caller>, Denied> {
        match &self.jwt {
            Some(issuer) if Issuer::is_jwt(credential) => self.jwt_caller(issuer, credential, now_s),
            _ => self.token(TokenDigest::of(credential).ok_or(Denied::UnknownToken)?),
        }
    }

    /// The caller a token's digest stands for.
    pub(super) fn token(&self, digest: TokenDigest) -> Result<Arc<Caller>, Denied> {
        self.by_token.get(&digest).cloned().ok_or(Denied::UnknownToken)
    }

    /// The caller a certificate stands for, by the first of its names that stands for one, and for as long as it is valid.
    pub(super) fn certificate(
        &self,
        certificate: &ClientCertificate,
        now_s: u64,
    ) -> Result<Arc<Caller>, Denied> {
        certificate.check(now_s)?;
        let known = certificate.names.iter().find_map(|name| self.by_certificate.get(name));
        let known = known.ok_or_else(|| Denied::UnknownCertificate { names: certificate.to_string() })?;
        Ok(Arc::new(Caller::clone(known).by_certificate(certificate)))
    }

    /// The same caller under this policy, who was let in under an earlier one.
    pub(super) fn again(&self, caller: &Caller, now_s: u64) -> Result<Arc<Caller>, Denied> {
        match caller.by() {
            By::Token(digest) => self.token(*digest),
            By::Certificate(certificate) => self.certificate(certificate, now_s),
            // What was signed then is checked by today's keys.
            By::Jwt(jwt) => {
                let jwt = std::str::from_utf8(jwt.bytes()).expect("it was text when it was checked");
                self.bearer(jwt, now_s)
            }
            // Let in when nobody was asked.
            By::Nobody => Err(Denied::NoCredentials),
        }
    }

    fn jwt_caller(&self, issuer: &Issuer, jwt: &str, now_s: u64) -> Result<Arc<Caller>, Denied> {
        let claims = issuer.check(jwt, now_s)?;
        let home = match &claims.namespace {
            None => None,
            Some(name) => Some(self.namespaces.named(name).ok_or(JwtRefusal::Namespace)?.clone()),
        };
        let key = (claims.roles, claims.namespace);
        let known = self.jwt_rights.lock().get(&key).cloned();
        let rights = known.unwrap_or_else(|| {
            // Roles that are not in the file allow nothing.
            let roles = key.0.iter().filter_map(|role| self.roles.get(role)).cloned().collect();
            let rights = Arc::new(Rights::new(roles, home, self.namespaces.clone()));
            let mut all = self.jwt_rights.lock();
            if all.len() < JWT_RIGHTS_MAX {
                all.insert(key, rights.clone());
            }
            rights
        });
        let by = By::Jwt(jwt.as_bytes().into());
        Ok(Arc::new(
            Caller::known(claims.who.as_str().into(), by, rights, self.generation).until(claims.until_s),
        ))
    }

    fn add_identity(&mut self, name: &str, mut section: Section<'_>) -> Result<(), PolicyError> {
        let mut roles = Vec::new();
        for (role, position) in section.texts("roles")? {
            let known = self.roles.get(role).ok_or_else(|| {
                section.error_at(position, unknown("role", role, self.roles.keys().map(String::as_str)))
            })?;
            roles.push(known.clone());
        }
        let home = match section.text("namespace")? {
            None => None,
            Some((name, position)) => Some(self.namespaces.named(name).cloned().ok_or_else(|| {
                section.error_at(position, format!("there is no namespace {name:?}; add [namespaces.{name}]"))
            })?),
        };
        let rights = Arc::new(Rights::new(roles, home, self.namespaces.clone()));
        let who: Arc<str> = name.into();
        let caller = |by| Arc::new(Caller::known(who.clone(), by, rights.clone(), self.generation));
        let digests = section.texts("token_sha256")?;
        let names = section.texts("certificate")?;
        if digests.is_empty() && names.is_empty() {
            let place = section.name();
            return Err(section.error(format!(
                "{place} needs token_sha256 or certificate; `ratatoskr access token {name}` makes one"
            )));
        }
        for (text, position) in digests {
            let digest = TokenDigest::parse(text).ok_or_else(|| {
                // Not repeated: somebody may have put the token itself here.
                section.error_at(position, "token_sha256 is no SHA-256 digest of 64 hexadecimal digits; `ratatoskr access token NAME` prints one")
            })?;
            if self.by_token.insert(digest, caller(By::Token(digest))).is_some() {
                return Err(section.error_at(position, "this token stands for two identities"));
            }
        }
        for (text, position) in names {
            let name = CertificateName::parse(text).map_err(|reason| section.error_at(position, reason))?;
            let message = format!("certificate name {name} stands for two identities");
            // By which certificate somebody comes is known when they come.
            if self.by_certificate.insert(name, caller(By::Nobody)).is_some() {
                return Err(section.error_at(position, message));
            }
        }
        section.finish()
    }
}

fn read_roles(file: &mut Section<'_>) -> Result<HashMap<String, Arc<Role>>, PolicyError> {
    let mut roles = HashMap::new();
    for (name, mut section) in file.sections("roles")? {
        let mut grants = Vec::new();
        for mut allowed in section.list("allow")? {
            grants.push(read_grant(&mut allowed)?);
            allowed.finish()?;
        }
        section.finish()?;
        roles.insert(name.to_owned(), Arc::new(grants));
    }
    Ok(roles)
}

fn read_grant(section: &mut Section<'_>) -> Result<Grant, PolicyError> {
    let mut actions = Actions::NONE;
    for (word, position) in section.texts("actions")? {
        let action = Action::parse(word).ok_or_else(|| {
            section
                .error_at(position, unknown("action", word, Action::ALL.iter().map(|action| action.word())))
        })?;
        actions = actions.and(Actions::of(action));
    }
    if actions.is_empty() {
        return Err(section.error("a grant without actions allows nothing; give actions"));
    }
    let mut topics = Vec::new();
    for (text, position) in section.texts("topics")? {
        topics.push(Pattern::parse(text).map_err(|reason| section.error_at(position, reason))?);
    }
    if topics.is_empty() && actions != Actions::of(Action::Admin) {
        return Err(section.error("a grant without topics allows nothing; give topics, `[\"*\"]` for all"));
    }
    Ok(Grant { actions, topics })
}

fn read_namespaces(file: &mut Section<'_>, before: Option<&Policy>) -> Result<Namespaces, PolicyError> {
    let mut all: Vec<Arc<Namespace>> = Vec::new();
    for (name, mut section) in file.sections("namespaces")? {
        let (prefix, position) = section.needed_text("prefix")?;
        let is_prefix = Pattern::parse(prefix).is_ok() && !prefix.contains('*');
        if !is_prefix {
            let message = format!(
                "prefix {prefix:?} can begin no topic's name; allowed are letters, digits, '.', '_' and '-'"
            );
            return Err(section.error_at(position, message));
        }
        if let Some(other) = all.iter().find(|other| &*other.settings.prefix == prefix) {
            let message = format!("namespace {:?} has this prefix already", other.settings.name);
            return Err(section.error_at(position, message));
        }
        if let Some((outer, inner)) = all
            .iter()
            .flat_map(|other| [(&*other.settings.prefix, prefix), (prefix, &*other.settings.prefix)])
            .find(|(outer, inner)| inner.starts_with(outer) && !outer.ends_with(['.', '-', '_']))
        {
            let message = format!(
                "prefix {outer:?} begins prefix {inner:?} of another namespace by chance; let it end in '.', '-' or '_'"
            );
            return Err(section.error_at(position, message));
        }
        let settings = NamespaceSettings {
            name: name.into(),
            prefix: prefix.into(),
            topics_max: section.count("topics_max")?,
            publish_messages_per_second: section.count("publish_messages_per_second")?,
            publish_bytes_per_second: section.bytes("publish_bytes_per_second")?,
            stored_bytes_max: section.bytes("stored_bytes_max")?,
        };
        section.finish()?;
        all.push(Namespace::after(settings, before.and_then(|before| before.namespaces.named(name))));
    }
    Ok(Namespaces::new(all))
}

fn read_issuer(
    mut section: Section<'_>,
    path: &Path,
    files: &mut Vec<PathBuf>,
    hash: &mut Context,
) -> Result<Issuer, PolicyError> {
    let (jwks_file, position) = section.needed_text("jwks_file")?;
    // Beside the policy file, unless it says otherwise.
    let jwks_path = path.parent().unwrap_or(Path::new("")).join(jwks_file);
    let keys = keys_of(&read_file("JWKS file", &jwks_path, hash)?).map_err(|reason| {
        section.error_at(position, format!("JWKS file {}: {reason}", jwks_path.display()))
    })?;
    files.push(jwks_path);
    let mut claim = |key, otherwise: &str| {
        section.text(key).map(|claim| claim.map_or(otherwise, |(claim, _)| claim).to_owned())
    };
    let (identity_claim, roles_claim) = (claim("identity_claim", "sub")?, claim("roles_claim", "roles")?);
    let issuer = Issuer {
        name: section.needed_text("issuer")?.0.to_owned(),
        audience: section.needed_text("audience")?.0.to_owned(),
        identity_claim,
        roles_claim,
        namespace_claim: section.text("namespace_claim")?.map(|(claim, _)| claim.to_owned()),
        keys,
    };
    section.finish()?;
    Ok(issuer)
}

/// Reads a file whole, and adds it to a digest.
fn read_file(what: &'static str, path: &Path, hash: &mut Context) -> Result<String, PolicyError> {
    let unreadable = |reason| PolicyError::Unreadable { what, path: path.to_owned(), reason };
    let bytes = TrustedFile::read(path).map_err(|error| match error {
        TrustedFileError::Unreadable(error) => unreadable(error.to_string()),
        error => PolicyError::Untrusted { what, path: path.to_owned(), reason: error.to_string() },
    })?;
    let text = String::from_utf8(bytes.bytes).map_err(|error| unreadable(error.to_string()))?;
    hash.update(&(text.len() as u64).to_le_bytes());
    hash.update(text.as_bytes());
    Ok(text)
}

fn unknown<'a>(what: &str, given: &str, names: impl Iterator<Item = &'a str> + Clone) -> String {
    match crate::config::nearest(given, names.clone()) {
        Some(near) => format!("there is no {what} {given:?}; did you mean {near}?"),
        None => format!("there is no {what} {given:?}; there are {}", names.collect::<Vec<_>>().join(", ")),
    }
}

#[cfg(test)]
mod tests;
