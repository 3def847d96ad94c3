//! Checks a batch while its bytes arrive, so that a broker can take it without a second look.
//!
//! Checked: the header, the checksum, the count, every field of every record, offset deltas, timestamps, sizes.
//! A damaged batch is told from a malformed one: the checksum is compared before anything else is blamed.
//! A compressed section is gathered, unpacked within its bound, and then checked alike.
//!
//! Invariant: the verdict depends on the bytes alone, never on how they were cut into pieces; memory held is
//! what arrived of a compressed section, and nothing of an uncompressed one.

use super::checksum::Crc32c;
use super::header::CRC_START;
use super::walker::Walker;
use super::{BatchError, BatchHeader, Compression};
use crate::limits::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS, MAX_DECOMPRESSED_BYTES, MAX_RECORD_BYTES};

/// Bytes that are summed and walked before the next: they are still in the nearest cache for the second.
const STRIDE: usize = 16 << 10;

/// Where a batch comes from, which decides what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A producer: at least one record, offset deltas exactly 0, 1, 2, …, no broker's attribute bits.
    Producer,
    /// A log: records may have been removed, so deltas may have gaps, also at the end, or be none at all.
    Log,
}

/// What an [`Inspector`] lets pass. Counts of records and headers are bounded by [`crate::limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Where the batch comes from.
    pub origin: Origin,
    /// Bytes of the batch as it travels, header included.
    pub max_batch_bytes: u32,
    /// Bytes of one record, unpacked.
    pub max_record_bytes: u32,
    /// Bytes that a compressed section may unpack to.
    pub max_decompressed_bytes: u32,
}

impl Rules {
    /// The widest rules for batches from `origin`.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the limits are far below 4 GiB")]
    pub const fn of(origin: Origin) -> Self {
        Self {
            origin,
            max_batch_bytes: MAX_BATCH_BYTES as u32,
            max_record_bytes: MAX_RECORD_BYTES as u32,
            max_decompressed_bytes: MAX_DECOMPRESSED_BYTES as u32,
        }
    }
}

/// A check of one batch that goes on as its bytes arrive.
pub struct Inspector {
    rules: Rules,
    front: [u8; BatchHeader::SIZE],
    front_len: usize,
    body: Option<Body>,
    refused: Option<BatchError>,
}

struct Body {
    header: BatchHeader,
    crc: Crc32c,
    /// Bytes of the section that did not arrive yet.
    left: usize,
    section: Section,
}

enum Section {
    Plain(Walker),
    Packed(Compression, Vec<u8>),
}

impl Inspector {
    /// A check of the next batch.
    #[must_use]
    pub const fn new(rules: Rules) -> Self {
        Self { rules, front: [0; BatchHeader::SIZE], front_len: 0, body: None, refused: None }
    }

    /// Takes the next bytes of the batch.
    ///
    /// # Errors
    /// What makes reading on pointless: a header that is refused, or bytes beyond the batch's end. What is
    /// wrong with records comes out of [`Self::finish`].
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), BatchError> {
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        let fed = self.take(piece);
        if let Err(error) = &fed {
            self.refused = Some(error.clone());
        }
        fed
    }

    /// The header, once it has arrived and was accepted.
    #[must_use]
    pub fn header(&self) -> Option<&BatchHeader> {
        self.body.as_ref().map(|body| &body.header)
    }

    /// Bytes of the batch that did not arrive yet; unknown before its header did.
    #[must_use]
    pub fn missing(&self) -> Option<usize> {
        self.body.as_ref().map(|body| body.left)
    }

    /// The verdict.
    ///
    /// # Errors
    /// The first that applies: what [`Self::feed`] said; [`BatchError::Truncated`]; [`BatchError::Crc`]; what
    /// unpacking says; the first bad record; [`BatchError::Count`]; [`BatchError::LastOffsetDelta`];
    /// [`BatchError::TimestampRange`]; [`BatchError::MaxTimestamp`].
    pub fn finish(self) -> Result<BatchHeader, BatchError> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        let Some(body) = self.body else {
            let have = self.front_len as u64;
            return Err(BatchError::Truncated { needed: BatchHeader::SIZE as u64, have });
        };
        body.finish(&self.rules)
    }

    fn take(&mut self, mut piece: &[u8]) -> Result<(), BatchError> {
        if self.body.is_none() {
            let wanted = BatchHeader::SIZE - self.front_len;
            let (now, later) = piece.split_at(wanted.min(piece.len()));
            self.front[self.front_len..][..now.len()].copy_from_slice(now);
            self.front_len += now.len();
            piece = later;
            if self.front_len < BatchHeader::SIZE {
                return Ok(());
            }
            self.body = Some(Body::begin(&self.front, &self.rules)?);
        }
        match &mut self.body {
            Some(body) => body.take(piece),
            None => Ok(()),
        }
    }
}

