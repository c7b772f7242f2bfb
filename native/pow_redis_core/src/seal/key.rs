//! A key that seals values.

use std::fmt;

use super::cipher::Cipher;

/// The most bytes of a key's id.
const MAX_ID_LEN: usize = 12;

/// The id of a key: 1 to 12 bytes, followed by zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyId([u8; MAX_ID_LEN]);

impl KeyId {
    /// The length of an id in a sealed value.
    pub(super) const LEN: usize = MAX_ID_LEN;

    /// The id with this name. Returns `None` if it has no bytes, more than 12, or ends with a zero.
    pub fn new(name: &[u8]) -> Option<Self> {
        let mut id = [0; MAX_ID_LEN];
        let is_padded = name.last().is_none_or(|last| *last == 0);
        if is_padded {
            return None;
        }
        id.get_mut(..name.len())?.copy_from_slice(name);
        Some(Self(id))
    }

    pub(super) const fn from_bytes(bytes: [u8; MAX_ID_LEN]) -> Self {
        Self(bytes)
    }

    pub(super) const fn as_bytes(&self) -> &[u8; MAX_ID_LEN] {
        &self.0
    }
}

/// A key and its id. The key's memory is overwritten when it is dropped.
pub struct SealKey {
    id: KeyId,
    cipher: Cipher,
}

impl SealKey {
    /// A key of 32 bytes. Returns `None` for another length.
    pub fn new(id: KeyId, key: &[u8]) -> Option<Self> {
        let cipher = Cipher::new(key)?;
        Some(Self { id, cipher })
    }

    pub(super) const fn id(&self) -> KeyId {
        self.id
    }

    pub(super) const fn cipher(&self) -> &Cipher {
        &self.cipher
    }
}

/// Shows the id only.
impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKey").finish_non_exhaustive()
    }
}
