//! Where the other brokers are, beside the metadata store: by it a broker whose store is damaged finds the cluster
//! that has everything that was in it.
//!
//! ```text
//! members    one address a line, `host:port`
//! ```
//! Invariant: it is a hint. Nothing depends on it but whom a broker asks first.

use std::io;
use std::path::Path;

use crate::disk::{Disk, SyncMode, read_file, replace_file};

const FILE: &str = "members";
const MAX_BYTES: u64 = 1 << 20;

/// Notes the addresses down in `dir`.
///
/// # Errors
/// What the system says; what was there before stays.
pub fn write<D: Disk>(disk: &D, dir: &Path, addresses: &[String]) -> io::Result<()> {
    let mut text = addresses.join("\n");
    text.push('\n');
    replace_file(disk, dir, FILE, text.as_bytes(), SyncMode::Durable)
}

/// The addresses that were noted down; none when there is no file, or it makes no sense.
#[must_use]
pub fn read<D: Disk>(disk: &D, dir: &Path) -> Vec<String> {
    let bytes = read_file(disk, &dir.join(FILE), MAX_BYTES).unwrap_or_default();
    let text = String::from_utf8(bytes).unwrap_or_default();
    let is_address =
        |line: &&str| line.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    text.lines().filter(is_address).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemDisk;

    #[test]
    fn addresses_come_back_and_nonsense_does_not() {
        let (disk, dir) = (MemDisk::new(), Path::new("/d"));
        disk.create_dir_all(dir).unwrap();
        assert_eq!(read(&disk, dir), Vec::<String>::new());
        let addresses = ["a.example:9440".to_owned(), "[::1]:9441".to_owned()];
        write(&disk, dir, &addresses).unwrap();
        assert_eq!(read(&disk, dir), addresses);
        disk.flip(&dir.join(FILE), 10, 0x80).unwrap();
        assert_eq!(read(&disk, dir), Vec::<String>::new(), "no text");
    }
}
