//! `wasi:random`: numbers that are the same on every replay of a batch.
//!
//! Invariant: they depend on the partition and the batch's offset, and on nothing else. The seed of
//! hash maps does not even depend on these, because a guest takes it once and keeps it: after a
//! restart at another batch the order of its maps must be the same.

use wasmtime::{StoreContextMut, component::Linker};

use super::{HostStop, State, wasi};

/// Bytes that a guest may ask for at once.
const MAX_BYTES: u64 = 1 << 20;

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).
#[derive(Debug)]
pub(crate) struct Generator(u64);

impl Generator {
    pub(crate) fn seeded(partition: u32, base_offset: u64) -> Self {
        let mut seed = Self(u64::from(partition));
        Self(seed.next() ^ base_offset)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, HostStop> {
        if count > MAX_BYTES {
            return Err(HostStop::TooMuch);
        }
        let count = usize::try_from(count).map_err(|_| HostStop::TooMuch)?;
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        Ok(bytes)
    }
}

type Store<'a> = StoreContextMut<'a, State>;

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for (interface, bytes, number) in [
        ("random/random", "get-random-bytes", "get-random-u64"),
        ("random/insecure", "get-insecure-random-bytes", "get-insecure-random-u64"),
    ] {
        let mut random = linker.instance(&wasi(interface))?;
        random.func_wrap(bytes, |mut store: Store<'_>, (count,): (u64,)| {
            Ok((store.data_mut().random.bytes(count)?,))
        })?;
        random.func_wrap(number, |mut store: Store<'_>, (): ()| {
            Ok((store.data_mut().random.next(),))
        })?;
    }
    let mut seed = linker.instance(&wasi("random/insecure-seed"))?;
    seed.func_wrap("insecure-seed", |store: Store<'_>, (): ()| Ok((store.data().hash_seed,)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_always_sees_the_same_numbers_and_another_batch_others() {
        let first = |partition, offset| Generator::seeded(partition, offset).next();
        assert_eq!(first(3, 100), first(3, 100));
        assert_ne!(first(3, 100), first(3, 101));
        assert_ne!(first(3, 100), first(4, 100));
    }

    #[test]
    fn more_bytes_than_allowed_end_the_call() {
        let mut generator = Generator::seeded(0, 0);
        assert_eq!(generator.bytes(13).map(|bytes| bytes.len()), Ok(13));
        assert_eq!(generator.bytes(u64::MAX), Err(HostStop::TooMuch));
    }
}
