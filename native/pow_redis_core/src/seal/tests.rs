//! Tests of sealed values.

use std::collections::HashSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::testing::{key, keyring, sealing};
use super::*;

const REDIS_KEY: &[u8] = b"g20AAAABbg:g2EB";
const OTHER_REDIS_KEY: &[u8] = b"g20AAAABbg:g2EC";
const VALUE: &[u8] = &[131, 97, 7];
const NOW_MS: i64 = 1_800_000_000_000;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter(|digit| !digit.is_whitespace()).collect();
    let pairs = digits.chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
        .collect()
}

fn counted<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|position| first + u8::try_from(position).unwrap())
}

fn id(name: &str) -> KeyId {
    KeyId::new(name.as_bytes()).unwrap()
}

/// The key of the known answers.
fn known_key() -> SealKey {
    SealKey::new(id("2026-11"), &counted::<32>(0x80)).unwrap()
}

fn open(keyring: &Keyring, stored: &[u8]) -> Result<Vec<u8>, Unopened> {
    keyring.open(|| REDIS_KEY, NOW_MS, stored.to_vec())
}

/// The example in appendix A.3.1 of draft-irtf-cfrg-xchacha-03.
#[test]
fn the_cipher_is_xchacha20_poly1305() {
    let plaintext =
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for \
        the future, sunscreen would be it.";
    let ciphertext = bytes(
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb
         731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452
         2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9
         21f9664c97637da9768812f615c68b13b52e",
    );
    let associated = bytes("50515253c0c1c2c3c4c5c6c7");
    let nonce = counted(0x40);
    let key = known_key();
    let mut buffer = plaintext.to_vec();
    let tag = key.cipher().seal(&nonce, &associated, &mut buffer).unwrap();
    assert_eq!(buffer, ciphertext);
    assert_eq!(tag.as_ref(), bytes("c0875924c1c7987947deafd8780acf49"));
    for start in [0, 1, 46] {
        let mut buffer = [&vec![0; start], &*ciphertext, tag.as_ref()].concat();
        let opened = key.cipher().open(&nonce, &associated, &mut buffer, start);
        assert_eq!(opened, Some(plaintext.len()));
        assert_eq!(&buffer[..plaintext.len()], plaintext);
    }
}

/// These bytes were computed with another implementation. They must never change.
#[test]
fn golden_bytes() {
    for (expires_ms, golden) in [
        (
            NOW_MS,
            "ae 01 323032362d31310000000000 000001a3185c5000
             404142434445464748494a4b4c4d4e4f5051525354555657
             726d74 9a4a5312ce312574d4aa4178f6945d02",
        ),
        (
            NEVER,
            "ae 01 323032362d31310000000000 7fffffffffffffff
             404142434445464748494a4b4c4d4e4f5051525354555657
             726d74 b65119d8291e19578885ff548fdae67f",
        ),
    ] {
        let header = Header::new(id("2026-11"), expires_ms);
        let sealed = format::seal(&known_key(), &header, REDIS_KEY, counted(0x40), VALUE);
        assert_eq!(sealed, bytes(golden));
        assert_eq!(sealed.len(), VALUE.len() + OVERHEAD);
        let keyring = Keyring::new(vec![known_key()], WriteForm::Sealed, PlainValues::Refuse);
        assert_eq!(open(&keyring.unwrap(), &bytes(golden)), Ok(VALUE.to_vec()));
    }
}

proptest! {
    #[test]
    fn opens_what_it_seals(
        value in vec(any::<u8>(), 0..5_000),
        redis_key in vec(any::<u8>(), 0..200),
        secret in any::<[u8; 32]>(),
        now_ms in 0..i64::MAX,
        left_ms in 0..i64::MAX,
    ) {
        let key = SealKey::new(id("k"), &secret).unwrap();
        let keyring = Keyring::new(vec![key], WriteForm::Sealed, PlainValues::Refuse).unwrap();
        let sealed = keyring.seal(&redis_key, now_ms.saturating_add(left_ms), &value).into_owned();
        prop_assert_eq!(sealed.len(), value.len() + OVERHEAD);
        prop_assert_ne!(sealed[0], 131);
        prop_assert_eq!(keyring.open(|| &redis_key, now_ms, sealed), Ok(value));
    }

    #[test]
    fn opens_nothing_else(stored in vec(any::<u8>(), 0..200), is_marked in any::<bool>()) {
        let start: &[u8] = if is_marked { b"\xAE\x01a\0\0\0\0\0\0\0\0\0\0\0" } else { b"" };
        let stored = [start, &stored].concat();
        let keyring = keyring(&["a"], WriteForm::Sealed, PlainValues::Refuse);
        prop_assert!(open(&keyring, &stored).is_err());
    }
}

#[test]
fn a_changed_value_does_not_open() {
    let keyring = keyring(&["a", "b"], WriteForm::Sealed, PlainValues::Refuse);
    let sealed = keyring.seal(REDIS_KEY, NEVER, VALUE).into_owned();
    assert_eq!(open(&keyring, &sealed), Ok(VALUE.to_vec()));
    for position in 0..sealed.len() {
        for bit in 0..8 {
            let mut changed = sealed.clone();
            changed[position] ^= 1 << bit;
            let expected = match position {
                0 => Unopened::PlainRefused,
                // The key's id: one of the bits leads to the id of the other key.
                2 if changed[2] == b'b' => Unopened::Tampered,
                2..14 => Unopened::UnknownKey,
                _ => Unopened::Tampered,
            };
            let opened = open(&keyring, &changed);
            assert_eq!(opened, Err(expected), "byte {position}, bit {bit}");
        }
    }
    for length in 1..sealed.len() {
        let cut = open(&keyring, &sealed[..length]);
        assert_eq!(cut, Err(Unopened::Tampered), "{length}");
    }
    let longer = [&sealed, &b"\0"[..]].concat();
    assert_eq!(open(&keyring, &longer), Err(Unopened::Tampered));
    assert_eq!(open(&keyring, b""), Err(Unopened::PlainRefused));
}

