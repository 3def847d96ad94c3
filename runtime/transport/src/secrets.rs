//! Keys that an endpoint needs and that must outlive the process, derived from the broker's key.
//!
//! Invariant: a restarted broker that gets a packet of a connection it no longer knows answers with
//! the very reset token it promised before, so that its clients reconnect at once instead of waiting
//! for a time-out. Each shard has keys of its own: were they shared, a packet that the kernel hands
//! to the wrong shard would make that shard reveal the token of a living connection (RFC 9000, 21.11).

use std::sync::Arc;

use quinn::crypto::{HandshakeTokenKey, HmacKey};
use ring::{hkdf, hmac};

/// The secrets of one shard of one broker.
pub(crate) struct Secrets {
    prk: hkdf::Prk,
    shard: u16,
}

impl Secrets {
    /// Derives from the broker's private key (its DER bytes).
    pub(crate) fn new(private_key: &[u8], shard: u16) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"millstream transport 1");
        Self { prk: salt.extract(private_key), shard }
    }

    /// Signs stateless reset tokens.
    pub(crate) fn reset_key(&self) -> Arc<dyn HmacKey> {
        Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &self.derive(b"stateless reset")))
    }

    /// Marks connection ids as ours.
    pub(crate) fn connection_id_key(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.derive(b"connection id");
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Seals the tokens by which a client proves its address.
    pub(crate) fn token_key(&self) -> Arc<dyn HandshakeTokenKey> {
        let bytes = self.derive(b"address validation");
        Arc::new(hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &bytes))
    }

    fn derive(&self, purpose: &[u8]) -> [u8; 32] {
        let shard = self.shard.to_le_bytes();
        let info = [purpose, &shard];
        let mut out = [0; 32];
        self.prk
            .expand(&info, hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut out))
            .expect("HKDF-SHA256 gives 32 bytes");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_and_shard_give_the_same_secrets_and_others_do_not() {
        let id = |key: &[u8], shard| Secrets::new(key, shard).connection_id_key();
        assert_eq!(id(b"key", 0), id(b"key", 0));
        assert_ne!(id(b"key", 0), id(b"key", 1));
        assert_ne!(id(b"key", 0), id(b"other", 0));
        let sign = |shard| {
            let mut out = [0; 32];
            Secrets::new(b"key", shard).reset_key().sign(b"cid", &mut out);
            out
        };
        assert_eq!(sign(3), sign(3));
        assert_ne!(sign(3), sign(4));
    }
}
