//! How much one archive may take.

/// Bounds on what a stranger's archive may cost. The defaults fit a front end with room to spare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Size of the archive itself, in bytes; 500 MiB.
    pub archive_bytes: u64,
    /// Size of everything that is unpacked from it, in bytes; 1 GiB.
    pub unpacked_bytes: u64,
    /// Size of one unpacked file, in bytes; 256 MiB.
    pub file_bytes: u64,
    /// Entries of the archive, and files and folders made from it; 50,000.
    pub entries: usize,
    /// How many times the archive's own size it may unpack to; 200. Not looked at below [`Limits::RATIO_FLOOR`].
    pub ratio: u64,
    /// Length of an entry's path, in bytes; 1,024.
    pub path_bytes: usize,
    /// Folders above one another in an entry's path, the file included; 32.
    pub path_depth: usize,
    /// Archives that are unpacked at the same time; 2.
    pub parallel: usize,
}

impl Limits {
    /// What may always be unpacked, in bytes, however well it was compressed: a page of a few repeated lines shrinks
    /// a thousandfold and harms nobody.
    pub const RATIO_FLOOR: u64 = 1 << 20;

    /// What the archive's list of contents may take, in bytes. Room for long names; an archive of nothing but tiny
    /// entries still fits several times over, so that it is counted and refused by its count.
    pub(super) fn directory_bytes(&self) -> u64 {
        (1 << 20) + 256 * self.entries as u64
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            archive_bytes: 500 << 20,
            unpacked_bytes: 1 << 30,
            file_bytes: 256 << 20,
            entries: 50_000,
            ratio: 200,
            path_bytes: 1024,
            path_depth: 32,
            parallel: 2,
        }
    }
}
