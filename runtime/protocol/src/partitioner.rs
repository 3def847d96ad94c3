//! Which partition a key belongs to: murmur2 as Kafka's default partitioner computes it.
//!
//! Invariant: equal keys and equal partition counts give the partition that Kafka's clients give, so
//! that co-partitioning survives a migration.

use crate::ids::PartitionIndex;

/// The partition of `key` among `partitions`, as `Utils.toPositive(Utils.murmur2(key)) % n` in Kafka.
///
/// # Panics
/// When `partitions` is 0.
#[must_use]
pub fn partition_of_key(key: &[u8], partitions: u32) -> PartitionIndex {
    assert!(partitions > 0, "a topic has at least one partition");
    PartitionIndex((murmur2(key) & 0x7fff_ffff) % partitions)
}

/// MurmurHash2, 32 bits, with Kafka's seed (Austin Appleby, public domain algorithm).
#[must_use]
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    #[expect(clippy::cast_possible_truncation, reason = "the algorithm mixes in the low 32 bits")]
    let mut h = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> R;
        k = k.wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * place);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of Kafka's own `UtilsTest.testMurmur2`.
    #[test]
    #[expect(clippy::cast_possible_wrap, reason = "Kafka prints the hash as a signed number")]
    fn hashes_are_those_of_kafka() {
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn a_key_always_falls_into_the_partitions_there_are() {
        for n in 1..50 {
            assert!(partition_of_key(b"carrier", n).0 < n);
        }
    }
}
