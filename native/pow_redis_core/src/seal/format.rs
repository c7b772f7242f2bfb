//! The bytes of a sealed value, version 1.
//!
//! ```text
//! marker  version  key id  expiry  nonce  ciphertext  tag
//! 1       1        12      8       24     any         16
//! ```
//!
//! The marker is no first byte of an external term or a text. The expiry is in Unix milliseconds, big-endian. The
//! associated data is all that stands before the nonce, followed by the canonical Redis key.

use super::cipher::{NONCE_LEN, TAG_LEN};
use super::key::{KeyId, SealKey};

/// The first byte of sealed values. Those of external terms have 131, and text in UTF-8 does not begin with
/// this one either.
const MARKER: u8 = 0xAE;
const VERSION: u8 = 1;
const EXPIRY_LEN: usize = 8;
const HEADER_LEN: usize = 2 + KeyId::LEN + EXPIRY_LEN;
/// Where the ciphertext begins.
const TEXT_START: usize = HEADER_LEN + NONCE_LEN;

/// By how many bytes a sealed value is longer.
pub const OVERHEAD: usize = TEXT_START + TAG_LEN;
const _: () = assert!(OVERHEAD <= 64);

/// The expiry of a value that never expires.
pub const NEVER: i64 = i64::MAX;

/// What stands before the nonce.
pub(super) struct Header {
    bytes: [u8; HEADER_LEN],
    key_id: KeyId,
    expires_ms: i64,
}

impl Header {
    pub(super) fn new(key_id: KeyId, expires_ms: i64) -> Self {
        let mut bytes = [0; HEADER_LEN];
        let parts = [MARKER, VERSION]
            .into_iter()
            .chain(*key_id.as_bytes())
            .chain(expires_ms.to_be_bytes());
        for (byte, part) in bytes.iter_mut().zip(parts) {
            *byte = part;
        }
        Self {
            bytes,
            key_id,
            expires_ms,
        }
    }

    /// Reads the header of a sealed value. Returns `None` for other bytes, and for other versions.
    pub(super) fn read(stored: &[u8]) -> Option<Self> {
        let (bytes, _) = stored.split_first_chunk::<HEADER_LEN>()?;
        let (start, rest) = bytes.split_first_chunk::<2>()?;
        let (key_id, expiry) = rest.split_first_chunk()?;
        (*start == [MARKER, VERSION]).then_some(Self {
            bytes: *bytes,
            key_id: KeyId::from_bytes(*key_id),
            expires_ms: i64::from_be_bytes(expiry.try_into().ok()?),
        })
    }

    pub(super) const fn key_id(&self) -> KeyId {
        self.key_id
    }

    pub(super) const fn expires_ms(&self) -> i64 {
        self.expires_ms
    }

    fn associated_data(&self, redis_key: &[u8]) -> Vec<u8> {
        [&self.bytes, redis_key].concat()
    }
}

/// Whether the first byte says that a value is sealed.
pub(super) fn is_sealed(stored: &[u8]) -> bool {
    stored.first() == Some(&MARKER)
}

pub(super) fn seal(
    key: &SealKey,
    header: &Header,
    redis_key: &[u8],
    nonce: [u8; NONCE_LEN],
    value: &[u8],
) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(OVERHEAD + value.len());
    sealed.extend(header.bytes);
    sealed.extend(nonce);
    sealed.extend_from_slice(value);
    let text = sealed.get_mut(TEXT_START..).unwrap_or_default();
    let associated = header.associated_data(redis_key);
    match key.cipher().seal(&nonce, &associated, text) {
        Some(tag) => sealed.extend_from_slice(tag.as_ref()),
        // The value has more than 256 GB, and was left as it was: nothing of it may be written.
        None => sealed.truncate(TEXT_START),
    }
    sealed
}

/// The value, or `None` if not exactly this was sealed.
pub(super) fn open(
    key: &SealKey,
    header: &Header,
    redis_key: &[u8],
    mut stored: Vec<u8>,
) -> Option<Vec<u8>> {
    let nonce = *stored.get(HEADER_LEN..)?.first_chunk()?;
    let associated = header.associated_data(redis_key);
    let len = key
        .cipher()
        .open(&nonce, &associated, &mut stored, TEXT_START)?;
    stored.truncate(len);
    Some(stored)
}