#[test]
fn a_value_opens_only_under_its_redis_key() {
    let keyring = sealing(&["a"]);
    let sealed = keyring.seal(REDIS_KEY, NEVER, VALUE).into_owned();
    let moved = keyring.open(|| OTHER_REDIS_KEY, NOW_MS, sealed);
    assert_eq!(moved, Err(Unopened::Tampered));
}

#[test]
fn a_value_opens_only_with_its_key() {
    let sealed = sealing(&["a"]).seal(REDIS_KEY, NEVER, VALUE).into_owned();
    assert_eq!(open(&sealing(&["b", "a"]), &sealed), Ok(VALUE.to_vec()));
    for keyring in [sealing(&["b"]), Keyring::default()] {
        assert_eq!(open(&keyring, &sealed), Err(Unopened::UnknownKey));
    }
    let same_id = vec![key("a", b'b')];
    let keyring = Keyring::new(same_id, WriteForm::Sealed, PlainValues::Accept).unwrap();
    assert_eq!(open(&keyring, &sealed), Err(Unopened::Tampered));
}

#[test]
fn a_value_opens_until_its_expiry() {
    let keyring = sealing(&["a"]);
    for (left_ms, expected) in [
        (1, Ok(VALUE.to_vec())),
        (-MARGIN_MS, Ok(VALUE.to_vec())),
        (-MARGIN_MS - 1, Err(Unopened::Expired)),
    ] {
        let sealed = keyring
            .seal(REDIS_KEY, NOW_MS + left_ms, VALUE)
            .into_owned();
        assert_eq!(open(&keyring, &sealed), expected, "{left_ms}");
    }
    let sealed = keyring.seal(REDIS_KEY, NEVER, VALUE).into_owned();
    let opened = keyring.open(|| REDIS_KEY, i64::MAX, sealed);
    assert_eq!(opened, Ok(VALUE.to_vec()));
}

#[test]
fn plain_values_are_accepted_or_refused() {
    for (plain, expected) in [
        (PlainValues::Accept, Ok(VALUE.to_vec())),
        (PlainValues::Refuse, Err(Unopened::PlainRefused)),
    ] {
        let keyring = keyring(&["a"], WriteForm::Sealed, plain);
        assert_eq!(open(&keyring, VALUE), expected);
    }
}

#[test]
fn writes_plain_values_without_keys_or_if_told_so() {
    let opening = keyring(&["a"], WriteForm::Plain, PlainValues::Accept);
    for keyring in [Keyring::default(), opening] {
        assert_eq!(keyring.seal(REDIS_KEY, NEVER, VALUE), VALUE);
    }
}

#[test]
fn refuses_to_write_what_it_could_not_read() {
    let none = || Vec::new();
    let one = || vec![key("a", 1)];
    assert!(Keyring::new(none(), WriteForm::Sealed, PlainValues::Accept).is_none());
    assert!(Keyring::new(one(), WriteForm::Plain, PlainValues::Refuse).is_none());
    assert!(Keyring::new(none(), WriteForm::Plain, PlainValues::Accept).is_some());
}

#[test]
fn knows_which_values_are_outdated() {
    let by_a = sealing(&["a"]).seal(REDIS_KEY, 5, VALUE).into_owned();
    let opening = keyring(&["a"], WriteForm::Plain, PlainValues::Accept);
    for (keyring, is_current, is_outdated, is_plain_outdated) in [
        (sealing(&["a", "b"]), true, false, true),
        (sealing(&["b", "a"]), false, true, true),
        (opening, true, true, false),
        (Keyring::default(), false, true, false),
    ] {
        let expires_ms = 5;
        let expected = Form::Sealed {
            is_current,
            expires_ms,
        };
        let form = keyring.form_of(&by_a);
        assert_eq!(form, expected, "{keyring:?}");
        assert_eq!(keyring.is_outdated(form), is_outdated, "{keyring:?}");
        assert_eq!(keyring.form_of(VALUE), Form::Plain);
        let is_plain = keyring.is_outdated(Form::Plain);
        assert_eq!(is_plain, is_plain_outdated, "{keyring:?}");
    }
}

#[test]
fn a_million_nonces_differ() {
    let nonces: HashSet<_> = (0..1_000_000).map(|_| random_nonce()).collect();
    assert_eq!(nonces.len(), 1_000_000);
    let keyring = sealing(&["a"]);
    let seal = || keyring.seal(REDIS_KEY, NEVER, VALUE).into_owned();
    assert_ne!(seal(), seal());
}

#[test]
fn ids_have_1_to_12_bytes() {
    for (name, is_valid) in [
        (&b""[..], false),
        (b"a", true),
        (b"123456789012", true),
        (b"1234567890123", false),
        (b"a\0", false),
    ] {
        assert_eq!(KeyId::new(name).is_some(), is_valid, "{name:?}");
    }
    assert_ne!(id("a"), id("ab"));
}

#[test]
fn keys_have_32_bytes() {
    for (length, is_valid) in [(0, false), (31, false), (32, true), (33, false)] {
        let key = SealKey::new(id("a"), &vec![7; length]);
        assert_eq!(key.is_some(), is_valid, "{length}");
    }
}

#[test]
fn shows_no_key() {
    let keyring = sealing(&["a", "b"]);
    let text = "Keyring { keys: 2, writes: Sealed, plain: Accept }";
    assert_eq!(format!("{keyring:?}"), text);
    assert_eq!(format!("{:?}", key("a", 1)), "SealKey { .. }");
}
