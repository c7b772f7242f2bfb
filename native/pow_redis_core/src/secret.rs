//! Bytes that are wiped from memory.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// A password. Clones share one copy, which is overwritten with zeros when the last of them is dropped.
///
/// `Debug` shows none of it. There is no `PartialEq`, so that nothing compares passwords byte by byte.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<Box<[u8]>>>);

impl Secret {
    /// The bytes. Copies of them are not wiped.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self(Arc::new(Zeroizing::new(bytes.into())))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::marker::PhantomData;

    #[test]
    fn shows_nothing_of_its_bytes() {
        let secret = Secret::from(&b"s3cret"[..]);
        assert_eq!(format!("{secret:?}"), "Secret");
        assert_eq!(secret.as_bytes(), b"s3cret");
    }

    /// Whether a type has `==`.
    struct Comparable<T>(PhantomData<T>);

    impl<T: PartialEq> Comparable<T> {
        const YES: bool = true;
    }

    /// For types to which the constant above does not apply.
    trait OrElse {
        const YES: bool = false;
    }

    impl<T> OrElse for Comparable<T> {}

    #[test]
    fn cannot_be_compared() {
        let comparable = [Comparable::<Vec<u8>>::YES, Comparable::<Secret>::YES];
        assert_eq!(comparable, [true, false]);
    }

    #[test]
    fn clones_share_one_copy() {
        let secret = Secret::from(&b"s3cret"[..]);
        let clone = secret.clone();
        assert_eq!(clone.as_bytes().as_ptr(), secret.as_bytes().as_ptr());
    }
}