impl Body {
    fn begin(front: &[u8; BatchHeader::SIZE], rules: &Rules) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(front)?;
        check_header(&header, rules)?;
        let left = header.section_len();
        let section = match header.attributes.compression()? {
            Compression::None => Section::Plain(Walker::new(rules, left)),
            codec => Section::Packed(codec, Vec::new()),
        };
        let mut crc = Crc32c::new();
        crc.update(&front[CRC_START..]);
        Ok(Self { header, crc, left, section })
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), BatchError> {
        if self.left < piece.len() {
            let declared = self.header.total_len() as u64;
            let surplus = (piece.len() - self.left) as u64;
            return Err(BatchError::Length { declared, actual: declared + surplus });
        }
        self.left -= piece.len();
        match &mut self.section {
            Section::Plain(walker) => {
                for stride in piece.chunks(STRIDE) {
                    self.crc.update(stride);
                    walker.feed(stride);
                }
            }
            Section::Packed(_, gathered) => {
                self.crc.update(piece);
                gathered.extend_from_slice(piece);
            }
        }
        Ok(())
    }

    fn finish(self, rules: &Rules) -> Result<BatchHeader, BatchError> {
        if self.left > 0 {
            let needed = self.header.total_len() as u64;
            return Err(BatchError::Truncated { needed, have: needed - self.left as u64 });
        }
        let (found, computed) = (self.header.crc, self.crc.value());
        if found != computed {
            return Err(BatchError::Crc { found, computed });
        }
        match self.section {
            Section::Plain(mut walker) => walker.finish(&self.header)?,
            Section::Packed(codec, packed) => {
                let section = codec.decompress(&packed, rules.max_decompressed_bytes as usize)?;
                let mut walker = Walker::new(rules, section.len());
                section.chunks(STRIDE).for_each(|stride| walker.feed(stride));
                walker.finish(&self.header)?;
            }
        }
        Ok(self.header)
    }
}

fn check_header(header: &BatchHeader, rules: &Rules) -> Result<(), BatchError> {
    let (bytes, limit) = (header.total_len() as u64, u64::from(rules.max_batch_bytes));
    if limit < bytes {
        return Err(BatchError::BatchTooLarge { bytes, limit });
    }
    if MAX_BATCH_RECORDS < header.record_count {
        let records = u64::from(header.record_count);
        return Err(BatchError::TooManyRecords { records, limit: MAX_BATCH_RECORDS });
    }
    if rules.origin == Origin::Producer {
        header.attributes.check_from_producer()?;
        if header.record_count == 0 {
            return Err(BatchError::Empty);
        }
        check_producer(header)?;
    }
    Ok(())
}

fn check_producer(header: &BatchHeader) -> Result<(), BatchError> {
    if !header.producer_id.is_some() {
        return Ok(());
    }
    let epoch = i64::from(header.producer_epoch.0);
    if epoch < 0 {
        return Err(BatchError::HeaderField { field: "producer epoch", value: epoch });
    }
    let sequence = i64::from(header.base_sequence.0);
    if sequence < 0 {
        return Err(BatchError::HeaderField { field: "base sequence", value: sequence });
    }
    Ok(())
}
