//! The one place where a checksum found is compared with the checksum stored.
//!
//! The feature `broken-no-checksum` makes every comparison pass. It exists to show that the
//! crash tests notice: a test suite that passes with it on tests nothing.

/// True when a checksum that was computed and the one that was stored agree.
pub fn checksums_agree(found: u32, stored: u32) -> bool {
    cfg!(feature = "broken-no-checksum") || found == stored
}
