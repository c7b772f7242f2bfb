//! Properties of sealed values.

use crate::seal::{Form, KeyId, Keyring, NEVER, OVERHEAD, PlainValues, SealKey, WriteForm};

const REDIS_KEY: &[u8] = b"g20AAAABbg:g2EB";

/// Any bytes open or do not. They do not open as plain values where these are refused. As a value, they are
/// sealed and opened again, but not after a change.
pub fn sealed_value(bytes: &[u8]) {
    let Some(keyring) = keyring() else {
        panic!("the key was not accepted");
    };
    if let Ok(value) = keyring.open(|| REDIS_KEY, 0, bytes.to_vec()) {
        assert_eq!(value.len() + OVERHEAD, bytes.len());
        assert!(matches!(keyring.form_of(bytes), Form::Sealed { .. }));
    }
    let mut sealed = keyring.seal(REDIS_KEY, NEVER, bytes).into_owned();
    let opened = keyring.open(|| REDIS_KEY, 0, sealed.clone());
    assert_eq!(opened.as_deref(), Ok(bytes));
    let position = usize::from(bytes.first().copied().unwrap_or_default()) % sealed.len();
    sealed[position] ^= 1 + bytes.len().to_le_bytes()[0] % 255;
    assert!(keyring.open(|| REDIS_KEY, 0, sealed).is_err());
}

/// The key of the golden bytes in the tests of sealed values.
fn keyring() -> Option<Keyring> {
    let secret: Vec<_> = (0x80..0xA0).collect();
    let key = SealKey::new(KeyId::new(b"2026-11")?, &secret)?;
    Keyring::new(vec![key], WriteForm::Sealed, PlainValues::Refuse)
}
