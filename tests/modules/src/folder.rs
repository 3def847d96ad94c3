//! Folder: compiled guests in a directory, as the broker keeps them.

use std::io;
use std::path::PathBuf;

use millstream_modules::Artefacts;

/// A directory of files by name.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes the directory if it is not there.
    ///
    /// # Panics
    /// When the file system refuses.
    pub fn open(path: PathBuf) -> Self {
        std::fs::create_dir_all(&path).expect("the directory can be made");
        Self(path)
    }
}

impl Artefacts for Folder {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.0.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // Tests of several processes share the directory: each writes a file of its own first.
        let temporary = self.0.join(format!("{name}.{}", std::process::id()));
        std::fs::write(&temporary, bytes)?;
        std::fs::rename(temporary, self.0.join(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.0.join(name))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.0)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }
}
