//! Sealed values: encrypted, and bound to their Redis key and their expiry.
//!
//! A [`Keyring`] seals values before they are written and opens them after they were read. The cipher is
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03, on top of RFC 8439). Its nonces have 192 bits, so that
//! random ones are safe: with 10^12 values under one key, two have the same one with a probability of 10^-34.
//!
//! This room knows neither Redis nor the form of values.

mod cipher;
mod format;
mod key;
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use ring::rand::{SecureRandom, SystemRandom};

use self::cipher::NONCE_LEN;
use self::format::Header;
pub use self::format::{NEVER, OVERHEAD};
pub use self::key::{KeyId, SealKey};

/// How long after its sealed expiry a value opens, in milliseconds. Redis expires values on its own clock,
/// which may differ from the one that was read when the value was sealed.
const MARGIN_MS: i64 = 60_000;

/// The keys for values, and what to do with values that are not sealed.
#[derive(Default)]
pub struct Keyring {
    /// All of them open. The first one seals.
    keys: Vec<SealKey>,
    writes: WriteForm,
    plain: PlainValues,
}

/// How values are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteForm {
    /// As they are.
    #[default]
    Plain,
    /// Sealed with the first key.
    Sealed,
}

/// What to do with values that are not sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlainValues {
    /// Return them.
    #[default]
    Accept,
    /// Refuse them.
    Refuse,
}

/// Why a value does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unopened {
    /// It is sealed with another key, or sealed values are not expected.
    UnknownKey,
    /// It was changed, cut, moved from another Redis key, or sealed with another key of the same id.
    Tampered,
    /// Its sealed expiry has passed, though Redis still has it.
    Expired,
    /// It is not sealed.
    PlainRefused,
}

/// How a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Not sealed.
    Plain,
    /// Sealed, until this time in Unix milliseconds.
    Sealed {
        /// Whether the first key sealed it.
        is_current: bool,
        /// The expiry in Unix milliseconds, or [`NEVER`].
        expires_ms: i64,
    },
}

impl Keyring {
    /// A keyring. Returns `None` if it could not read what it writes.
    pub fn new(keys: Vec<SealKey>, writes: WriteForm, plain: PlainValues) -> Option<Self> {
        let is_usable = match writes {
            WriteForm::Sealed => !keys.is_empty(),
            WriteForm::Plain => plain == PlainValues::Accept,
        };
        is_usable.then_some(Self {
            keys,
            writes,
            plain,
        })
    }

    /// The value as it is to be stored under a canonical Redis key until `expires_ms`, in Unix milliseconds,
    /// or [`NEVER`].
    ///
    /// Panics if the operating system has no random bytes. The worker catches that, and the request fails.
    pub fn seal<'v>(&self, redis_key: &[u8], expires_ms: i64, value: &'v [u8]) -> Cow<'v, [u8]> {
        match self.writing_key() {
            Some(key) => {
                let header = Header::new(key.id(), expires_ms);
                Cow::Owned(format::seal(key, &header, redis_key, random_nonce(), value))
            }
            None => Cow::Borrowed(value),
        }
    }

    /// Opens what is stored under a canonical Redis key, which is computed only if the value is sealed. Any
    /// bytes are accepted.
    pub fn open<K: AsRef<[u8]>>(
        &self,
        redis_key: impl FnOnce() -> K,
        now_ms: i64,
        stored: Vec<u8>,
    ) -> Result<Vec<u8>, Unopened> {
        if !format::is_sealed(&stored) {
            return match self.plain {
                PlainValues::Accept => Ok(stored),
                PlainValues::Refuse => Err(Unopened::PlainRefused),
            };
        }
        let header = Header::read(&stored).ok_or(Unopened::Tampered)?;
        let key = self.key(&header).ok_or(Unopened::UnknownKey)?;
        let redis_key = redis_key();
        let value = format::open(key, &header, redis_key.as_ref(), stored);
        let value = value.ok_or(Unopened::Tampered)?;
        if header.expires_ms() < now_ms.saturating_sub(MARGIN_MS) {
            return Err(Unopened::Expired);
        }
        Ok(value)
    }

    /// How a value is stored, as its first bytes say. Whether they are right shows when it is opened.
    pub fn form_of(&self, stored: &[u8]) -> Form {
        match Header::read(stored) {
            Some(header) => Form::Sealed {
                is_current: self.keys.first().map(SealKey::id) == Some(header.key_id()),
                expires_ms: header.expires_ms(),
            },
            None => Form::Plain,
        }
    }

    /// Whether a value would be stored in another form today.
    pub fn is_outdated(&self, form: Form) -> bool {
        match self.writes {
            WriteForm::Plain => form != Form::Plain,
            WriteForm::Sealed => !matches!(
                form,
                Form::Sealed {
                    is_current: true,
                    ..
                }
            ),
        }
    }

    fn writing_key(&self) -> Option<&SealKey> {
        match self.writes {
            WriteForm::Plain => None,
            WriteForm::Sealed => self.keys.first(),
        }
    }

    fn key(&self, header: &Header) -> Option<&SealKey> {
        self.keys.iter().find(|key| key.id() == header.key_id())
    }
}

/// Shows no key.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("keys", &self.keys.len())
            .field("writes", &self.writes)
            .field("plain", &self.plain)
            .finish()
    }
}

fn random_nonce() -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    let filled = SystemRandom::new().fill(&mut nonce);
    // A value must never be sealed with a nonce that is not random.
    assert!(filled.is_ok(), "the operating system has no random bytes");
    nonce
}
