//! Snapshots: the whole image as bytes, for a broker that the log no longer tells everything.
//!
//! Invariant: the image that is read from a snapshot is the one that was written, or an error; and the rows that
//! [`Image::changes_to`] names turn the stored rows of one image into those of the other, all at once.

use millstream_protocol::ids::Offset;

use super::image::Image;
use super::rows::{RowChange, RowError, Table};

type Row = (u8, Vec<u8>, Vec<u8>);

impl Image {
    /// The whole image, as of [`Image::applied`].
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let number = |table| Table::ALL.iter().position(|known| *known == table);
        let row = |row: RowChange| -> Option<Row> {
            let number = u8::try_from(number(row.table)?).ok()?;
            Some((number, row.key, row.value?))
        };
        let rows: Vec<Row> = self.rows().into_iter().filter_map(row).collect();
        postcard::to_stdvec(&rows).expect("memory takes a snapshot")
    }

    /// The image of a snapshot, which was as of `applied`.
    ///
    /// # Errors
    /// [`RowError`] for what does not read: nothing of it is taken.
    pub fn from_snapshot(applied: Offset, bytes: &[u8]) -> Result<Self, RowError> {
        let wrong = |problem| RowError { table: Table::Allocations, key: vec![], problem };
        let rows: Vec<Row> =
            postcard::from_bytes(bytes).map_err(|_| wrong("the snapshot does not decode"))?;
        let unknown = || wrong("the snapshot has a table that this version does not know");
        let mut read = Vec::with_capacity(rows.len());
        for (number, key, value) in &rows {
            let table = Table::ALL.get(usize::from(*number)).ok_or_else(unknown)?;
            read.push((*table, key.as_slice(), value.as_slice()));
        }
        Self::from_rows(applied, read)
    }

    /// The rows to be changed where this image is stored, so that `next` is.
    #[must_use]
    pub fn changes_to(&self, next: &Self) -> Vec<RowChange> {
        let place = |row: &RowChange| (row.table, row.key.clone());
        let mut changes = next.rows();
        let stay: std::collections::BTreeSet<_> = changes.iter().map(place).collect();
        let mut gone = self.rows();
        gone.retain(|row| !stay.contains(&place(row)));
        changes.extend(gone.into_iter().map(|row| RowChange { value: None, ..row }));
        changes
    }
}
