//! Keys with their values.

use crate::etf::VERSION;

/// Records in their order: of each the list of the key's parts without the namespace, and the value,
/// both external terms.
#[derive(Debug, Default)]
pub struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    /// Appends a record: the key without version byte, the value with it.
    pub fn push(&mut self, key: &[u8], value: Vec<u8>) {
        self.0.push(([&[VERSION], key].concat(), value));
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keys and values.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_terms_in_their_order() {
        let mut records = Records::default();
        assert!(records.is_empty());
        records.push(&[106], vec![131, 97, 1]);
        records.push(&[107, 0, 1, 2], vec![131, 97, 2]);
        let expected: [(&[u8], &[u8]); 2] = [
            (&[131, 106], &[131, 97, 1]),
            (&[131, 107, 0, 1, 2], &[131, 97, 2]),
        ];
        assert_eq!(records.iter().collect::<Vec<_>>(), expected);
        assert_eq!(records.len(), 2);
    }
}
