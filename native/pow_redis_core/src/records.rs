//! Keys with their values, as one run of bytes.

use crate::etf::VERSION;

/// Records, each as: length of the key in four bytes, big-endian; the list of the key's parts
/// without the namespace, an external term; length of the value; the value, an external term.
///
/// One run of bytes costs the VM one binary, whatever the number of records.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
}

impl Records {
    /// Appends a record: the key without version byte, the value with it.
    pub fn push(&mut self, key: &[u8], value: &[u8]) {
        self.length(key.len() + 1);
        self.bytes.push(VERSION);
        self.bytes.extend(key);
        self.length(value.len());
        self.bytes.extend(value);
    }

    /// Redis holds at most 512 MB in a key or value.
    fn length(&mut self, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.bytes.extend(length.to_be_bytes());
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_and_bytes_in_turn() {
        let mut records = Records::default();
        records.push(&[106], &[131, 97, 1]);
        assert_eq!(
            records.as_bytes(),
            [0, 0, 0, 2, 131, 106, 0, 0, 0, 3, 131, 97, 1]
        );
    }
}
