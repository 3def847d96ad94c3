//! Certificate and key files: written whole or not at all, private from the first byte.
//!
//! Invariant: a file is never seen half written, and what was renamed into place survives a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::IdentityError;

/// Mode of a certificate.
pub(super) const PUBLIC: u32 = 0o644;
/// Mode of a key.
pub(super) const PRIVATE: u32 = 0o600;

/// The file's text, or nothing if there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<String>, IdentityError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(IdentityError::File { what: "read", path: path.to_owned(), source }),
    }
}

/// Writes a file by way of a temporary one beside it.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<(), IdentityError> {
    replace(path, text, mode).map_err(|source| IdentityError::File {
        what: "write",
        path: path.to_owned(),
        source,
    })
}

fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let dir =
        path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(dir)?;
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    let mut file = options.open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(dir)?.sync_all()
}
