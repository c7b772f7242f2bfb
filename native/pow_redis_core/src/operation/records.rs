//! Records as a result.

use crate::etf::VERSION;

/// Records in order. The key of each is the list of its parts after the namespace; keys and values are
/// external terms.
#[derive(Debug, Default)]
pub struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    /// Appends a record. `key` has no version byte, `value` has one.
    pub fn push(&mut self, key: &[u8], value: Vec<u8>) {
        self.0.push(([&[VERSION], key].concat(), value));
    }

    /// The number of records.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no records.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys and values.
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
    fn keeps_external_terms_in_order() {
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
