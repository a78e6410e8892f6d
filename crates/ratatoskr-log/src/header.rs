//! The 64 bytes every file but an index starts with: what it is, which version, whose.

use ratatoskr_state::{checksums_agree, read_u32, read_u64};

/// Bytes of a file header.
pub(crate) const FILE_HEADER_BYTES: usize = 64;
/// The format this code writes. It reads nothing newer.
pub(crate) const FORMAT_VERSION: u32 = 2;

const OLDER: &str = "it was written before the first release; read the messages with the build that wrote them, or start with an empty data directory";
const NEWER: &str = "use the version that wrote it, or a newer one";

/// Which kind of file; the value is the file's first eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Journal,
    Segment,
    Checkpoint,
}

impl FileKind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            FileKind::Journal => b"RTKJRNL1",
            FileKind::Segment => b"RTKSEGM1",
            FileKind::Checkpoint => b"RTKCHKP1",
        }
    }
}

/// A file's header. Unused fields are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) kind: FileKind,
    /// Topic number of a segment, pages of a journal file.
    pub(crate) topic: u32,
    /// Identity of the data directory the file belongs to.
    pub(crate) directory: u64,
    /// File number of a journal file, base offset of a segment.
    pub(crate) number: u64,
    /// First block sequence of a journal file.
    pub(crate) sequence: u64,
}

impl FileHeader {
    pub(crate) fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0; FILE_HEADER_BYTES];
        bytes[0..8].copy_from_slice(self.kind.magic());
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.topic.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.directory.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.number.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The format of a file with a sound header of this kind, where this version does not read it, and what to do.
    pub(crate) fn other_format(bytes: &[u8], kind: FileKind) -> Option<(u32, &'static str)> {
        let is_sound = bytes.len() >= FILE_HEADER_BYTES
            && &bytes[0..8] == kind.magic()
            && crc32c::crc32c(&bytes[..60]) == read_u32(bytes, 60);
        match read_u32(bytes.get(8..12).filter(|_| is_sound)?, 0) {
            FORMAT_VERSION => None,
            older @ ..FORMAT_VERSION => Some((older, OLDER)),
            newer => Some((newer, NEWER)),
        }
    }

    /// Reads a header of the expected kind, or says what is wrong with it.
    pub(crate) fn parse(bytes: &[u8], kind: FileKind) -> Result<FileHeader, String> {
        if bytes.len() < FILE_HEADER_BYTES {
            return Err(format!("the file has only {} bytes, less than its header", bytes.len()));
        }
        if &bytes[0..8] != kind.magic() {
            return Err(format!("the file does not start as a {kind:?} file of this broker does"));
        }
        if !checksums_agree(crc32c::crc32c(&bytes[..60]), read_u32(bytes, 60)) {
            return Err("the file's header does not match its checksum".to_owned());
        }
        let version = read_u32(bytes, 8);
        if version != FORMAT_VERSION {
            return Err(format!(
                "the file has format {version}, and this version reads format {FORMAT_VERSION}"
            ));
        }
        Ok(FileHeader {
            kind,
            topic: read_u32(bytes, 12),
            directory: read_u64(bytes, 16),
            number: read_u64(bytes, 24),
            sequence: read_u64(bytes, 32),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_another_version_is_refused() {
        let header = FileHeader { kind: FileKind::Segment, topic: 7, directory: 9, number: 11, sequence: 13 };
        let bytes = header.encode();
        assert_eq!(FileHeader::parse(&bytes, FileKind::Segment), Ok(header));
        assert!(FileHeader::parse(&bytes, FileKind::Journal).is_err());
        assert!(FileHeader::parse(&bytes[..40], FileKind::Segment).is_err());
        for (version, advice) in [(1, OLDER), (3, NEWER)] {
            let mut other = bytes;
            other[8] = version;
            let crc = crc32c::crc32c(&other[..60]);
            other[60..64].copy_from_slice(&crc.to_le_bytes());
            assert!(FileHeader::parse(&other, FileKind::Segment).unwrap_err().contains("format"));
            let found = FileHeader::other_format(&other, FileKind::Segment);
            assert_eq!(found, Some((u32::from(version), advice)));
        }
        assert_eq!(FileHeader::other_format(&bytes, FileKind::Segment), None);
        assert_eq!(FileHeader::other_format(&bytes, FileKind::Journal), None);
    }
}
