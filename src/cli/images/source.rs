//! Where an archive comes from.

use std::fs::File;
use std::io::Read;

/// Where an archive comes from.
pub enum Source {
    /// Standard input.
    Input,
    /// A file, or a pipe with a name.
    File(File),
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Input => std::io::stdin().read(buffer),
            Self::File(file) => file.read(buffer),
        }
    }
}
