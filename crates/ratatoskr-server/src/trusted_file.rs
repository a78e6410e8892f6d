//! [`TrustedFile`]: a file that says who may come in, read in one go, and only if nobody else can have written it.
//!
//! ```text
//!   path ──▶ a regular file? ──▶ open ──▶ may others write it? ──▶ bytes
//!                                            └─ refused, with the command that mends it
//! ```
//!
//! Whoever can write the policy file, a JWKS file, a CA or a key decides who may do what, so such a file is no policy of its owner's. Being
//! *readable* by others is different: a policy file holds no secrets, and secrets mounted into a container often have mode 0644 where nobody
//! but the container's processes can see them. So a private key that others can read is worth a warning, not a refusal.
//!
//! What this deliberately does not do: look at the folders above. Who can rename files there is for the administrator to decide.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Bits of a mode by which group or others can write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Bits of a mode by which others, beyond the group, can do anything.
const OPEN_TO_OTHERS: u32 = 0o007;
/// Bits of a mode by which others, beyond the group, can read.
const READABLE_BY_OTHERS: u32 = 0o004;
/// More than any policy, key set or certificate chain; less than what would fill memory.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The command that closes a file or folder to other users of the machine, if they can read or write in it; `None` if they cannot, or
/// if there is no such file.
pub(crate) fn closing_command(path: &Path) -> Option<String> {
    let metadata = std::fs::metadata(path).ok()?;
    let recursive = if metadata.is_dir() { "-R " } else { "" };
    (metadata.mode() & OPEN_TO_OTHERS != 0).then(|| format!("chmod {recursive}o-rwx {}", path.display()))
}

/// Why a file is not taken at its word.
#[derive(Debug)]
pub(crate) enum TrustedFileError {
    /// The operating system does not give it out.
    Unreadable(io::Error),
    /// A folder, a pipe or a device.
    NotRegular,
    /// Longer than such a file ever is.
    TooLong { bytes: u64 },
    /// Group or others can write it.
    WritableByOthers { mode: u32, command: String },
}

impl fmt::Display for TrustedFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrustedFileError::Unreadable(error) => error.fmt(f),
            TrustedFileError::NotRegular => f.write_str("it is not a regular file"),
            TrustedFileError::TooLong { bytes } => {
                write!(f, "it has {bytes} bytes; at most {FILE_BYTES_MAX} are allowed")
            }
            TrustedFileError::WritableByOthers { mode, command } => {
                write!(
                    f,
                    "users other than its owner can write it (mode {mode:04o}), and so decide who may do what; run `{command}`"
                )
            }
        }
    }
}

impl From<io::Error> for TrustedFileError {
    fn from(error: io::Error) -> TrustedFileError {
        TrustedFileError::Unreadable(error)
    }
}

/// See the file's head.
pub(crate) struct TrustedFile {
    pub(crate) bytes: Vec<u8>,
    mode: u32,
}

impl TrustedFile {
    /// Reads a file. Never waits for a writer, as reading a pipe would.
    pub(crate) fn read(path: &Path) -> Result<TrustedFile, TrustedFileError> {
        // Before it is opened: opening a pipe waits for whoever writes to it.
        check(path, &std::fs::metadata(path)?)?;
        let file = File::open(path)?;
        // And what was opened, which may be another one by now.
        let metadata = file.metadata()?;
        check(path, &metadata)?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(TrustedFile { bytes, mode: metadata.mode() })
    }

    /// Whether every user of the machine can read it.
    pub(crate) fn is_readable_by_others(&self) -> bool {
        self.mode & READABLE_BY_OTHERS != 0
    }
}

fn check(path: &Path, metadata: &Metadata) -> Result<(), TrustedFileError> {
    if !metadata.is_file() {
        return Err(TrustedFileError::NotRegular);
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(TrustedFileError::TooLong { bytes: metadata.len() });
    }
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        let command = format!("chmod go-w {}", path.display());
        return Err(TrustedFileError::WritableByOthers { mode: metadata.mode() & 0o7777, command });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_others_can_write_is_refused_with_the_command_that_mends_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "text").unwrap();
        for (mode, is_trusted) in [(0o600, true), (0o644, true), (0o664, false), (0o646, false)] {
            std::fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
            match TrustedFile::read(file.path()) {
                Ok(read) => assert!(is_trusted && read.bytes == b"text", "{mode:o}"),
                Err(error) => {
                    assert!(!is_trusted, "{mode:o}: {error}");
                    let says = error.to_string();
                    assert!(says.contains(&format!("(mode {mode:04o})")), "{says}");
                    assert!(says.ends_with(&format!("`chmod go-w {}`", file.path().display())), "{says}");
                }
            }
        }
    }

    #[test]
    fn what_is_open_to_other_users_is_told_with_the_command_that_closes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        for (mode, is_open) in [(0o700, false), (0o750, false), (0o755, true), (0o701, true)] {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
            let command = is_open.then(|| format!("chmod -R o-rwx {}", path.display()));
            assert_eq!(closing_command(path), command, "{mode:o}");
        }
        assert_eq!(closing_command(&path.join("missing")), None);
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let read = TrustedFile::read(folder.path()).err().unwrap();
        assert_eq!(read.to_string(), "it is not a regular file");
        assert_eq!(
            TrustedFile::read(Path::new("/dev/zero")).err().unwrap().to_string(),
            "it is not a regular file"
        );
    }
}
