//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03).
//!
//! HChaCha20 makes the key of one value from the key and the first 16 bytes of the nonce. With that and the
//! other 8 bytes, `ring` seals the value by ChaCha20-Poly1305 (RFC 8439). The key of one value is not wiped: it
//! opens nothing else.

use chacha20::{R20, hchacha};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag, UnboundKey};
use zeroize::Zeroizing;

const KEY_LEN: usize = 32;
pub(super) const NONCE_LEN: usize = 24;
pub(super) const TAG_LEN: usize = 16;

/// The cipher with a key, whose memory is overwritten when it is dropped.
///
/// The key is boxed, so that it is not copied when the keyring is moved.
pub(super) struct Cipher(Box<Zeroizing<[u8; KEY_LEN]>>);

impl Cipher {
    /// A key of 32 bytes. Returns `None` for another length.
    pub(super) fn new(key: &[u8]) -> Option<Self> {
        let key: &[u8; KEY_LEN] = key.try_into().ok()?;
        let mut copy = Box::new(Zeroizing::new([0; KEY_LEN]));
        copy.copy_from_slice(key);
        Some(Self(copy))
    }

    /// Encrypts a text in place. Returns `None`, and leaves it as it was, if it has more than 256 GB.
    pub(super) fn seal(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated: &[u8],
        text: &mut [u8],
    ) -> Option<Tag> {
        let (key, nonce) = self.derive(nonce)?;
        key.seal_in_place_separate_tag(nonce, Aad::from(associated), text)
            .ok()
    }

    /// Decrypts the ciphertext and tag that begin at `start` to the beginning of the buffer. Returns the
    /// text's length, or `None` if not exactly this was sealed.
    pub(super) fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated: &[u8],
        buffer: &mut [u8],
        start: usize,
    ) -> Option<usize> {
        let (key, nonce) = self.derive(nonce)?;
        let opened = key.open_within(nonce, Aad::from(associated), buffer, start..);
        opened.ok().map(|text| text.len())
    }

    /// The key and the nonce for ChaCha20-Poly1305.
    fn derive(&self, nonce: &[u8; NONCE_LEN]) -> Option<(LessSafeKey, Nonce)> {
        let subkey = hchacha::<R20>((&**self.0).into(), nonce.first_chunk::<16>()?.into());
        let key = UnboundKey::new(&CHACHA20_POLY1305, &subkey).ok()?;
        let mut short = [0; 12];
        *short.last_chunk_mut::<8>()? = *nonce.last_chunk()?;
        let nonce = Nonce::assume_unique_for_key(short);
        Some((LessSafeKey::new(key), nonce))
    }
}
